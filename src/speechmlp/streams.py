r"""Standard streams that never end a command in the middle.

Characters that the encoding of a terminal or file lacks are written as escapes: `\u0142` for a letter, `\udce9` for a
byte of a file name that is not UTF-8. If a stream cannot be written any more, because its reader has ended (`| head`),
its disk is full or it was closed, the rest of its text is discarded and the command goes on: what it writes to files is
complete. A command that does nothing but print ends early, with `require_output`.
"""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast


class OutputLostError(Exception):
    """Standard output cannot be written, and the command has nothing else to do."""


def printable(text: str, encoding: str = "utf-8") -> str:
    """Returns a text in which an encoding has every character; others are escapes."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Stream:
    """A text stream whose `write` and `flush` do not fail; otherwise the same as the stream in it.

    Attributes:
        lost: why it cannot be written; None while it can.
    """

    def __init__(self, stream: TextIO, lost: OSError | None = None) -> None:
        self._stream = stream
        self.lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, with escapes for what the encoding lacks; whole lines are written at once."""
        try:
            self._stream.write(printable(text, self._stream.encoding or "utf-8"))
            if "\n" in text:
                self._stream.flush()
        except OSError as error:
            self._discard(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Writes what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        if self.lost is None:
            self.lost = error
            if self is sys.stdout and not self.unread:
                print(f"error: standard output: cannot be written: {error.strerror or error}", file=sys.stderr)
        with suppress(OSError):  # otherwise what is buffered would fail again at every flush, and at exit
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)

    @property
    def unread(self) -> bool:
        """Whether nobody wants to read it: its reader has ended, or it was closed from the start."""
        return self.lost is not None and (isinstance(self.lost, BrokenPipeError) or self.lost.errno == errno.EBADF)


def _open_closed_descriptors() -> None:
    """Opens closed standard streams (`>&-`), so that no file that is opened later takes their numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one


@contextmanager
def standard_streams() -> Iterator[Stream]:
    """Makes the standard streams safe, as a context, and yields standard output."""
    if isinstance(sys.stdout, Stream):
        yield sys.stdout
        return
    _open_closed_descriptors()
    with ExitStack() as stack:

        def usable(stream: TextIO | None) -> Stream:
            if stream is not None:
                return Stream(stream)
            closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
            return Stream(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")), closed)

        if sys.stdin is None:
            sys.stdin = stack.enter_context(Path(os.devnull).open(encoding="utf-8"))
            stack.callback(setattr, sys, "stdin", None)
        output, errors = usable(sys.stdout), usable(sys.stderr)
        stack.enter_context(redirect_stdout(cast(TextIO, output)))
        stack.enter_context(redirect_stderr(cast(TextIO, errors)))
        try:
            yield output
        finally:
            output.flush()
            errors.flush()


def require_output() -> None:
    """Checks that standard output can be written.

    Raises:
        OutputLostError: it cannot.
    """
    if isinstance(sys.stdout, Stream) and sys.stdout.lost is not None:
        raise OutputLostError
