"""Trains a grid of overrides and seeds: `speechmlp sweep --config FILE --name NAME [--set KEY=V1,V2,...]`."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.errors import UserError, run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp sweep",
        description="Train a grid of overrides and seeds, several processes at a time. Run it again to go on after an "
        "interruption.",
        epilog="example: speechmlp sweep --config an4_log_mel --name dropout --seeds 5 --set model.dropout=0.2,0.4,0.6",
    )
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="YAML file of the experiment, or the name of a shipped one"
    )
    parser.add_argument("--name", required=True, help="folder in runs/ for the sweep")
    parser.add_argument("--seeds", type=int, metavar="N", default=5, help="of each combination (%(default)s)")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes at a time; one for each GPU or core by default"
    )
    parser.add_argument(
        "--set",
        dest="axes",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="an axis of the grid; several make combinations; separate values that contain commas with ';'",
    )
    return parser


def _sweep(arguments: argparse.Namespace) -> int:
    from speechmlp.sweeps.jobs import finish_all, grid, only_runs_of, visible_gpus

    at_once = arguments.jobs if arguments.jobs is not None else len(visible_gpus()) or os.cpu_count() or 1
    if min(arguments.seeds, at_once) < 1:
        raise UserError("--seeds and --jobs: expected 1 or more")
    if not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", arguments.name):
        raise UserError(f"--name: expected a name of letters, digits, '.', '_' and '-', found {arguments.name!r}")
    folder = Path("runs") / arguments.name
    notes: dict[str, None] = {}  # each once
    jobs = grid(arguments.config, arguments.axes, arguments.seeds, folder, notes.setdefault)
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    with only_runs_of(arguments.config, jobs, folder):
        finish_all(jobs, at_once)
    print(f"{len(jobs)} runs in {folder.as_posix()}; compare them: speechmlp compare {folder.as_posix()}/*")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(
        make_parser(),
        _sweep,
        argv,
        if_memory_is_short="reduce --jobs, training.batch_size or the widths of the model (model.hidden, model.width)",
    )


if __name__ == "__main__":
    sys.exit(main())
