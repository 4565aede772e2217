#!/usr/bin/env python3
"""Measures how long many small models take: processes side by side, and models that learn together in one process.

Ways take turns, round after round; each trains all models from nothing, with the start of its processes and all files.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from speechmlp.config_file import load_config
from speechmlp.errors import UserError, run_command
from speechmlp.lab import Job, finish_all


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", default="configs/seed.yaml", help="(%(default)s)")
    parser.add_argument("--models", type=int, metavar="N", default=8, help="seeds to train (%(default)s)")
    parser.add_argument("--jobs", type=int, nargs="+", metavar="N", default=[1, 2], help="processes (1 2)")
    parser.add_argument("--stacks", type=int, nargs="+", metavar="N", default=[8], help="models in one (8)")
    parser.add_argument("--rounds", type=int, metavar="N", default=3, help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def _seconds(config: str, overrides: list[str], models: int, at_once: int, stack: int) -> float:
    with tempfile.TemporaryDirectory(prefix="speechmlp-sweep-") as scratch:
        jobs = [
            Job(config, (*overrides, f"training.seed={seed}"), Path(scratch) / f"seed{seed}") for seed in range(models)
        ]
        started = time.perf_counter()
        finish_all(jobs, at_once, stack)
        return time.perf_counter() - started


def _measure(arguments: argparse.Namespace) -> int:
    if min(arguments.models, arguments.rounds, *arguments.jobs, *arguments.stacks) < 1:
        raise UserError("--models, --jobs, --stacks and --rounds: expected 1 or more")
    epochs = load_config(arguments.config, arguments.overrides).training.epochs
    ways = {f"a process each, {jobs} at a time": (jobs, 1) for jobs in arguments.jobs}
    ways |= {f"one process, {stack} models together": (1, stack) for stack in arguments.stacks}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tqdm(desc="trainings", total=arguments.rounds * len(ways), disable=None) as bar:
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                found[name].append(_seconds(arguments.config, arguments.overrides, arguments.models, *way))
                bar.update()
    changes = "".join(f" {override}" for override in arguments.overrides)
    print(f"{Path(arguments.config).name}{changes}: {arguments.models} models, {arguments.rounds} rounds\n")
    print("| | all models, s | least and most | epochs of a model a second | beside the first |\n|---|---|---|---|---|")
    first = statistics.median(next(iter(found.values())))
    for name, each in found.items():
        median = statistics.median(each)
        rate = arguments.models * epochs / median
        print(f"| {name} | {median:.1f} | {min(each):.1f} – {max(each):.1f} | {rate:.1f} | {first / median:.2f} × |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
