"""A trained model in use: letters, spelled words, and how they are printed."""
