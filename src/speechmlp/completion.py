"""Completion in the shell, by argcomplete (extra `completion`): `eval "$(register-python-argcomplete speechmlp)"`.

The shell calls the program with `_ARGCOMPLETE` set; it prints what can come next instead of running a command.
"""

import argparse
from collections.abc import Callable, Iterator

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter

from speechmlp.audio.condition_names import SWEEPS
from speechmlp.config.keys import config_keys
from speechmlp.config.loading import shipped_configs

FILES, FOLDERS, NOTHING = FilesCompleter(), DirectoriesCompleter(), SuppressCompleter()


def _configs(prefix: str, **_: object) -> list[str]:
    return [*shipped_configs(), *FilesCompleter(("yaml", "yml"))(prefix)]


def _overrides(prefix: str, **_: object) -> list[str]:
    """Returns the keys, or the values of one whose values have names."""
    keys = config_keys()
    key, equals, _value = prefix.partition("=")
    return [f"{key}={value}" for value in keys.get(key, [])] if equals else [f"{name}=" for name in keys]


def _conditions(**_: object) -> list[str]:
    return [name for names in SWEEPS.values() for name in names]


BY_NAME: dict[str, Callable[..., object]] = {"config": _configs, "condition": _conditions}
"""Completers of arguments by their name."""
BY_METAVAR: dict[str, Callable[..., object]] = {
    "FILE": FILES,
    "PATH": FILES,
    "INPUT": FILES,
    "FOLDER": FOLDERS,
    "RUN": FOLDERS,
    "key=value": _overrides,
    "KEY=V1,V2,...": _overrides,
}
"""Completers of the other arguments by their metavar; numbers and free names have none."""


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of its subcommands."""
    for action in parser._actions:  # argparse has no public way to list them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def complete(parser: argparse.ArgumentParser) -> None:
    """Prints what can come next on the command line in the environment, and ends the process."""
    for action in _actions(parser):
        if action.choices is None and action.nargs != 0:
            by_metavar = BY_METAVAR.get(str(action.metavar), NOTHING)
            action.completer = BY_NAME.get(action.dest, by_metavar)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)
