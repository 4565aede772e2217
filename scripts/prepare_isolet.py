#!/usr/bin/env python3
"""Writes manifests for ISOLET 1.3: the published protocol, and five folds for cross-validation."""

import argparse
import sys

from speechmlp.corpora.isolet import prepare_isolet
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that holds isolet1 to isolet5")
    parser.add_argument("--output", metavar="FOLDER", default="data/isolet", help="the corpus's folder (%(default)s)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    summary = prepare_isolet(arguments.source, arguments.output)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
