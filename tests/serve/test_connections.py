"""Attackers and clumsy clients: whatever they send, the server answers in JSON or hangs up, and serves the others."""

import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serve.conftest import Server, post, serving

IMPATIENT = """
import sys
from speechmlp.serve import command, connections, uploads
connections.HEAD_SECONDS, uploads.UPLOAD_SECONDS, connections.MAX_CONNECTIONS = 1.5, 1.5, 20
sys.exit(command.main())
"""
"""The command with small limits, so that a test can wait for them."""


@pytest.fixture(scope="module")
def impatient(spoken_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("impatient")
    arguments = ("--checkpoint", spoken_checkpoint, "--device", "cpu")
    with serving(folder, *arguments, command=[sys.executable, "-c", IMPATIENT]) as started:
        yield started
    assert (started.errors, started.process.returncode) == ("interrupted\n", 130)
    assert list(folder.glob("speechmlp-*")) == []


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=30)


def talk(server: Server, data: bytes, end: bool = False) -> bytes:
    """Sends bytes, and returns all that is answered until the server hangs up."""
    answer = b""
    with connect(server) as connection:
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(1 << 16):
                answer += block
        except ConnectionError:  # data that the server did not read makes the kernel reset the connection
            pass
    return answer


def alive(server: Server, letters: dict[str, Path]) -> bool:
    return post(f"{server.url}api/recognize", letters["O"].read_bytes())[1]["letter"] == "O"  # type: ignore[no-any-return]


HEAD = b"POST /api/recognize HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"hello\r\n\r\n", 400, "valid HTTP/1.1"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n", 400, "valid HTTP/1.1"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "Content-Length"),
        (HEAD + b"Content-Length: 1e3\r\n\r\n", 400, "Content-Length"),
        (HEAD + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n", 400, "Content-Length"),
        (HEAD + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n", 413, "16 MB"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400, "valid HTTP/1.1"),
        (HEAD + b"X: " + b"a" * (1 << 20), 431, "valid HTTP/1.1"),
        (b"GET /" + b"a" * (1 << 20), 431, "valid HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "Host: expected 127.0.0.1, localhost, [::1], found None"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", 400, "valid HTTP/1.1"),
    ],
    ids=range(13),
)
def test_what_is_not_http_is_refused_in_json(
    data: bytes, status: int, text: str, server: Server, letters: dict[str, Path]
) -> None:
    head, _, body = talk(server, data).partition(b"\r\n\r\n")
    if head or len(data) < 1 << 16:  # of what was sent after the answer, the kernel may reset the connection
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
        assert b"content-type: application/json" in head.lower()
        assert text in json.JSONDecoder().raw_decode(body.decode())[0]["error"]
    assert alive(server, letters)


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(server: Server, letters: dict[str, Path]) -> None:
    wave = letters["O"].read_bytes()
    length = f"Content-Length: {len(wave)}\r\n\r\n".encode()
    for data in (
        b"",
        b"P",
        HEAD,
        HEAD + length + wave[:1000],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + wave[:500],
        HEAD + b"Content-Type: multipart/form-data; boundary=x\r\n" + length + b"--x\r\nContent-Disposition: form",
        HEAD + b"Expect: 100-continue\r\n" + length,
        HEAD + length + wave,  # which does not wait for the answer
    ):
        for _ in range(3):
            with connect(server) as connection:
                connection.sendall(data)
    for data in (HEAD + length + wave[:1000], HEAD):
        assert talk(server, data, end=True) in (b"",) or b"400" in talk(server, data, end=True)
    assert alive(server, letters)


def test_pipelined_requests_are_answered_in_order(server: Server, letters: dict[str, Path]) -> None:
    wave = letters["O"].read_bytes()
    sent = HEAD + f"Content-Length: {len(wave)}\r\n\r\n".encode() + wave
    sent += b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = talk(server, sent)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'"letter":"O"') < answer.index(b'"max_bytes"')


def test_slow_clients_are_dropped(impatient: Server, letters: dict[str, Path]) -> None:
    started = time.monotonic()
    assert talk(impatient, b"") == b""  # says nothing
    assert 1 < time.monotonic() - started < 10
    slow = HEAD + b"Content-Length: 1000\r\n\r\n"
    head, _, body = talk(impatient, slow).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert "longer than 1.5 s" in json.loads(body)["error"]
    with connect(impatient) as connection:  # a byte of the head at a time
        for byte in HEAD * 10:
            try:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
            except ConnectionError:
                break
        else:
            raise AssertionError("the head may take for ever")
    with connect(impatient) as connection:  # is answered, and then sends the body for ever
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 404")
        for _ in range(200):
            try:
                connection.sendall(b"x")
                time.sleep(0.05)
            except ConnectionError:
                break
        else:
            raise AssertionError("the body may take for ever")
    assert alive(impatient, letters)


def test_idle_connections_do_not_lock_others_out(impatient: Server, letters: dict[str, Path]) -> None:
    opened = [connect(impatient) for _ in range(20)]
    try:
        head, _, body = talk(impatient, b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert json.loads(body)["error"] == "more than 20 connections; try again later"
        time.sleep(2.5)
        assert alive(impatient, letters)  # the idle ones are gone
    finally:
        for connection in opened:
            connection.close()


def test_a_keep_alive_connection_is_used_again(impatient: Server, letters: dict[str, Path]) -> None:
    connection = http.client.HTTPConnection(urlsplit(impatient.url).netloc, timeout=30)
    connection.connect()
    connection.auto_open = 0
    for _ in range(5):
        connection.request("POST", "/api/recognize", letters["O"].read_bytes())
        assert json.load(connection.getresponse())["letter"] == "O"
        time.sleep(0.6)  # together longer than a request may take
    connection.close()


def test_large_uploads_at_once_are_answered(server: Server, letters: dict[str, Path]) -> None:
    bodies = [letters["O"].read_bytes(), bytes(15 << 20), letters["O"].read_bytes(), bytes(20 << 20)] * 4
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda body: post(f"{server.url}api/recognize", body)[0], bodies))
    assert answers == [200, 422, 200, 413] * 4
    assert list(server.folder.glob("speechmlp-*")) == []


def test_https_to_the_plain_port_ends_at_once(server: Server, letters: dict[str, Path]) -> None:
    context = ssl.create_default_context()
    with connect(server) as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(connection, server_hostname="localhost")
    assert alive(server, letters)
