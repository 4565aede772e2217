"""A grid of overrides and seeds as runs."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from speechmlp.config.loading import load_config
from speechmlp.errors import UserError
from speechmlp.sweeps.jobs import Job


def combinations(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns every combination of overrides of axes like `model.dropout=0.2,0.4`.

    Raises:
        UserError: an axis has no key or no values.
    """
    choices = []
    for axis in axes:
        key, equals, values = axis.partition("=")
        if not equals or not values:
            raise UserError(f"--set: expected KEY=V1,V2,..., found {axis!r}")
        choices.append([f"{key}={value}" for value in values.split(";" if ";" in values else ",")])
    return list(itertools.product(*choices))


def grid(config: str, axes: Sequence[str], seeds: int, folder: Path) -> list[Job]:
    """Returns the runs of every combination and seed.

    Args:
        config: file or name of the configuration.
        axes: as `combinations` takes them.
        seeds: runs of each combination, with the seeds 0 to `seeds` - 1.
        folder: where the run folders go.

    Raises:
        UserError: a combination does not fit the schema.
    """
    jobs = []
    for overrides in combinations(axes):
        load_config(config, overrides)  # mistakes end the sweep before it begins
        name = re.sub(r"[^\w.=+-]+", "_", ",".join(overrides)) or "plain"
        for seed in range(seeds):
            run = folder / f"{name.replace('=', '-')}-seed{seed}"
            jobs.append(Job(config, (*overrides, f"training.seed={seed}"), run))
    return jobs
