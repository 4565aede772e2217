"""The configuration: its schema, and how YAML files become it."""
