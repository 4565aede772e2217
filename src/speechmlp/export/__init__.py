"""Models in files for other programs: `python -m speechmlp.export`."""
