"""Trains a classifier: `speechmlp train --config FILE [key=value ...]`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from speechmlp.config.command_line import OverridesParser
from speechmlp.config.loading import load_config
from speechmlp.environment import import_torchaudio, keep_freed_memory
from speechmlp.errors import UserError, run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = OverridesParser(
        prog="speechmlp train",
        description="Train a spoken-letter classifier.",
        epilog="example: speechmlp train --config seed model.activation=tanh training.epochs=20",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="YAML file of the experiment, or the name of a shipped one")
    source.add_argument("--resume", metavar="RUN", help="run folder to continue, from its last checkpoint")
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="with --config and output.name: continue the run of that name and settings if there is one",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value, as in training.epochs=20")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    # torch is imported late, so that --help and mistakes in the configuration answer at once.
    note = partial(print, "note:", file=sys.stderr)
    config = load_config(arguments.config, arguments.overrides, note) if arguments.config else None
    if arguments.go_on and config is None:
        raise UserError("--continue: needs --config and output.name; --resume needs neither")
    import_torchaudio()
    keep_freed_memory()
    from speechmlp.interruption import Interruption
    from speechmlp.training.distributed import join_processes
    from speechmlp.training.resume import Start, go_on, resume
    from speechmlp.training.run import fit

    with Interruption() as interruption:
        processes = join_processes()
        if config is None:
            start = resume(Path(arguments.resume), arguments.overrides, processes)
        else:
            start = go_on(config, processes) if arguments.go_on else Start(config)
        if start.over is not None and arguments.go_on:
            print(f"Done: {start.run}: {start.over}")
            return 0
        name = Path(arguments.config or "").stem
        trained = fit(start, name, processes=processes, interruption=interruption)
    return 0 if trained.signal is None else 128 + trained.signal


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(
        make_parser(),
        _train,
        argv,
        if_memory_is_short="reduce training.batch_size or the widths of the model (model.hidden, model.width)",
    )


if __name__ == "__main__":
    sys.exit(main())
