"""Command lines that take `key=value` overrides and answer options of other programs with the one that is meant."""

import argparse
import difflib
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from speechmlp.config.keys import key_of_option
from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError, unknown

_OVERRIDE = re.compile(r"([a-z_]+\.)+[a-z_]+=|device=")
_NUMBER = re.compile(r"-\.?\d")
READING = ("manifest", "cache", "margin", "on_error", "skip_limit", "outside", "shared_speakers", "negatives")
"""Keys of `corpus` that say how recordings are read, and not how a model is trained."""


def judge_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the options that choose a second judge.

    Args:
        parser: of a command.
        what: the judge is for, in the help.
    """
    parser.add_argument("--judge", choices=("whisper",), help=what)
    parser.add_argument(
        "--judge-model", metavar="NAME", default="base", help="name at the Hugging Face hub, or a folder (%(default)s)"
    )


class OverridesParser(argparse.ArgumentParser):
    """A parser that answers options of other programs, such as `--epochs 3`, with the override that does the same."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words of a command line; overrides may stand before, between and after options.

        Also after an option with several values, which would take them otherwise.
        """
        words = sys.argv[1:] if args is None else list(args)
        several = {option for action in self._actions for option in action.option_strings if action.nargs in ("*", "+")}
        others: list[str] = []
        moved: list[str] = []
        option = ""
        for word in words:
            option = word if word.startswith("-") else option
            (moved if option in several and _OVERRIDE.match(word) else others).append(word)
        return self.parse_intermixed_args([*moved, *others], namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words of a command line, as `argparse` does.

        Raises:
            UserError: one of them is not an option; the message has the override that is meant.
        """
        words = sys.argv[1:] if args is None else list(args)
        options = [option for action in self._actions for option in action.option_strings]
        problems = []
        for word, following in zip_longest(words, words[1:], fillvalue=""):
            name, equals, value = word.partition("=")
            if (
                name.startswith("-")
                and not _NUMBER.match(name)
                and not any(option.startswith(name) for option in options)
            ):
                value = value if equals else "" if following.startswith("-") or "=" in following else following
                problems.append(_hint(name, value, options))
        if problems:
            raise UserError(*problems)
        return super().parse_known_args(words, namespace)


def _hint(option: str, value: str, options: Sequence[str]) -> str:
    """Returns what to say about an option that the command does not have."""
    near = difflib.get_close_matches(option, options, n=1, cutoff=0.75)
    key = None if near else key_of_option(option.lstrip("-"))
    if key is None:
        expected = f"did you mean {near[0]}?" if near else "settings are given as key=value, as in training.epochs=20"
        return f"command line: {option}: unknown option; {expected}"
    meant = shlex.quote(f"{key}={value}") if value else f"{key}=..."
    return f"command line: {option}: unknown option; did you mean {meant}?"


def override_reading(config: Config, overrides: Sequence[str]) -> Config:
    """Returns the configuration of a trained model with overrides that say how recordings are read, and the device.

    Raises:
        UserError: an override does not fit the schema, or says something else.
    """
    allowed = [*(f"corpus.{key}" for key in READING), "device"]
    for override in overrides:
        key, equals, _ = override.partition("=")
        if equals and key.strip() not in allowed:
            raise unknown(f"command line: {key}: is not about reading recordings with a trained model", key, allowed)
    return override_config(config, overrides)
