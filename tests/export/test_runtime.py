"""ONNX Runtime for browsers: downloaded once, from a folder or an archive, and nothing of another version."""

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from speechmlp.export import runtime
from speechmlp.export.__main__ import main

CONTENT = {name: f"the true {name}".encode() * 1000 for name in runtime.FILES}


def archive(contents: dict[str, bytes]) -> bytes:
    """Returns the archive of a package."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/dist/{runtime.FILES[name][0]}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


class Registry:
    """What a registry sends, and how often it was asked."""

    def __init__(self) -> None:
        self.content, self.asked = archive(CONTENT), 0
        self.length: int | None = None
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(registry.length or len(registry.content)))
                self.end_headers()
                self.wfile.write(registry.content)

            def log_message(self, *values: object) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with a small package of the pinned version, and an empty cache."""
    started = Registry()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(runtime, "URL", f"http://127.0.0.1:{started.server.server_port}/package.tgz")
    monkeypatch.setattr(runtime, "SHA256", hashlib.sha256(started.content).hexdigest())
    monkeypatch.setattr(runtime, "FILES", {name: (runtime.FILES[name][0], digests[name]) for name in runtime.FILES})
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    yield started
    started.server.shutdown()
    started.server.server_close()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_it_is_downloaded_once_and_again_if_damaged(registry: Registry, tmp_path: Path) -> None:
    assert runtime.runtime_files() == runtime.runtime_files() == CONTENT
    assert registry.asked == 1
    assert cached(tmp_path) == sorted(CONTENT)
    next((tmp_path / "cache").rglob("*.wasm")).write_bytes(b"half of it")
    assert runtime.runtime_files() == CONTENT
    assert registry.asked == 2


def test_a_folder_or_an_archive_needs_no_network(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "given.tgz").write_bytes(registry.content)
    with tarfile.open(tmp_path / "given.tgz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    exported = tmp_path / "exported"
    exported.mkdir()
    for name, content in CONTENT.items():
        (exported / name).write_bytes(content)
    for given in ("given.tgz", "unpacked", "unpacked/package", "unpacked/package/dist", "exported"):
        assert runtime.runtime_files(tmp_path / given) == CONTENT
    assert registry.asked == 0
    assert not (tmp_path / "cache").exists()


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Runs the command and returns its message, one line."""
    assert main(["--format", "web", *options]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "downloading" not in one]
    assert not Path("letters-web").exists()
    assert list(Path.cwd().glob(".*partial")) == []
    return line


def test_downloads_that_fail_leave_nothing(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = registry.content
    registry.content = archive(dict.fromkeys(CONTENT, b"another"))
    assert "expected a file with the SHA-256" in refused(capsys)
    assert cached(tmp_path) == []
    registry.content, registry.length = good[:100], len(good)
    assert "ended after 100 of" in refused(capsys)
    assert [name for name in cached(tmp_path) if not name.endswith(".partial")] == []
    registry.content, registry.length = good, None
    assert runtime.runtime_files() == CONTENT  # the half is not used: this registry sends no ranges
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "other")
    monkeypatch.setattr(runtime, "URL", "http://127.0.0.1:1/package.tgz")
    assert "name a folder with it: --runtime FOLDER" in refused(capsys)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "file")
    assert "cannot be written" in refused(capsys)


def test_other_folders_and_archives_are_refused(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dict.fromkeys(CONTENT, b"another version")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for name, content in other.items():
        (tmp_path / "other" / name).write_bytes(content)
    (tmp_path / "other.tgz").write_bytes(archive(other))
    (tmp_path / "half.tgz").write_bytes(registry.content[:200])
    (tmp_path / "few.tgz").write_bytes(archive({"onnxruntime.js": CONTENT["onnxruntime.js"]}))
    (tmp_path / "notes.txt").write_text("dear diary")
    expected = {
        "absent": "absent: no such folder",
        "empty": "found no ort.wasm.bundle.min.mjs; unpack http",
        "other": "onnxruntime.js: expected that of onnxruntime-web",
        "other.tgz": "found another ort.wasm.bundle.min.mjs and ort-wasm-simd-threaded.wasm in it",
        "half.tgz": "half.tgz: expected the archive of onnxruntime-web",
        "few.tgz": "few.tgz: expected the archive of onnxruntime-web",
        "notes.txt": "notes.txt: expected the archive of onnxruntime-web",
    }
    for given, message in expected.items():
        assert message in refused(capsys, "--runtime", given)
    assert registry.asked == 0


def test_a_folder_of_somebody_else_is_not_replaced(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "mine: exists and is not an earlier result" in refused(capsys, "--output", "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert "file: exists and is not an earlier result" in _with_file(tmp_path, capsys)
    for options in (["--float32"], ["--runtime", "folder"]):
        assert main(["--format", "int8", *options]) == 2
        assert f"{options[0]}: only with --format web" in capsys.readouterr().err


def _with_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (tmp_path / "file").write_text("mine")
    return refused(capsys, "--output", "file")
