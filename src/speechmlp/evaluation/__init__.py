"""Scores with intervals over speakers, and how they are reported."""
