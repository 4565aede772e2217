"""Trains a classifier: `python -m speechmlp.train --config FILE [key=value ...]`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechmlp.config_file import load_config, require_together
from speechmlp.environment import import_torchaudio, keep_freed_memory
from speechmlp.errors import UserError, run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m speechmlp.train",
        description="Train a spoken-letter classifier.",
        epilog="example: python -m speechmlp.train --config configs/seed.yaml model.activation=tanh training.epochs=20",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--config", metavar="FILE", help="YAML file of the experiment; the shipped ones are in configs/"
    )
    source.add_argument("--resume", metavar="RUN", help="run folder to go on with, from its last checkpoint")
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="with --config and output.name: go on with the run of that name and settings where there is one",
    )
    parser.add_argument(
        "--each",
        action="append",
        nargs="+",
        metavar="key=value",
        help="train several models at once, one for each --each, with these values beside the others; last on the line",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value, as in training.epochs=20")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    # torch is imported late, so that --help and mistakes in the configuration answer at once.
    if arguments.each:
        return _train_each(arguments)
    config = load_config(arguments.config, arguments.overrides) if arguments.config else None
    if arguments.go_on and config is None:
        raise UserError("--continue: goes with --config and output.name; --resume goes on by itself")
    import_torchaudio()
    keep_freed_memory()
    from speechmlp.distributed import join_processes
    from speechmlp.interruption import Interruption
    from speechmlp.start import Start, go_on, resume
    from speechmlp.training_run import TrainingRun

    with Interruption() as interruption:
        processes = join_processes()
        if config is None:
            start = resume(Path(arguments.resume), arguments.overrides, processes)
        else:
            start = go_on(config, processes) if arguments.go_on else Start(config)
        if start.over is not None and arguments.go_on:
            print(f"Done: {start.run}: {start.over}")
            return 0
        if start.over is not None:
            raise UserError(
                f"{start.run}: training is over ({start.over}); change what ended it to go on, as in training.epochs=N "
                "with a larger N"
            )
        training = TrainingRun(start, Path(arguments.config or "").stem, processes)
        if processes.first:
            training.tell()
        return training.finish(interruption)


def _train_each(arguments: argparse.Namespace) -> int:
    if not arguments.config:
        raise UserError("--each: goes with --config, and with --continue to go on")
    configs = [load_config(arguments.config, [*arguments.overrides, *each]) for each in arguments.each]
    require_together(configs)
    names = [config.output.name for config in configs]
    if None in names or len(set(names)) < len(names):
        raise UserError("--each: expected an output.name=NAME of its own in every one")
    import_torchaudio()
    keep_freed_memory()
    from speechmlp.distributed import join_processes
    from speechmlp.interruption import Interruption
    from speechmlp.many_runs import finish_together
    from speechmlp.runlog import named_run
    from speechmlp.start import go_on

    with Interruption() as interruption:
        processes = join_processes()
        if processes.count > 1:
            raise UserError("--each: expected one process; several share out one model, and this trains many")
        starts = []
        for config in configs:
            if not arguments.go_on and (run := named_run(config)) is not None:
                raise UserError(f"{run}: this run exists; choose another output.name, or go on with --continue")
            start = replace(go_on(config, processes), config=config)  # one device for all, wherever each was begun
            if start.over is None:
                starts.append(start)
            else:
                print(f"Done: {start.run}: {start.over}")
        return finish_together(starts, interruption) if starts else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _train, argv)


if __name__ == "__main__":
    sys.exit(main())
