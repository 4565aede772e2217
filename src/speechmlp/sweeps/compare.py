"""Groups of runs that differ in their seed only, compared with the first group by a paired test."""

import itertools
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from speechmlp.errors import UserError
from speechmlp.sweeps.jobs import read_metrics


def sign_flip_p(differences: list[float]) -> float:
    """Returns the two-sided p value of a mean difference: how often random signs give one as large."""
    observed = abs(sum(differences)) - 1e-12
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    hits = sum(
        abs(sum(sign * value for sign, value in zip(flip, differences, strict=True))) >= observed for flip in flips
    )
    return hits / len(flips)


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


def render_table(groups: dict[str, dict[int, float]]) -> str:
    """Returns a Markdown table of groups as `read_groups` returns them; the first one is the baseline."""
    baseline = next(iter(groups.values()))
    rows = ["| runs | seeds | validation accuracy | difference | p |", "|---|---|---|---|---|"]
    for name, accuracies in groups.items():
        values = list(accuracies.values())
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells = [name, str(len(values)), f"{100 * statistics.mean(values):.2f} ± {100 * spread:.2f} %"]
        differences = [accuracies[seed] - baseline[seed] for seed in sorted(accuracies.keys() & baseline.keys())]
        if accuracies is baseline or not differences:
            cells += ["", ""]
        else:
            cells += [f"{100 * statistics.mean(differences):+.2f}", f"{sign_flip_p(differences):.3f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
