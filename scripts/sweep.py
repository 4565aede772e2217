#!/usr/bin/env python3
"""Trains a grid of overrides and seeds, processes side by side; run it again to go on after an interruption.

example: scripts/sweep.py --config configs/an4_log_mel.yaml --name dropout --seeds 5 --set model.dropout=0.2,0.4,0.6
"""

import argparse
import itertools
import os
import re
import sys
from pathlib import Path

from speechmlp.config.loading import load_config
from speechmlp.errors import UserError, run_command
from speechmlp.sweeps.jobs import Job, finish_all, visible_gpus


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", required=True)
    parser.add_argument("--name", required=True, help="folder in runs/ for the sweep")
    parser.add_argument("--seeds", type=int, metavar="N", default=5, help="of each combination (%(default)s)")
    jobs = len(visible_gpus()) or os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, metavar="N", default=jobs, help="at a time; a GPU or core each by default (%(default)s)"
    )
    parser.add_argument(
        "--set",
        dest="axes",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="an axis of the grid; several make combinations; separate values that hold commas with ';'",
    )
    return parser


def combinations(axes: list[str]) -> list[tuple[str, ...]]:
    """Returns every combination of overrides of axes like `model.dropout=0.2,0.4`."""
    choices = []
    for axis in axes:
        key, equals, values = axis.partition("=")
        if not equals or not values:
            raise UserError(f"--set: expected KEY=V1,V2,..., found {axis!r}")
        choices.append([f"{key}={value}" for value in values.split(";" if ";" in values else ",")])
    return list(itertools.product(*choices))


def _sweep(arguments: argparse.Namespace) -> int:
    if min(arguments.seeds, arguments.jobs) < 1:
        raise UserError("--seeds and --jobs: expected 1 or more")
    jobs = []
    for overrides in combinations(arguments.axes):
        load_config(arguments.config, overrides)  # mistakes end the sweep before it begins
        name = re.sub(r"[^\w.=+-]+", "_", ",".join(overrides)) or "plain"
        for seed in range(arguments.seeds):
            run = Path("runs") / arguments.name / f"{name.replace('=', '-')}-seed{seed}"
            jobs.append(Job(arguments.config, (*overrides, f"training.seed={seed}"), run))
    finish_all(jobs, arguments.jobs)
    print(f"{len(jobs)} runs in runs/{arguments.name}; compare them: scripts/compare_runs.py runs/{arguments.name}/*")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _sweep, None))
