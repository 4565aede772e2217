"""User errors, and how commands report them."""

import argparse
import difflib
import errno
import re
import sys
from collections.abc import Callable, Iterable, Sequence

from speechmlp.streams import OutputLostError, Stream, standard_streams


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
FULL = frozenset((errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)))
"""What the system says if a disk, a quota or the largest size of a file is reached."""
NO_TEMPORARY_FOLDER = "No usable temporary directory"
"""What `tempfile` says if none can be written."""

_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|(can't|cannot) allocate memory|bad.?alloc|_ALLOC_FAILED|can't start new thread|"
    r"storage size calculation overflowed|integer multiplication overflow|overflow when unpacking long",
    re.IGNORECASE,
)
"""What the errors of torch, CUDA, cuBLAS, C++, the system and other libraries say if memory is short."""
_AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?[KMGT]i?B|\d+ bytes)", re.IGNORECASE)


def out_of_memory(error: BaseException | None) -> str | None:
    """Returns one line if the reason of an error is that memory is short, otherwise None."""
    while error is not None:
        if isinstance(error, MemoryError) or (not isinstance(error, UserError) and _NO_MEMORY.search(str(error))):
            of_gpu = " of the GPU" if re.search("cuda|cublas|cudnn", str(error), re.IGNORECASE) else ""
            amount = _AMOUNT.search(str(error))
            return f"out of memory{of_gpu}{f': tried to allocate {amount[1]}' if amount else ''}"
        error = error.__cause__ or error.__context__
    return None


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
    if_memory_is_short: str = "close other programs",
) -> int:
    """Parses the command line, runs the command and returns the exit status, as `exit_status` does."""
    return exit_status(lambda: command(parser.parse_args(argv)), if_memory_is_short)


def exit_status(action: Callable[[], int], if_memory_is_short: str = "close other programs") -> int:
    """Runs an action with safe standard streams (`streams`) and returns the exit status.

    Args:
        action: what to do.
        if_memory_is_short: what the user can do then.

    Returns:
        that of the action, 0 for success; 2 for an error that the user can fix, printed to standard error, one line
        per problem, also if a disk is full; 130 after Ctrl-C; 141 if the action ended early because the reader of
        its output had ended.
    """
    with standard_streams() as output:
        try:
            status = _status(action, output, if_memory_is_short)
        except SystemExit as end:  # after --help
            output.flush()
            if end.code or output.lost is None or output.unread:
                raise
            status = 0
        output.flush()
        if output.lost is None or output.unread or status:
            return status
        return 2  # which the stream has reported


def _status(action: Callable[[], int], output: Stream, if_memory_is_short: str) -> int:
    try:
        return action()
    except UserError as error:
        for problem in error.problems[:MAX_PROBLEMS_SHOWN]:
            _report(problem)
        if (more := len(error.problems) - MAX_PROBLEMS_SHOWN) > 0:
            _report(f"and {more} more problems of this kind")
        return 2
    except InstallationError as error:
        _report(str(error))
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OutputLostError:
        if isinstance(output.lost, BrokenPipeError):
            return 141  # 128 + SIGPIPE, as shells report it
        if output.unread:
            _report("standard output is closed; expected a terminal, file or pipe for the answers")
        return 2
    except Exception as error:
        if (reason := out_of_memory(error)) is not None:
            _report(f"{reason}; {if_memory_is_short}")
        elif isinstance(error, OSError) and (error.errno in FULL or NO_TEMPORARY_FOLDER in str(error)):
            _report(f"{error.filename or 'a file'}: cannot be written: {error.strerror}")
        else:
            raise
        return 2


def _report(problem: str) -> None:
    print(f"error: {' '.join(problem.split())}", file=sys.stderr)
