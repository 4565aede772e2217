"""Archives from the first address that has them: dead, wrong, broken and moved addresses on a real server; zips."""

import hashlib
import http.server
import io
import socket
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from speechmlp.corpora.files import download_archive, unpack
from speechmlp.errors import UserError

NOISE = np.random.default_rng(0).bytes(400_000)
PAGE = b"\n <!DOCTYPE html><html><body>Not found, sorry</body></html>"


def tar_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("an4/etc/x")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # without the time of day
    return buffer.getvalue()


TAR, OTHER, ZIP = tar_of(NOISE), tar_of(NOISE[::-1]), zip_of(**{"an4-master/": b"", "an4-master/etc/x": NOISE})


class Server(http.server.ThreadingHTTPServer):
    requests: list[tuple[str, str | None]]
    broken: bool


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path in ("/moved", "/loop", "/elsewhere"):
            self.send_response(302)
            places = {"/moved": "/zip", "/loop": "/loop", "/elsewhere": "file:///etc/passwd"}
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        bodies = {
            "/tar": TAR,
            "/zip": ZIP,
            "/page": PAGE,
            "/breaks": TAR,
            "/empty": b"",
            "/chunked": TAR,
            "/other": OTHER,
        }
        if self.path not in bodies:
            self.send_error(404)
            return
        body, first = bodies[self.path], int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self.path == "/chunked":  # as GitHub: neither size nor ranges, and it breaks off
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"186a0\r\n" + body[:100_000] + b"\r\n")
            self.close_connection = True
            return
        if first and first >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        self.wfile.write(body[first : 200_000 if self.path == "/breaks" and self.server.broken else None])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as opened:
        opened.requests, opened.broken = [], True
        opened.daemon_threads, opened.block_on_close = True, False
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.fixture
def url(server: Server) -> Callable[[str], str]:
    def of(name: str) -> str:
        if name != "dead":
            return f"http://127.0.0.1:{server.server_port}/{name}"
        with socket.socket() as free:  # nobody listens there
            free.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{free.getsockname()[1]}/an4"

    return of


WRONG = "#sha256=" + "0" * 64
FAILURES = {
    "dead": "cannot be downloaded",
    "absent": "cannot be downloaded (Not Found)",
    "page": "cannot be unpacked as a tar archive (it is a web page); expected a .tar, .tar.gz or .zip",
    "empty": "cannot be unpacked as a tar archive",
    "loop": "cannot be downloaded",
    "elsewhere": "cannot be downloaded",
    "chunked": "cannot be downloaded",
    "breaks": "ended after 200000 of ",
    f"tar{WRONG}": f"expected a file with the SHA-256 {'0' * 64}, found ",
}


@pytest.mark.parametrize("first", FAILURES)
@pytest.mark.parametrize("second", ["tar", "zip", "moved", "zip#sha256=" + hashlib.sha256(ZIP).hexdigest().upper()])
def test_the_second_address_is_taken_if_the_first_fails(
    first: str, second: str, tmp_path: Path, url: Callable[[str], str]
) -> None:
    download_archive([url(first), url(second)], tmp_path / "an4.download", tmp_path / "tree")
    assert next((tmp_path / "tree").rglob("etc/x")).read_bytes() == NOISE
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("first", FAILURES)
def test_one_line_for_each_address_if_all_fail(first: str, tmp_path: Path, url: Callable[[str], str]) -> None:
    addresses = [url(first), url("absent")]
    with pytest.raises(UserError) as caught:
        download_archive(addresses, tmp_path / "an4.download", tmp_path / "tree")
    one, other = caught.value.problems
    assert FAILURES[first] in one
    assert one.startswith(addresses[0].partition("#")[0])
    assert other.startswith(f"{addresses[1]}: cannot be downloaded (Not Found); use a local copy with --source PATH")
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "tree").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {".an4.download.partial"}


def test_half_a_download_is_continued_by_the_next_call(
    tmp_path: Path, server: Server, url: Callable[[str], str]
) -> None:
    addresses = [url("breaks"), url("dead")]
    for _ in range(2):
        with pytest.raises(UserError, match="ended after 200000 of"):
            download_archive(addresses, tmp_path / "an4.download", tmp_path / "tree")
        server.requests.clear()
        if (tmp_path / ".an4.download.partial").stat().st_size == 200_000:
            server.broken = False
            break
    download_archive(addresses, tmp_path / "an4.download", tmp_path / "tree")
    assert server.requests == [("/breaks", "bytes=200000-")]
    assert (tmp_path / "tree/an4/etc/x").read_bytes() == NOISE
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("checksum", [False, True])
def test_half_of_another_file_is_not_continued_for_ever(
    checksum: bool, tmp_path: Path, server: Server, url: Callable[[str], str]
) -> None:
    (tmp_path / ".an4.download.partial").write_bytes(OTHER[:300_000])
    address = url("tar") + (f"#sha256={hashlib.sha256(TAR).hexdigest()}" if checksum else "")
    download_archive([address], tmp_path / "an4.download", tmp_path / "tree")
    assert (tmp_path / "tree/an4/etc/x").read_bytes() == NOISE
    assert server.requests == [("/tar", "bytes=300000-"), ("/tar", None)]


EVIL = {
    "parent": "../outside",
    "deep parent": "a/../../outside",
    "absolute": "/tmp/speechmlp-outside",
    "backslashes": "..\\outside",
    "drive": "C:\\outside",
    "share": "\\\\host\\outside",
}


@pytest.mark.parametrize("kind", EVIL)
def test_zips_write_nothing_outside_their_folder(kind: str, tmp_path: Path) -> None:
    (tmp_path / "evil.zip").write_bytes(zip_of(**{"good": b"x", EVIL[kind]: b"x"}))
    with pytest.raises(UserError, match=r"evil\.zip: cannot be unpacked as a zip archive \(.*outside"):
        unpack(tmp_path / "evil.zip", tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]
    assert not Path("/tmp/speechmlp-outside").exists()


def test_links_in_zips_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "..")
        file.writestr("link/outside", "x")
    unpack(tmp_path / "links.zip", tmp_path / "in")
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "in" / "link").is_symlink()


def test_damaged_encrypted_and_strange_zips_end_in_one_line(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    encrypted = bytearray(zip_of(x=NOISE))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.index(mark) + offset] |= 1
    method = bytearray(zip_of(x=NOISE))
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        method[method.index(mark) + offset] = 77
    broken = [ZIP[:200_000], ZIP[:300] + b"?" * 50 + ZIP[350:], ZIP[:8], bytes(encrypted), bytes(method)]
    broken += [zip_of(a=b"x", **{"a/b": b"y"})]
    for number, data in enumerate(broken):
        (tmp_path / "broken.zip").write_bytes(data)
        with pytest.raises(UserError, match=r"broken\.zip: cannot be unpacked as a zip archive \(") as caught:
            unpack(tmp_path / "broken.zip", tmp_path / f"in{number}")
        assert len(caught.value.problems) == 1
    small = zip_of(a=b"x" * 50, **{"b/c": b"y"})
    for number in range(300):
        changed = bytearray(small)
        changed[int(random.integers(4, len(data)))] = int(random.integers(256))
        (tmp_path / "broken.zip").write_bytes(changed)
        try:
            unpack(tmp_path / "broken.zip", tmp_path / "fuzz" / str(number))
        except UserError as error:
            assert len(error.problems) == 1
