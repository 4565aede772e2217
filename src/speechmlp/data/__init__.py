"""Data: from a manifest to batches on a device."""
