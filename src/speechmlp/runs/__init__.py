"""Runs: the run folder, checkpoints and the history of epochs."""
