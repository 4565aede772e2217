"""Training: the loop, its step, losses and optimizers, and one run and its files."""
