"""The web page and its HTTP API: `python -m speechmlp.serve`."""
