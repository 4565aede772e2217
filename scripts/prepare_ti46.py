#!/usr/bin/env python3
"""Writes manifests for TI46's alphabet: leaving speakers out, and the published split."""

import argparse
import sys

from speechmlp.corpora.ti46 import prepare_ti46
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that holds ti_alpha")
    parser.add_argument("--output", metavar="FOLDER", default="data/ti46", help="the corpus's folder (%(default)s)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    summary = prepare_ti46(arguments.source, arguments.output)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
