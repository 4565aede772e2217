"""Groups of runs that differ in their seed only, compared with the first group by a paired test."""

import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from speechmlp.errors import UserError
from speechmlp.runs.folder import BEST
from speechmlp.runs.history import Calibration
from speechmlp.sweeps.jobs import read_metrics

ANSWERS = ("answered right", "answered wrong", "rejected", "rejected though ranked right")
"""Columns of what a user gets of the validation letters."""

SIGNIFICANT = 0.05
"""The p value under which a difference is usually called significant."""
FEWEST = 6
"""Pairs of seeds from which on such a p value is possible."""


def sign_flip_p(differences: list[float]) -> float:
    """Returns the two-sided p value of a mean difference: how often random signs give one as large."""
    observed = abs(sum(differences)) - 1e-12
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    hits = sum(
        abs(sum(sign * value for sign, value in zip(flip, differences, strict=True))) >= observed for flip in flips
    )
    return hits / len(flips)


def smallest_p(pairs: int) -> float:
    """Returns the smallest p value that the sign-flip test can give for so many differences."""
    return min(1.0, 2.0 ** (1 - pairs))


def read_groups(runs: Sequence[str]) -> dict[str, dict[int, float]]:
    """Returns group -> seed -> best validation accuracy.

    Raises:
        UserError: a run is not finished, or there is none.
    """
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


def read_answers(runs: Sequence[str]) -> dict[str, list[Calibration]]:
    """Returns group -> what the thresholds of its runs lead to on the validation set, as far as their best.pt say it.

    Raises:
        UserError: a checkpoint cannot be read.
    """
    from speechmlp.runs.checkpoint import load_checkpoint  # imports torch

    found: dict[str, list[Calibration]] = {}
    for run in runs:
        match = re.fullmatch(r"(.*?)-seed(\d+)", Path(run).name)
        if match is not None and (Path(run) / BEST).exists():
            calibration = load_checkpoint(Path(run) / BEST).calibration
            found.setdefault(match[1], []).extend([calibration] if calibration is not None else [])
    return found


def _answer_cells(found: Sequence[Calibration]) -> list[str]:
    """Returns the cells of `ANSWERS`: means over the runs; dashes without a threshold."""
    if not found:
        return ["–"] * len(ANSWERS)
    parts = [(one.right, one.wrong, one.rejected, one.rejected_right) for one in found]
    return [f"{100 * statistics.mean(values):.2f} %" for values in zip(*parts, strict=True)]


def render_table(groups: dict[str, dict[int, float]], answers: Mapping[str, Sequence[Calibration]] = {}) -> str:
    """Returns a Markdown table of groups as `read_groups` returns them; the first one is the baseline.

    With `answers`, as `read_answers` returns them, it says too what users get.

    If there are too few pairs of seeds for a p value under `SIGNIFICANT`, a line after the table says so.
    """
    baseline = next(iter(groups.values()))
    head = ["runs", "seeds", "validation accuracy", "difference", "p", *(ANSWERS if answers else ())]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    too_few: set[int] = set()
    for name, accuracies in groups.items():
        values = list(accuracies.values())
        spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""  # unknown for a single run
        cells = [name, str(len(values)), f"{100 * statistics.mean(values):.2f}{spread} %"]
        differences = [accuracies[seed] - baseline[seed] for seed in sorted(accuracies.keys() & baseline.keys())]
        if accuracies is baseline or not differences:
            cells += ["", ""]
        else:
            cells += [f"{100 * statistics.mean(differences):+.2f}", f"{sign_flip_p(differences):.3f}"]
            if smallest_p(len(differences)) > SIGNIFICANT:
                too_few.add(len(differences))
        cells += _answer_cells(answers.get(name, ())) if answers else []
        rows.append(f"| {' | '.join(cells)} |")
    if too_few:
        rows.append("")
    for pairs in sorted(too_few):
        rows.append(
            f"With {pairs} pair{'s' if pairs > 1 else ''} of seeds, no p smaller than {smallest_p(pairs):.3f} is "
            f"possible, however large the difference is; a p under {SIGNIFICANT} needs {FEWEST} pairs of seeds or more."
        )
    return "\n".join(rows)
