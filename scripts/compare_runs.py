#!/usr/bin/env python3
"""Compares groups of runs that differ in their seed only: a Markdown table with a paired test against the first group.

Runs are grouped by their folder's name without `-seedN`; figures are the best epoch's on the validation split. The
test is the exact sign-flip permutation test on the differences of equal seeds.
"""

import argparse
import itertools
import re
import statistics
import sys
from pathlib import Path

from speechmlp.errors import UserError, run_command
from speechmlp.sweeps.jobs import read_metrics


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; the first one's group is the baseline")
    return parser


def sign_flip_p(differences: list[float]) -> float:
    """Returns the two-sided p value of a mean difference: how often random signs give one as large."""
    observed = abs(sum(differences)) - 1e-12
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    hits = sum(
        abs(sum(sign * value for sign, value in zip(flip, differences, strict=True))) >= observed for flip in flips
    )
    return hits / len(flips)


def read_groups(runs: list[str]) -> dict[str, dict[int, float]]:
    """Returns group -> seed -> best validation accuracy."""
    groups: dict[str, dict[int, float]] = {}
    for run in runs:
        match = re.fullmatch(r"(.*?)-seed(\d+)", Path(run).name)
        if not Path(run).is_dir() or match is None:
            continue
        records = read_metrics(Path(run))
        if not records or not records[-1]["stop"]:
            raise UserError(f"{run}: not finished; run the sweep again")
        groups.setdefault(match[1], {})[int(match[2])] = max(float(record["valid_accuracy"] or 0) for record in records)
    if not groups:
        raise UserError("expected run folders named NAME-seedN, found none")
    return groups


def _compare(arguments: argparse.Namespace) -> int:
    groups = read_groups(arguments.runs)
    baseline = next(iter(groups.values()))
    print("| runs | seeds | validation accuracy | difference | p |\n|---|---|---|---|---|")
    for name, accuracies in groups.items():
        values = list(accuracies.values())
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells = [name, str(len(values)), f"{100 * statistics.mean(values):.2f} ± {100 * spread:.2f} %"]
        differences = [accuracies[seed] - baseline[seed] for seed in sorted(accuracies.keys() & baseline.keys())]
        if accuracies is baseline or not differences:
            cells += ["", ""]
        else:
            cells += [f"{100 * statistics.mean(differences):+.2f}", f"{sign_flip_p(differences):.3f}"]
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _compare, None))
