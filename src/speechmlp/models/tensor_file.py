"""Reads files of tensors that torch wrote, without running anything in them."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from speechmlp.errors import UserError


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
        raise UserError(f"{path}: cannot be read; {expected}") from error
