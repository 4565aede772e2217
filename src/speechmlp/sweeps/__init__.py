"""Sweeps: many training runs in parallel."""
