#!/usr/bin/env python3
"""Writes the mean of the weights of trained models: runs that started from one model and differ by their seeds.

    scripts/release/average_weights.py runs/results/letters_tuned-seed{0,1,2,3,4,5}/best.pt --output runs/tuned.pt

Such models lie close together, and their mean is often better than one of them (Wortsman et al., 2022, "Model soups").
"""

import argparse
import sys
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path

import torch

from speechmlp.errors import UserError, run_command
from speechmlp.runs.checkpoint import load_checkpoint, save_checkpoint


def _average(arguments: argparse.Namespace) -> int:
    models = [load_checkpoint(path) for path in arguments.checkpoints]
    first = models[0]
    for path, model in zip(arguments.checkpoints, models, strict=True):
        if (model.config.front_end, model.config.model) != (first.config.front_end, first.config.model):
            raise UserError(f"{path}: expected the front_end and model of {arguments.checkpoints[0]}")
    states = [model.model.state_dict() for model in models]
    mean = {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}
    first.model.load_state_dict({name: weight.to(states[0][name].dtype) for name, weight in mean.items()})
    known = [model.trained_on for model in models if model.trained_on is not None]
    trained_on = reduce(or_, known) if len(known) == len(models) else None
    save_checkpoint(Path(arguments.output), first.config, first.model, [], trained_on=trained_on)
    print(f"{arguments.output}: the mean of {len(models)} models")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", metavar="FILE", help="best.pt of each run")
    parser.add_argument("--output", required=True, metavar="FILE", help="the mean; without temperature and threshold")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _average, argv)


if __name__ == "__main__":
    sys.exit(main())
