"""Compares groups of runs that differ in their seed only: `speechmlp compare RUN ...`."""

import argparse
import sys
from collections.abc import Sequence

from speechmlp.errors import run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp compare",
        description="Compare groups of runs that differ in their seed only: a Markdown table with a paired test "
        "against the first group. Runs are grouped by their folder's name without -seedN; accuracies are those of "
        "the best epoch on the validation set. The test is the exact sign-flip permutation test on the differences "
        "of equal seeds; with fewer than 6 of them, no p under 0.05 is possible, and the table says so.",
        epilog="example: speechmlp compare runs/dropout/*",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; the first one's group is the baseline")
    return parser


def _compare(arguments: argparse.Namespace) -> int:
    from speechmlp.sweeps.compare import read_answers, read_groups, render_table

    groups = read_groups(arguments.runs)
    print(render_table(groups, read_answers(arguments.runs)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _compare, argv)


if __name__ == "__main__":
    sys.exit(main())
