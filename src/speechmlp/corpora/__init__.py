"""Corpora: one module each, from what its publisher ships to a manifest."""
