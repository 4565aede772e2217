"""Classifiers: front ends, augmentation, layers, inference."""
