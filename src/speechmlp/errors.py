"""User errors, and how commands report them."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence


class UserError(Exception):
    """An error that the user can fix: one line per problem, which says where, what is wrong, and what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InstallationError(Exception):
    """The installed packages do not work together: one line with the reason and the command that repairs it.

    It is not a `UserError`, so that code that skips broken recordings does not catch it.
    """


MAX_PROBLEMS_SHOWN = 1000


def unknown(problem: str, name: str, known: Iterable[str]) -> UserError:
    """Returns the error about a name that is not one of the known ones; it suggests the nearest.

    Args:
        problem: how the message begins.
        name: the unknown name.
        known: the names to choose from.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]}? " if near else ""
    return UserError(f"{problem}; {suggestion}expected one of: {', '.join(names)}")


def run_command(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses the command line, runs the command and returns the exit status, as `exit_status` does."""
    return exit_status(lambda: command(parser.parse_args(argv)))


def exit_status(action: Callable[[], int]) -> int:
    """Runs an action and returns the exit status.

    Returns:
        that of the action, 0 for success; 2 for an error that the user can fix, printed to standard error, one line
        per problem; 130 after Ctrl-C.
    """
    try:
        return action()
    except UserError as error:
        for problem in error.problems[:MAX_PROBLEMS_SHOWN]:
            print(f"error: {' '.join(problem.split())}", file=sys.stderr)
        if (more := len(error.problems) - MAX_PROBLEMS_SHOWN) > 0:
            print(f"error: and {more} more problems of this kind", file=sys.stderr)
        return 2
    except InstallationError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has closed it (`| head`): not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
