"""Corpora as files: new ones that appear whole, archives, downloads."""

import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from speechmlp.errors import UserError

MANIFEST = "manifest.tsv"
NEGATIVES = "non_letters.tsv"
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph", ".m4a", ".mp4", ".aac", ".webm"}
)
CHUNK = 1 << 16


@contextmanager
def new_corpus(folder: str | Path, mark: str = MANIFEST) -> Iterator[Path]:
    """Gives an empty folder beside `folder` that takes its place when all went well, and vanishes otherwise.

    Args:
        folder: replaced where it is empty or holds an earlier one.
        mark: the file by which an earlier one is known.

    Raises:
        UserError: `folder` holds something else, or cannot be written.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if folder.exists() and not (folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))):
            raise UserError(f"{folder}: exists and is not an earlier one (it has no {mark}); name another --output")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _harmless(tar: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    """Returns the files and folders of an archive, without links and devices.

    Raises:
        ValueError: one would be written outside of `folder`.
    """
    root = folder.resolve()
    members = [member for member in tar.getmembers() if member.isfile() or member.isdir()]
    for member in members:
        if not (root / member.name).resolve().is_relative_to(root):
            raise ValueError(f"{member.name} would be written outside of it")
    return members


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpacks a tar archive; nothing in it can be written outside the folder.

    Raises:
        UserError: the archive is damaged, or a member points outside.
    """
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="data")
            else:  # Python before 3.10.12 and 3.11.4
                tar.extractall(folder, members=_harmless(tar, folder))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{archive}: cannot be unpacked as a tar archive ({error}); expected a .tar or .tar.gz"
        ) from error


def download(url: str, target: Path) -> None:
    """Downloads a file, whole or not at all.

    Raises:
        UserError: the server cannot be reached, refuses, or ends early.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: expected an http or https address")
    partial = target.with_name(f"{target.name}.partial")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as file:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, desc="downloading", unit="B", unit_scale=True, disable=None) as bar:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            written = file.tell()
        if size and written != size:
            raise UserError(f"{url}: ended after {written} of {size} bytes; run the command again")
        partial.replace(target)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be downloaded ({reason}); --source PATH takes a copy you have") from error
    finally:
        partial.unlink(missing_ok=True)
