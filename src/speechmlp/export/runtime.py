"""ONNX Runtime for browsers: two files of a package at the npm registry, pinned by their SHA-256.

They are downloaded once and kept in the user's cache. On one thread, they need no headers of the server.
"""

import hashlib
import tarfile
import zlib
from pathlib import Path

from speechmlp.corpora.files import download
from speechmlp.errors import UserError
from speechmlp.files import whole_file

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
FILES = {
    "onnxruntime.js": (
        "ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "onnxruntime.wasm": (
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
"""Name in an exported folder -> name in the package's `dist`, and SHA-256."""


def _right(content: bytes, name: str) -> bool:
    return hashlib.sha256(content).hexdigest() == FILES[name][1]


def _in_archive(path: Path) -> dict[str, bytes]:
    """Returns the files in an archive of the package.

    Raises:
        UserError: it is damaged, or lacks one, or one is of another version.
    """
    found = {}
    try:
        with tarfile.open(path) as archive:
            for name, (source, _) in FILES.items():
                member = archive.extractfile(f"package/dist/{source}")
                found[name] = member.read() if member is not None else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError, KeyError) as error:
        raise UserError(f"{path}: expected the archive of onnxruntime-web {VERSION}, found another file") from error
    if wrong := [FILES[name][0] for name, content in found.items() if not _right(content, name)]:
        raise UserError(f"{path}: expected onnxruntime-web {VERSION}, found another {' and '.join(wrong)} in it")
    return found


def _in_folder(folder: Path) -> dict[str, bytes]:
    """Returns the files in a folder of the package, or in an exported one.

    Raises:
        UserError: one is missing, or of another version.
    """
    found = {}
    for name, (source, _) in FILES.items():
        places = [folder / name, *(folder / place / source for place in ("", "dist", "package/dist"))]
        paths = [path for path in places if path.is_file()]
        if not paths:
            raise UserError(
                f"{folder}: expected the files of onnxruntime-web {VERSION}, found no {source}; unpack {URL} there"
            )
        found[name] = paths[0].read_bytes()
        if not _right(found[name], name):
            raise UserError(f"{paths[0]}: expected that of onnxruntime-web {VERSION}, found another one")
    return found


def runtime_files(given: Path | None = None) -> dict[str, bytes]:
    """Returns the files of ONNX Runtime by their name in an exported folder.

    Args:
        given: a folder with the package, or its archive; None for the cache, which is filled by a download.

    Raises:
        UserError: they cannot be downloaded or kept, or are of another version.
    """
    if given is not None:
        if not given.exists():
            raise UserError(f"{given}: no such folder; expected the files of onnxruntime-web {VERSION}")
        try:
            return _in_folder(given) if given.is_dir() else _in_archive(given)
        except OSError as error:
            raise UserError(f"{given}: cannot be read: {error.strerror or error}") from error
    import platformdirs

    cache = platformdirs.user_cache_path("speechmlp", appauthor=False) / f"onnxruntime-web-{VERSION}"
    try:
        return _in_folder(cache)
    except (UserError, OSError):  # not there yet, or damaged
        return _downloaded(cache)


def _downloaded(cache: Path) -> dict[str, bytes]:
    """Returns the files from the registry, and keeps them.

    Raises:
        UserError: they cannot be downloaded or kept.
    """
    archive = cache / "package.tgz"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        download(URL, archive, SHA256, instead="name a folder with it: --runtime FOLDER")
        found = _in_archive(archive)
        archive.unlink()
    except OSError as error:
        raise UserError(f"{cache}: cannot be written: {error.strerror or error}; name --runtime FOLDER") from error
    for name, content in found.items():
        with whole_file(cache / name) as file:
            file.write(content)
    return found
