"""Files that appear whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from speechmlp.errors import UserError

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the place of `path` when all went well, and vanishes otherwise.

    It is on the disk before it has the name, so that a loss of power leaves the old content or the new.

    Raises:
        UserError: it cannot be written; what was there before is as it was.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch's archive writer turns a full disk into a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(f"{path}: cannot be written: {cause.strerror or cause}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
