#!/usr/bin/env python3
"""Makes the synthetic corpus: letters spoken by eSpeak NG in many accents and voices."""

import argparse
import sys
import time
from collections import Counter

from speechmlp.corpora.synthetic import prepare_synthetic
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", metavar="FOLDER", default="data/synthetic", help="the corpus's folder (%(default)s)"
    )
    parser.add_argument("--speakers", type=int, metavar="N", default=120, help="synthetic speakers (%(default)s)")
    parser.add_argument(
        "--takes", type=int, metavar="N", default=2, help="of each letter by each speaker (%(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides every choice (%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (one a core)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    started = time.perf_counter()
    utterances = prepare_synthetic(
        arguments.output, arguments.speakers, arguments.takes, arguments.seed, arguments.workers
    )
    rate = len(utterances) / (time.perf_counter() - started)
    splits = Counter(utterance.split for utterance in utterances)
    print(f"Synthetic: {len(utterances)} letters of {arguments.speakers} speakers, {rate:.0f} letters a second")
    print(", ".join(f"{split}: {splits[split]}" for split in ("train", "valid", "test")))
    print(f"Manifest: {arguments.output}/manifest.tsv")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
