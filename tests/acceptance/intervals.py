"""Checks by simulation how often the 95 % interval of an accuracy holds the truth; prints a Markdown table.

Speakers are drawn whose own accuracies vary about the truth (a beta distribution), then their letters.

    python -m tests.acceptance.intervals
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.bootstrap import SpeakerBootstrap

SITUATIONS = ((10, 43, 0.9), (10, 43, 0.95), (29, 23, 0.8), (74, 41, 0.95))
"""Speakers, letters of each, true accuracy: AN4's test, other people's recordings, AN4's training speakers."""
SPREAD = 30.0
"""Sum of the beta distribution's parameters: speakers differ by about five points at 90 %."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.intervals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, metavar="N", default=1000, help="of each situation (%(default)s)")
    parser.add_argument(
        "--least", type=float, metavar="FRACTION", default=0.9, help="of intervals, or fail (%(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="(%(default)s)")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    if arguments.trials < 1:
        raise UserError(f"--trials: expected 1 or more, found {arguments.trials}")
    random = np.random.default_rng(arguments.seed)
    print("| speakers | letters of each | true accuracy | intervals that hold it | mean width |")
    print("|---|---|---|---|---|")
    worst = 1.0
    for speakers, letters, truth in SITUATIONS:
        bootstrap = SpeakerBootstrap([str(number // letters) for number in range(speakers * letters)])
        hits, width = 0, 0.0
        for _ in tqdm(range(arguments.trials), f"{speakers} speakers", leave=False, disable=None):
            ability = random.beta(truth * SPREAD, (1 - truth) * SPREAD, speakers)
            right = torch.from_numpy(random.random((speakers, letters)) < ability[:, None]).flatten()
            interval = bootstrap.fraction(right)
            assert interval is not None
            hits += interval.low <= truth <= interval.high
            width += interval.high - interval.low
        fraction, mean = hits / arguments.trials, width / arguments.trials
        print(f"| {speakers} | {letters} | {truth:.0%} | {fraction:.1%} | {100 * mean:.1f} points |")
        worst = min(worst, fraction)
    return 0 if worst >= arguments.least else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
