"""Files and folders that are written whole or not at all, and files of tensors that are read without running them."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from speechmlp.errors import UserError, out_of_memory

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
    if folder.exists() and not (folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))):
        raise UserError(f"{folder}: exists and is not an earlier result (no {mark} in it); choose another folder")
    with new_folder(folder) as partial:
        yield partial


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder that takes the place of `folder`, whatever it holds, if all goes well.

    Raises:
        UserError: `folder` cannot be written.
    """
    try:
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


def read_tensors(path: Path, expected: str, missing: str) -> Any:
    """Returns the tensors and plain values in a file that torch wrote.

    Nothing in it is run (`weights_only`). Older formats and compressed archives are refused: they can ask for more
    memory than the file is large.

    Args:
        path: the file.
        expected: what it should be, for the message.
        missing: the message if there is no such file.

    Raises:
        UserError: there is no such file, or it is something else, or damaged.
    """
    import torch  # late, because commands import this module before they answer to --help

    try:
        if not path.is_file():  # reading a pipe would wait
            raise FileNotFoundError if not path.exists() else OSError
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            if not stored or sum(part.file_size for part in parts) > path.stat().st_size:
                raise ValueError("compressed")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: {missing}") from error
    except Exception as error:  # pickle, zip and torch errors of many types: they all mean the same to the user
        if out_of_memory(error):
            raise
        raise UserError(f"{path}: cannot be read; {expected}") from error
