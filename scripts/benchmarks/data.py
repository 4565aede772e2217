#!/usr/bin/env python3
"""Measures how fast batches come from a packed corpus, and what the second start of a run decodes."""

import argparse
import statistics
import sys
import time

import torch

from speechmlp.config.schema import CorpusConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, metavar="N", default=64, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, metavar="N", default=9, help="passes to measure (%(default)s)")
    return parser


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.batch_size < 1 or arguments.epochs < 1:
        raise UserError("--batch-size and --epochs: expected 1 or more")
    corpus = CorpusConfig(manifest=arguments.manifest)
    open_packed(corpus)
    started = time.perf_counter()
    packed = open_packed(corpus)
    opened = time.perf_counter() - started
    letters = SpokenLetters(packed, "train" if packed.utterances[0].split else None).to(torch.device("cpu"))
    rates = []
    for epoch in range(arguments.epochs + 1):
        order = torch.randperm(len(letters), generator=torch.Generator().manual_seed(epoch))
        started = time.perf_counter()
        count = sum(len(batch.labels) for batch in letters.batches(arguments.batch_size, order))
        rates.append(count / (time.perf_counter() - started))
    rates = rates[1:]  # the first pass reads the file into memory
    print(
        f"second start: {'decoded' if packed.decoded else 'nothing decoded'}, corpus open after {1000 * opened:.0f} ms"
    )
    print(
        f"{len(letters)} utterances, batch {arguments.batch_size}, {torch.get_num_threads()} threads: "
        f"median {statistics.median(rates):,.0f} utterances a second (min {min(rates):,.0f}, max {max(rates):,.0f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
