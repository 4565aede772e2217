"""Training: the loop, its step, losses and optimizers, and one run with its files."""
