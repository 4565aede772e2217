"""Checks of a corpus before training: `python -m speechmlp.audit`."""
