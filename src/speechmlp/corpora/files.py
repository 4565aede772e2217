"""Files of corpora: new folders that appear whole, archives, downloads."""

import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from speechmlp.errors import FULL, UserError
from speechmlp.files import partial_path, whole_folder

MANIFEST = "manifest.tsv"
NEGATIVES = "non_letters.tsv"
UNPACKING_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # encrypted; NotImplementedError: another compression
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


def _untar(archive: str | Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:  # Python before 3.10.12 and 3.11.4
            tar.extractall(folder, members=_harmless(tar, folder))


def _unzip(archive: str | Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if not stat.S_ISLNK(member.external_attr >> 16)]
        for member in members:
            parts = re.split(r"[/\\]", member.filename)
            if not parts[0] or ".." in parts or ":" in parts[0]:
                raise ValueError(f"{member.filename} would be written outside the folder")
        file.extractall(folder, members)


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpacks a tar or zip archive; nothing is written outside the folder.

    Raises:
        UserError: the archive is damaged, encrypted or something else, or a member points outside.
    """
    kind, expected = "tar", "a .tar, .tar.gz or .zip"
    try:
        with Path(archive).open("rb") as file:
            first = file.read(512).lstrip()
        kind = "zip" if first.startswith((b"PK\3\4", b"PK\5\6")) else "tar"
        (_unzip if kind == "zip" else _untar)(archive, folder)
    except UNPACKING_ERRORS as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = "it is a web page" if first.startswith(b"<") else error
        raise UserError(f"{archive}: cannot be unpacked as a {kind} archive ({reason}); expected {expected}") from error


def download(
    url: str, target: Path, sha256: str | None = None, instead: str = "use a local copy with --source PATH"
) -> None:
    """Downloads a file, whole or not at all, continuing an interrupted download.

    An incomplete download is kept next to `target`, under a different name.

    Args:
        url: http or https address.
        target: the file.
        sha256: expected SHA-256 of the file, in hexadecimal, if known.
        instead: what to do without the download.

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
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be downloaded ({reason}); {instead}") from error
    finally:
        with suppress(OSError):
            if not partial.stat().st_size:
                partial.unlink()


def download_archive(urls: Sequence[str], nearby: Path, folder: Path) -> None:
    """Downloads an archive from the first of several addresses that has it, and unpacks it.

    An address that cannot be reached, breaks off or sends something else is followed by the next one; what it sent
    before it broke off is kept, and continued by the next call.

    Args:
        urls: http or https addresses; an address may end in `#sha256=` and the SHA-256 of its file, in hexadecimal.
        nearby: where the download is kept; incomplete ones stay there under other names.
        folder: for the content of the archive; it does not exist yet.

    Raises:
        UserError: no address has the archive, one line for each.
    """
    problems: list[str] = []
    targets = [nearby, *(nearby.with_name(f"{nearby.name}-{number}") for number in range(2, len(urls) + 1))]
    for url, target in zip(urls, targets, strict=True):
        try:
            _download_and_unpack(url, target, folder)
        except UserError as error:
            problems += [problem.replace(str(target), url) for problem in error.problems]
        else:
            for other in targets:
                partial_path(other).unlink(missing_ok=True)
            return
    raise UserError(*problems)


def _download_and_unpack(url: str, target: Path, folder: Path) -> None:
    address, _, sha256 = url.partition("#sha256=")
    continued = partial_path(target).exists()
    try:
        download(address, target, sha256.lower() or None)
        unpack(target, folder)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        if not continued or partial_path(target).exists():
            raise
        _download_and_unpack(url, target, folder)  # what it continued was of another file
    finally:
        target.unlink(missing_ok=True)


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
        partial.unlink(missing_ok=True)
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
