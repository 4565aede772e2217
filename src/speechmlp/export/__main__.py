"""Runs the command: `python -m speechmlp.export`."""

import sys

from speechmlp.export.command import main

if __name__ == "__main__":
    sys.exit(main())
