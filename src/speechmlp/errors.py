"""User errors, and how commands report them."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence


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


def run_command(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses the command line, runs the command and returns the exit status.

    Returns:
        0 for success; 2 for an error that the user can fix, printed to standard error, one line per problem;
        130 after Ctrl-C.
    """
    try:
        return command(parser.parse_args(argv))
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
