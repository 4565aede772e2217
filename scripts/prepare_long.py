#!/usr/bin/env python3
"""Cuts letters out of long recordings of spelled words, by forced alignment with the transcripts beside them."""

import argparse
import sys

from speechmlp.corpora.folder import require_shares
from speechmlp.corpora.long import prepare_long
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of recordings, as anna/1.wav and 1.txt")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="the corpus's folder")
    parser.add_argument("--spell", action="store_true", help="the transcripts' words are spelled: jam means J A M")
    parser.add_argument("--valid", type=float, default=0.1, help="share of speakers for validation (%(default)s)")
    parser.add_argument("--test", type=float, default=0.1, help="share of speakers for the test (%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (one a core)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    require_shares(arguments.valid, arguments.test)
    source, output = arguments.source, arguments.output
    summary = prepare_long(source, output, arguments.spell, arguments.valid, arguments.test, arguments.workers)
    print(*summary.lines(), f"Manifest: {output}/manifest.tsv", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
