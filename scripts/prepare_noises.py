#!/usr/bin/env python3
"""Makes a corpus of what is to be declined: silence, noises and tones, generated."""

import argparse
import sys
from collections import Counter

from speechmlp.corpora.noises import KINDS, prepare_noises
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="FOLDER", default="data/noises", help="the corpus's folder (%(default)s)")
    parser.add_argument("--sources", type=int, metavar="N", default=150, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides every sample (%(default)s)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    utterances = prepare_noises(arguments.output, arguments.sources, arguments.seed)
    splits = Counter(utterance.split for utterance in utterances)
    print(f"Noises: {len(utterances)} seconds of {len(KINDS)} kinds: {', '.join(KINDS)}")
    print(", ".join(f"{split}: {splits[split]}" for split in ("train", "valid", "test")))
    print(f"Manifest: {arguments.output}/non_letters.tsv")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
