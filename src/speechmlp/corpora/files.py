"""Files of corpora: new folders that appear whole, archives, downloads."""

import hashlib
import http.client
import lzma
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from speechmlp.errors import UserError
from speechmlp.files import partial_path, whole_folder

MANIFEST = "manifest.tsv"
NEGATIVES = "non_letters.tsv"
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph", ".m4a", ".mp4", ".aac", ".webm"}
)
CHUNK = 1 << 16


def require_apart(source: str | Path, output: str | Path) -> None:
    """Checks that writing a corpus cannot delete its source.

    Raises:
        UserError: the source is in the output folder.
    """
    if Path(source).resolve().is_relative_to(Path(output).resolve()):
        raise UserError(f"{output}: contains the source and would be replaced; choose another --output")


@contextmanager
def new_corpus(folder: str | Path, mark: str = MANIFEST) -> Iterator[Path]:
    """Yields an empty temporary folder, which replaces `folder` on success and is removed on failure.

    Args:
        folder: replaced if it is empty or an earlier result.
        mark: name of the file that identifies an earlier result.

    Raises:
        UserError: `folder` is something else, or cannot be written.
    """
    with whole_folder(folder, mark) as partial:
        yield partial


def _harmless(tar: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    """Returns the files and folders of an archive, without links and devices.

    Raises:
        ValueError: one would be written outside `folder`.
    """
    root = folder.resolve()
    members = [member for member in tar.getmembers() if member.isfile() or member.isdir()]
    for member in members:
        if not (root / member.name).resolve().is_relative_to(root):
            raise ValueError(f"{member.name} would be written outside the folder")
    return members


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpacks a tar archive; nothing is written outside the folder.

    Raises:
        UserError: the archive is damaged, or a member points outside.
    """
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="data")
            else:  # Python before 3.10.12 and 3.11.4
                tar.extractall(folder, members=_harmless(tar, folder))
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{archive}: cannot be unpacked as a tar archive ({error}); expected a .tar or .tar.gz"
        ) from error


def download(url: str, target: Path, sha256: str | None = None) -> None:
    """Downloads a file, whole or not at all, continuing an interrupted download.

    An incomplete download is kept next to `target`, under a different name.

    Args:
        url: http or https address.
        target: the file.
        sha256: expected SHA-256 of the file, in hexadecimal, if known.

    Raises:
        UserError: the server cannot be reached, refuses or ends early, or the file has another SHA-256.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: expected an http or https address")
    partial = partial_path(target)
    try:
        _fetch(url, partial)
        if sha256 is not None and (found := _sha256(partial)) != sha256:
            partial.unlink()
            raise UserError(f"{url}: expected a file with the SHA-256 {sha256}, found {found}; it was deleted")
        partial.replace(target)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be downloaded ({reason}); use a local copy with --source PATH") from error
    finally:
        with suppress(OSError):
            if not partial.stat().st_size:
                partial.unlink()


def _fetch(url: str, partial: Path) -> None:
    """Downloads the missing part of a file, or all of it if the server does not support ranges."""
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # no data after what we have: the file is complete, or another one
            raise
        error.close()
        partial.unlink()
        done = 0
        response = urllib.request.urlopen(url, timeout=60)
    with response, partial.open("ab" if response.status == 206 else "wb") as file:
        first = file.tell()
        size = int(response.headers.get("Content-Length") or 0)
        total = first + size if size else None
        with tqdm(total=total, initial=first, desc="downloading", unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        written = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and written != total:
        raise UserError(f"{url}: ended after {written} of {total} bytes; run the command again to continue")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
