"""The API with the requests that clients really send: forms, bodies of any type, spelled words, mistakes."""

import base64
import binascii
import http.client
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from speechmlp.recognition.speller import load_speller
from speechmlp.serve.uploads import read_form
from tests.serve.conftest import Server, post, serving

Form = list[tuple[str, str | None, bytes]]
"""Field, file name and content of each part."""
BOUNDARY = "----aBoundary7MA4YWxkTrZu0gW"


def form(parts: Form, boundary: str = BOUNDARY) -> bytes:
    """Returns a form as browsers and curl send it."""
    body = b""
    for field, name, content in parts:
        named = "" if name is None else f'; filename="{name}"\r\nContent-Type: application/octet-stream'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def encoded(content: bytes, encoding: str) -> bytes:
    """Returns a form of one file whose content has a transfer encoding."""
    header = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return form([("file", "a.wav", content)]).replace(b"\r\n\r\n", b"\r\n" + header, 1)


def request(
    server: Server, path: str, body: bytes | Iterator[bytes] | None = None, method: str = "POST", **headers: str
) -> tuple[int, http.client.HTTPMessage, Any]:
    """Sends a request with exactly these headers, chunked if the body is an iterator; returns the answer."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    chunked = body is not None and not isinstance(body, bytes)
    length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
    chunks = {"Transfer-Encoding": "chunked"} if chunked else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in {**length, **chunks, **named}.items():
        connection.putheader(name, value)
    connection.endheaders(body, encode_chunked=chunked)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, json.loads(content) if content else None


def post_form(server: Server, path: str, parts: Form, **options: str) -> tuple[int, Any]:
    """Posts a form; returns status and values."""
    kind = f'multipart/form-data; boundary="{BOUNDARY}"'
    status, _, found = request(server, path, form(parts), Content_Type=kind, **options)
    return status, found


@pytest.mark.parametrize("field", ["file", "audio", "data", "files[]", "audio_file", "Ton", "", "\N{SPEAKER}"])
def test_a_form_may_name_its_field_as_it_likes(field: str, server: Server, letters: dict[str, Path]) -> None:
    parts: Form = [("model", None, b"whisper-1"), (field, "C:\\fakepath\\ö.wav", letters["O"].read_bytes())]
    status, found = post_form(server, "/api/recognize", parts)
    assert (status, found["letter"], found["path"]) == (200, "O", "ö.wav")


def test_a_form_is_read_however_it_is_sent(server: Server, letters: dict[str, Path]) -> None:
    wave = letters["O"].read_bytes()
    kind = f"Multipart/Form-Data; charset=utf-8; boundary={BOUNDARY}"
    body = form([("waveform", None, b"7"), ("file", "o.wav", wave)])
    pieces = (body[first : first + 1000] for first in range(0, len(body), 1000))
    status, _, found = request(server, "/api/recognize", pieces, Content_Type=kind)
    assert (status, found["letter"], len(found["waveform"])) == (200, "O", 7)
    # Without a file name, as from a stream in Node; the texts beside it are not taken for recordings.
    status, found = post_form(server, "/api/recognize", [("note", None, "für O".encode()), ("data", None, wave)])
    assert (status, found["letter"], found["path"]) == (200, "O", "data")
    # The query wins, and names a file without a name.
    status, found = post_form(
        server, "/api/recognize?waveform=3&name=x.wav", [("waveform", None, b"9"), ("", None, wave)]
    )
    assert (status, len(found["waveform"])) == (200, 3)
    # The end of a line and the boundary's beginning occur in recordings too.
    samples = np.frombuffer(b"\r\n--" + BOUNDARY.encode()[:-2] + b"\r\n\r\n" * 20, np.int16)
    path = server.folder / "lines.wav"
    soundfile.write(path, np.tile(samples, 100), 16_000, subtype="PCM_16")
    status, found = post_form(server, "/api/recognize", [("file", "lines.wav", path.read_bytes())])
    assert (status, found["seconds"]) == (200, round(soundfile.info(path).frames / 16_000, 4))


@pytest.mark.parametrize("more", [0, 1, 2, 3])
@pytest.mark.parametrize("encoding", ["base64", "BASE64 ", "quoted-printable", "binary", "7bit"])
def test_files_of_a_form_are_decoded(encoding: str, more: int, server: Server, tmp_path: Path) -> None:
    samples = np.random.default_rng(more).normal(0, 0.1, 160_000)
    soundfile.write(tmp_path / "noise.wav", samples, 16_000)
    wave = (tmp_path / "noise.wav").read_bytes() + bytes(more)
    content = wave
    if encoding.lower().startswith("base64"):
        content = base64.encodebytes(wave).replace(b"\n", b"\r\n")  # lines of 76 characters
    elif encoding == "quoted-printable":
        content = binascii.b2a_qp(wave, istext=False).replace(b"=\n", b"=\r\n")
    path = tmp_path / "body"
    path.write_bytes(encoded(content, encoding))
    ((upload,), _) = read_form(path, BOUNDARY.encode())
    assert upload.path.read_bytes() == wave
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    status, _, found = request(server, "/api/recognize", path.read_bytes(), Content_Type=kind)
    assert (status, found["seconds"]) == (200, 10.0)


@pytest.mark.slow
def test_the_answer_arrives_although_the_body_comes_later(server: Server) -> None:
    host = urlsplit(server.url)
    for path, kind in (("words", "text/plain"), ("live", "application/json"), ("recognize", "application/json")):
        for number in range(200):
            with socket.create_connection((host.hostname, host.port)) as connection:
                head = f"POST /api/{path} HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: {kind}\r\n"
                connection.sendall(f"{head}Content-Length: 2000\r\n\r\n".encode())
                time.sleep(number / 50_000)  # the server is refusing it
                connection.sendall(bytes(2000))
                answer = b"".join(iter(partial(connection.recv, 1 << 16), b""))
            assert answer.startswith(b"HTTP/1.1 415"), answer
            assert b"Content-Type: expected " in answer


def test_all_files_of_a_form_are_answered(server: Server, letters: dict[str, Path]) -> None:
    parts: Form = [("file", f"{letter}.wav", letters[letter].read_bytes()) for letter in "OX"]
    status, found = post_form(server, "/api/recognize", [parts[0], ("file", "notes.txt", b"dear diary"), parts[1]])
    assert (status, list(found)) == (200, ["results"])
    first, second, third = found["results"]
    assert [(one["path"], one["letter"]) for one in (first, third)] == [("O.wav", "O"), ("X.wav", "X")]
    assert list(second) == ["path", "error"]
    assert second["error"].startswith("notes.txt: cannot be decoded as audio")
    status, found = post_form(server, "/api/recognize", [("a", "a.txt", b"dear"), ("b", "b.txt", b"diary")])
    assert (status, list(found)) == (422, ["error"])
    assert "a.txt: cannot" in found["error"]
    assert "b.txt: cannot" in found["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        (form([("file", "", b"")]), BOUNDARY, 400, "the form has no recording"),
        (form([("file", None, b"a.wav"), ("x", None, b"1")]), BOUNDARY, 400, "found these fields: 'file', 'x'"),
        (form([]), BOUNDARY, 400, "the form "),
        (form([("file", "a.wav", b"RIFF")])[:-10], BOUNDARY, 400, "the form is broken (it ends before"),
        (form([("file", "a.wav", b"RIFF")]), "another", 400, "the form is broken"),
        (form([("file", "a.wav", b"RIFF")]).replace(b"\r\n", b"\n"), BOUNDARY, 400, "the form is broken"),
        (b"RIFF" + bytes(100), BOUNDARY, 400, "the form is broken"),
        (form([("file", "a.wav", b"RIFF")]), "", 400, "without a boundary"),
        (form([("file", "a.wav", b"RIFF")], "b" * 300), "b" * 300, 400, "the form is broken"),
        (form([("file", "a.wav", b"")]), BOUNDARY, 422, "a.wav: "),
        (form([("file", "../../x.wav", b"RIFF")]), BOUNDARY, 422, "x.wav: cannot be decoded"),
        (form([("file", f"{n}.wav", b"x") for n in range(17)]), BOUNDARY, 413, "expected at most 16 recordings"),
        (form([(f"x{n}", None, b"x") for n in range(1000)]), BOUNDARY, 413, "expected at most 64 parts"),
        (form([("file", "a.wav", bytes(17 << 20))]), BOUNDARY, 413, "expected at most 16 MB"),
        (form([("waveform", None, b"many"), ("file", "a.wav", b"x")]), BOUNDARY, 400, "waveform: "),
        (form([("file", "a.wav", b"x")]).replace(b'name="file"; ', b""), BOUNDARY, 400, "the form is broken"),
        (encoded(b"UklGR", "base64"), BOUNDARY, 400, "the form is broken (base64: "),
        (encoded(b"RIFF", "gzip"), BOUNDARY, 400, "Content-Transfer-Encoding: expected base64, "),
        (form([("file", "a.wav", b"x")]).replace(b"\r\nContent-Type", b"\r\n" + b"X: y\r\n" * 99), BOUNDARY, 400, ""),
    ],
    ids=range(19),
)
def test_broken_forms_end_in_one_line(body: bytes, kind: str, status: int, text: str, server: Server) -> None:
    content_type = f"multipart/form-data; boundary={kind}" if kind else "multipart/form-data"
    found, _, values = request(server, "/api/recognize", body, Content_Type=content_type)
    assert (found, list(values)) == (status, ["error"]), values
    assert text in values["error"]
    assert "\n" not in values["error"]
    assert "speechmlp-" not in values["error"]  # the folder of uploads


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "audio/wav",
        "audio/mpeg",  # content decides
        "video/webm;codecs=opus",
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # curl --data-binary, wget --post-file
        "text/plain;charset=UTF-8",
        "nonsense",
        "\xff",
    ],
)
@pytest.mark.parametrize("format_", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_recording_is_read_whatever_its_type(
    kind: str | None, format_: str, server: Server, letters: dict[str, Path]
) -> None:
    samples, rate = soundfile.read(letters["O"])
    path = server.folder / "sent"
    soundfile.write(path, samples, rate, format=format_)
    headers = {} if kind is None else {"Content_Type": kind}
    status, _, found = request(server, "/api/recognize", path.read_bytes(), **headers)
    assert (status, found["letter"], found["path"]) == (200, "O", "recording")
    pieces = (path.read_bytes()[first : first + 1000] for first in range(0, path.stat().st_size, 1000))
    status, _, found = request(server, "/api/recognize", pieces, **headers)
    assert (status, found["letter"]) == (200, "O")


def test_what_is_no_recording_is_refused_by_its_headers(server: Server, letters: dict[str, Path]) -> None:
    wave = letters["O"].read_bytes()
    for headers, status, text in (
        ({"Content_Type": "application/json"}, 415, "found 'application/json'"),
        ({"Content_Type": "Application/Problem+JSON; charset=utf-8"}, 415, "found 'application/problem+json'"),
        ({"Content_Type": "multipart/mixed; boundary=x"}, 415, "found 'multipart/mixed'"),
        ({"Content_Encoding": "gzip"}, 415, "Content-Encoding: expected none, found 'gzip'"),
        ({"Content_Encoding": "identity"}, 200, ""),
    ):
        found, answered, values = request(server, "/api/recognize", wave, **headers)
        assert found == status, headers
        assert text in values.get("error", "")
        assert status == 200 or answered["Connection"] == "close"
    status, _, values = request(server, "/api/recognize")
    assert (status, values["error"].partition(";")[0]) == (411, "the request has no Content-Length, so it has no body")


def test_every_error_has_one_shape(server: Server) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/api/recognize", 405),
        ("PUT", "/api/spell", 405),
        ("POST", "/api", 405),
        ("DELETE", "/", 405),
        ("BREW", "/api", 405),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/page.js%00", 404),
        ("GET", "/page/index.html", 404),
        ("GET", "//evil.example/api", 404),
    ):
        found, headers, values = request(server, path, method=method)
        assert (found, list(values)) == (status, ["error"]), path
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert status != 405 or "OPTIONS" in headers["Allow"]
        assert "\n" not in values["error"]
    found, headers, values = request(server, "/api", b"", "GET", Host="evil.example")
    assert (found, headers["Content-Type"]) == (400, "application/json")
    assert values["error"].startswith("Host: expected 127.0.0.1, localhost, [::1]")
    assert "evil.example" in values["error"]


def test_head_and_options_are_answered(server: Server) -> None:
    for path in ("/", "/page.js", "/api", "/api/openapi.json"):
        status, headers, values = request(server, path, method="HEAD")
        assert (status, values) == (200, None)
        assert int(headers["Content-Length"]) > 100
        status, headers, values = request(server, path, method="OPTIONS")
        assert (status, headers["Allow"], values) == (204, "GET, HEAD, OPTIONS", None)
    status, headers, values = request(server, "/api/recognize", method="OPTIONS", Origin="http://evil.example")
    assert (status, headers["Allow"], values) == (204, "OPTIONS, POST", None)
    assert headers["Access-Control-Allow-Origin"] is None  # so browsers send nothing else from there
    assert request(server, "/api/recognize", method="HEAD")[::2] == (405, None)
    assert request(server, "/nothing", method="HEAD")[::2] == (404, None)


def test_spelled_words_are_those_of_predict(server: Server, letters: dict[str, Path]) -> None:
    quiet = np.zeros(4000)
    rows = [part for letter in "CAB" for part in (soundfile.read(letters[letter])[0], quiet)]
    path = server.folder / "cab.wav"
    soundfile.write(path, np.concatenate([quiet, *rows]), soundfile.info(letters["C"]).samplerate)
    checkpoint = server.process.args[-1]  # type: ignore[index]
    waveform, rate = soundfile.read(path)
    spelled = load_speller(str(checkpoint), "cpu")(waveform, rate).text
    assert spelled
    status, found = post(f"{server.url}api/spell?name=cab.wav", path.read_bytes())
    assert (status, found["path"], found["text"]) == (200, "cab.wav", spelled)
    assert "words" not in found
    assert [one["letter"] for one in found["letters"]] == list(spelled)
    assert all(0 <= one["start"] < one["end"] <= found["seconds"] for one in found["letters"])
    parts: Form = [("file", "cab.wav", path.read_bytes()), ("words", None, b"CAB\r\nDOG\nXYLOPHONE, cab")]
    status, found = post_form(server, "/api/spell?best=2", parts)
    assert (status, len(found["words"]), found["words"][0][0]) == (200, 2, "CAB")
    for query, expected, text in (("words=1,2", 422, "words: expected words of letters"), ("best=0", 400, "best: ")):
        status, found = post(f"{server.url}api/spell?{query}", path.read_bytes())
        assert (status, text in found["error"]) == (expected, True)


def test_channels_that_cancel_each_other_are_noted(server: Server, letters: dict[str, Path]) -> None:
    samples, rate = soundfile.read(letters["A"], dtype="float32")
    stereo = io.BytesIO()
    soundfile.write(stereo, np.stack([samples, -samples], 1), rate, format="WAV")
    for path in ("recognize", "spell"):
        status, mono = post(f"{server.url}api/{path}", letters["A"].read_bytes())
        assert (status, mono["note"]) == (200, "")
        status, found = post(f"{server.url}api/{path}", stereo.getvalue())
        assert status == 200
        assert found["note"].endswith("; only channel 1 of 2 is used")


def test_a_second_judge_that_is_not_there_is_not_offered(server: Server, letters: dict[str, Path]) -> None:
    assert request(server, "/api", method="GET")[2]["judge"] is False
    wave = letters["O"].read_bytes()
    status, _, found = request(server, "/api/recognize?judge=false", wave)
    assert (status, found["letter"]) == (200, "O")
    status, _, found = request(server, "/api/recognize?judge=true", wave)
    assert (status, found) == (400, {"error": "judge: this server has none; start it with --judge whisper"})
    status, _, found = request(server, "/api/recognize?judge=perhaps", wave)
    assert status == 400
    assert found["error"].startswith("judge: ")


def test_a_server_starts_without_the_judge_that_cannot_be_loaded(spoken_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "faster_whisper.py").write_text("raise ImportError('not here')\n")  # hides it where it is installed
    paths = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    options: list[str | Path] = ["--checkpoint", spoken_checkpoint, "--judge", "whisper"]
    with serving(tmp_path, *options, environment={"PYTHONPATH": paths}) as started:
        assert request(started, "/api", method="GET")[2]["judge"] is False
    assert started.errors.splitlines()[0] == (
        "warning: judge: faster-whisper is not installed: python -m pip install 'speechmlp[whisper]'; "
        "these are the answers of the model alone"
    )
