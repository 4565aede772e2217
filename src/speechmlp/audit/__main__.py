"""Runs the command: `python -m speechmlp.audit`."""

import sys

from speechmlp.audit.command import main

if __name__ == "__main__":
    sys.exit(main())
