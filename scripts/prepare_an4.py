#!/usr/bin/env python3
"""Cuts the letters out of CMU AN4 by forced alignment and writes audio and manifest."""

import argparse
import sys

from speechmlp.corpora.an4 import URL, prepare_an4
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", metavar="PATH", help="AN4 folder or tar archive; downloaded where it is not given")
    parser.add_argument("--url", default=URL, help="archive to download (%(default)s)")
    parser.add_argument("--output", metavar="FOLDER", default="data/an4", help="the corpus's folder (%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (one a core)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    summary = prepare_an4(arguments.source, arguments.url, arguments.output, arguments.workers)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
