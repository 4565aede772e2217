"""Interrupted, wrong and killed downloads from a real server; archives that try to write elsewhere."""

import hashlib
import http.server
import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from speechmlp.corpora.files import download, unpack
from speechmlp.errors import UserError
from tests.conftest import PYTHONS

DATA = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `DATA`. /whole does not support ranges; /slow is slow; /breaks and /whole end in the middle once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[tuple[str, int]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        requested = self.headers.get("Range")
        first = int(requested.removeprefix("bytes=").rstrip("-")) if requested and self.path != "/whole" else 0
        if first >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(DATA) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        breaks = self.path in ("/breaks", "/whole") and not self.server.sent
        self.server.sent.append((self.path, first))
        if self.path == "/slow" and not first:
            self.wfile.write(DATA[:1_000_000])
            self.wfile.flush()
            time.sleep(60)
        else:
            self.wfile.write(DATA[first : 1_000_000 if breaks else None])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as opened:
        opened.daemon_threads, opened.block_on_close = True, False
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


@pytest.mark.parametrize(("path", "resumed_at"), [("breaks", 1_000_000), ("whole", 0)])
def test_a_download_continues_where_it_ended(tmp_path: Path, server: Server, path: str, resumed_at: int) -> None:
    with pytest.raises(UserError, match="ended after 1000000 of 3000000 bytes; run the command again to continue"):
        download(url(server, path), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == [".file.partial"]
    download(url(server, path), tmp_path / "file", hashlib.sha256(DATA).hexdigest())
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.sent[-1] == (f"/{path}", resumed_at)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_killed_download_leaves_no_incomplete_file_under_the_final_name(tmp_path: Path, server: Server) -> None:
    program = "import sys; from pathlib import Path; from speechmlp.corpora.files import download; "
    program += "download(sys.argv[1], Path(sys.argv[2]))"
    with subprocess.Popen([sys.executable, "-c", program, url(server, "slow"), tmp_path / "file"]) as process:
        partial = tmp_path / ".file.partial"
        while not (partial.exists() and partial.stat().st_size > 500_000):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".file.partial"]
    download(url(server, "slow"), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_file_with_another_sha256_is_deleted(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=f"expected a file with the SHA-256 {'0' * 64}, found "):
        download(url(server, "ranges"), tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".file.partial").write_bytes(b"x" * len(DATA))  # another file of the same size
    download(url(server, "ranges"), tmp_path / "file", hashlib.sha256(DATA).hexdigest())
    assert (tmp_path / "file").read_bytes() == DATA


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL = {
    "parent": [member("../outside")],
    "deep parent": [member("a/../../outside")],
    "absolute": [member("{outside}")],
    "link out": [member("link", tarfile.SYMTYPE, "{parent}"), member("link/outside")],
    "link up": [member("link", tarfile.SYMTYPE, ".."), member("link/outside")],
    "hard link": [member("copy", tarfile.LNKTYPE, "../secret")],
    "device": [member("zero", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("kind", EVIL)
def test_archives_write_nothing_outside_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, python: str
) -> None:
    if python != "current":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        for one in EVIL[kind]:
            info = member(one.name.format(outside=tmp_path / "outside"), one.type, one.linkname.format(parent=tmp_path))
            tar.addfile(info, io.BytesIO())
    (tmp_path / "in").mkdir()
    try:
        unpack(tmp_path / "evil.tar.gz", tmp_path / "in")
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz", "in", "secret"]
    unpacked = [path for path in (tmp_path / "in").rglob("*") if not path.is_dir()]
    assert all(path.is_file() and path.read_text() == "" for path in unpacked)


def test_damaged_archives_are_reported(tmp_path: Path) -> None:
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        with tarfile.open(tmp_path / "whole", mode) as tar:
            info = tarfile.TarInfo("a")
            info.size = 100_000
            tar.addfile(info, io.BytesIO(DATA[:100_000]))
        data = (tmp_path / "whole").read_bytes()
        for broken in (data[:50_000], data[:300] + b"?" * 50 + data[350:], b"", data[:8]):
            (tmp_path / "broken").write_bytes(broken)
            try:
                unpack(tmp_path / "broken", tmp_path / "in")
            except UserError as error:
                assert str(error).startswith(f"{tmp_path}/broken: cannot be unpacked as a tar archive (")
