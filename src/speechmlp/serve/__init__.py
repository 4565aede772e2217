"""The web page and its interface: `python -m speechmlp.serve`."""
