"""Files and folders that are written whole or not at all, even if writing is interrupted."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from speechmlp.errors import UserError

PARTIAL = ".partial"
"""Suffix of a file that is being written."""


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Returns the temporary path of a file or folder while it is written."""
    return path.with_name(f".{path.name}{PARTIAL}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path for a file or folder, which replaces `path` on success and is removed on failure.

    The name is fixed, so that the leftovers of a killed process are removed by the next one.

    Raises:
        OSError: it cannot be renamed; an earlier file or folder is unchanged.
    """
    partial = partial_path(path)
    _remove(partial)
    try:
        yield partial
        if partial.is_dir() and path.is_dir():
            shutil.rmtree(path)  # folders cannot be replaced
        partial.replace(path)
        _flush_folder(path.parent)
    finally:
        _remove(partial)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a temporary file, which replaces `path` on success and is removed on failure.

    It is flushed to disk before it is renamed, so that a power failure leaves either the old or the new content.

    Raises:
        UserError: the file cannot be written; an earlier file is unchanged.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # torch's archive writer raises a RuntimeError if the disk is full.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(f"{path}: cannot be written: {cause.strerror or cause}") from error


@contextmanager
def whole_folder(folder: str | Path, mark: str) -> Iterator[Path]:
    """Gives an empty folder that takes the place of `folder` if all goes well, and vanishes otherwise.

    Args:
        folder: replaced if it is empty or holds an earlier one.
        mark: the file by which an earlier one is known.

    Raises:
        UserError: `folder` holds something else, or cannot be written.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not (folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))):
            raise UserError(f"{folder}: exists and is not an earlier result (no {mark} in it); choose another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
