# PYTHON_ARGCOMPLETE_OK
"""The program `speechmlp`: the commands by their names. `python -m speechmlp` is the same."""

import argparse
import os
import sys
from collections.abc import Container, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from speechmlp import __version__
from speechmlp.errors import exit_status, unknown


class Command(NamedTuple):
    """A command: what it is for, and the module with its `make_parser` and `main`."""

    purpose: str
    module: str


COMMANDS = {
    "prepare": Command("prepare a corpus", "prepare"),
    "train": Command("train a classifier from a configuration", "train"),
    "adapt": Command("adapt a trained classifier to a voice", "adapt"),
    "evaluate": Command("report the accuracy of a trained classifier", "evaluate"),
    "card": Command("write a model card", "card"),
    "predict": Command("recognise the letters in recordings", "predict"),
    "serve": Command("open a page where you say a letter", "serve.command"),
    "record": Command("record letters from the microphone", "record"),
    "audit": Command("check a corpus before training", "audit.__main__"),
    "sweep": Command("train a grid of settings and seeds", "sweep"),
    "compare": Command("compare the runs of a sweep", "compare"),
    "calibrate": Command("set the temperature of a trained classifier", "calibrate"),
    "augment-sheet": Command("show and play augmented training letters", "augment_sheet"),
    "export": Command("write a model for ONNX Runtime", "export.__main__"),
}


def make_parser(whole: Container[str] = ()) -> argparse.ArgumentParser:
    """Returns the parser of the program.

    Args:
        whole: names of commands whose arguments it knows too; of the others it knows the name.
    """
    parser = argparse.ArgumentParser(
        prog="speechmlp",
        description="Train, evaluate and use multilayer perceptrons that recognise spoken letters.",
        epilog="Each explains itself: speechmlp NAME --help. Completion in the shell, with the extra completion: "
        'eval "$(register-python-argcomplete speechmlp)"',
        formatter_class=partial(argparse.HelpFormatter, max_help_position=24),
    )
    parser.add_argument("--version", action="version", version=f"speechmlp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="NAME", required=True)
    for name, command in COMMANDS.items():
        parents = [_module(command).make_parser()] if name in whole else []
        commands.add_parser(name, help=command.purpose, parents=parents, add_help=not parents)
    return parser


def _module(command: Command) -> Any:
    return import_module(f"speechmlp.{command.module}")


def _run(words: Sequence[str]) -> int:
    if not words or words[0].startswith("-"):
        make_parser().parse_args(words or ["--help"])  # which ends the program
        return 2
    if words[0] not in COMMANDS:
        raise unknown(f"unknown command {words[0]!r}", words[0], COMMANDS)
    status: int = _module(COMMANDS[words[0]]).main(words[1:])
    return status


def _complete() -> int:
    try:
        from speechmlp.completion import complete
    except ImportError:  # the extra is not installed
        return 1
    complete(make_parser(os.environ.get("COMP_LINE", "").split()))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first word names and returns its exit status."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what can come next
        return _complete()
    return exit_status(lambda: _run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
