"""From a manifest to batches on a device."""
