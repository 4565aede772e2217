"""Checks of a corpus before training: `speechmlp audit`."""
