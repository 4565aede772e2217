"""Runs the command: `python -m speechmlp.serve`."""

import sys

from speechmlp.serve.command import main

if __name__ == "__main__":
    sys.exit(main())
