"""The page in a real browser with a microphone, and the API with valid, broken and hostile requests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from speechmlp.data.manifest import read_manifest
from speechmlp.recognition.recognizer import WEIGHTS, load_recognizer
from tests.conftest import CHROMIUM, Run

COMMAND = [sys.executable, "-m", "speechmlp.serve", "--no-browser"]
SPY = """
import sys

def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open({path!r}, "a") as file:
            print(event, arguments[-1] if event == "socket.connect" else arguments, file=file)

sys.addaudithook(spy)
"""


@dataclass
class Server:
    """A running server: its address, process, folder, and, after its end, its standard error."""

    url: str
    process: "subprocess.Popen[str]"
    folder: Path
    errors: str = ""


def rejecting(checkpoint: Path, reject_below: float, folder: Path) -> Path:
    """Returns a copy of a checkpoint with another rejection threshold."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"reject_below": reject_below}, folder / "model.pt")
    return folder / "model.pt"


@contextmanager
def serving(folder: Path, *arguments: str | Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Runs the command during the block."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)} | (environment or {}),
    )
    assert process.stdout is not None
    found = re.fullmatch(r"Say a letter at (http://\S+) \(Ctrl-C ends\)\n", process.stdout.readline())
    server = Server(found[1] if found else "", process, folder)
    try:
        if found:
            yield server
    finally:
        process.send_signal(signal.SIGINT)
        server.errors = process.communicate(timeout=60)[1]
        assert found, server.errors


@pytest.fixture(scope="module")
def server(spoken_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "spy").mkdir()
    (folder / "spy" / "sitecustomize.py").write_text(SPY.format(path=str(folder / "connections")))
    paths = f"{folder / 'spy'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    model = rejecting(spoken_checkpoint, 0.0, folder)
    with serving(folder, "--checkpoint", model, environment={"PYTHONPATH": paths}) as started:
        yield started
    assert (started.errors, started.process.returncode) == ("interrupted\n", 130)
    reached = (folder / "connections").read_text().splitlines() if (folder / "connections").exists() else []
    assert [line for line in reached if "127.0.0.1" not in line] == []  # it opens no connections
    assert list(folder.glob("speechmlp-*")) == []  # no recording is stored


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Posts a recording; returns the status and the values of the answer."""
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def letters(synthetic_corpus: Path, spoken_checkpoint: Path) -> dict[str, Path]:
    """For each letter, its correctly recognised recording with the highest probability."""
    recognizer = load_recognizer(spoken_checkpoint, "cpu")
    utterances = [utterance for utterance in read_manifest(synthetic_corpus) if utterance.split == "train"]
    best: dict[str, tuple[float, Path]] = {}
    for utterance, found in zip(utterances, recognizer.files([one.path for one in utterances]), strict=True):
        assert not isinstance(found, Exception)
        if found.letter == utterance.letter:
            best[found.letter] = max(best.get(found.letter, (0.0, utterance.path)), (found.probability, utterance.path))
    return {letter: path for letter, (_, path) in sorted(best.items())}


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as started:
        yield started


def room(samples: "np.typing.NDArray[Any]", rate: int, path: Path) -> Path:
    """Writes a recording of samples [T] in a quiet room: silence, the letter, silence; returns its path."""
    quiet = np.zeros(rate)
    samples = np.concatenate([quiet, samples / np.abs(samples).max() * 0.5, quiet, quiet])
    samples += np.random.default_rng(0).normal(0, 5e-4, len(samples))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@contextmanager
def microphone(playwright: Playwright, recording: Path) -> Iterator[Browser]:
    """A browser whose microphone plays a recording, once for each page."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[
            "--no-sandbox",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={recording}%noloop",
        ],
    )
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def said(server: Server, letters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A letter that the model recognises in a quiet room, and the recording."""
    path = tmp_path_factory.mktemp("room") / "microphone.wav"
    for letter in reversed(letters):
        samples, rate = soundfile.read(letters[letter])
        room(samples, rate, path)
        found = post(f"{server.url}api/recognize", path.read_bytes())[1]
        if found["letter"] == letter and found["probability"] > 0.99:
            return letter, path
    raise AssertionError("no letter is recognised in a quiet room")


@pytest.fixture(scope="module")
def browser(playwright: Playwright, said: tuple[str, Path]) -> Iterator[Browser]:
    with microphone(playwright, said[1]) as opened:
        yield opened


def opened(browser: Browser, url: str, **options: Any) -> tuple[Page, list[str], list[str]]:
    """Returns the page, the list of its console messages, and the list of addresses that it requests."""
    page = browser.new_page(**options)
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    page.wait_for_function("() => document.getElementById('model').textContent")
    return page, problems, requests


def say(page: Page) -> None:
    """Presses Record with the keyboard, and waits for the answer."""
    page.focus("#record")
    page.keyboard.press("Enter")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.wait_for_selector("#answer:not([hidden])", timeout=20_000)


def test_a_spoken_letter_is_shown(server: Server, browser: Browser, said: tuple[str, Path]) -> None:
    page, problems, requests = opened(browser, server.url)
    say(page)
    assert page.inner_text("#letter") == page.inner_text("#word") == said[0]
    assert page.get_attribute("#record", "aria-pressed") == "false"
    shares = [float(text) for text in re.findall(r"([\d.]+) %", page.inner_text("#ranked"))]
    widths = page.locator("#ranked .bar").evaluate_all("all => all.map(bar => bar.getBoundingClientRect().width)")
    assert len(shares) == len(widths) == 3
    assert shares == sorted(shares, reverse=True)
    assert widths[0] == pytest.approx(shares[0] / 100 * page.locator("#ranked li").first.bounding_box()["width"], abs=4)  # type: ignore[index]
    start, end, length = map(float, re.findall(r"\d+\.\d+", page.inner_text("#place")))
    assert 0.6 < start < end < length  # after a second of silence, whose start may be lost
    assert page.locator("#waveform .sound").count() == 240
    assert page.locator("#waveform .inside").count() == 1
    assert problems == []
    assert all(url.startswith((server.url, "data:")) for url in requests)
    page.close()


@pytest.mark.corpus
def test_a_real_speakers_letter_is_shown(playwright: Playwright, real_recordings: Path, tmp_path: Path) -> None:
    folder = real_recordings / "prompts"
    rows = [line.split("\t") for line in (folder / "index.tsv").read_text().splitlines()]
    column = {name: rows[0].index(name) for name in ("path", "letter", "start", "end")}
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", "--checkpoint", WEIGHTS) as server:
        for row in rows[1:]:
            path, letter = folder / row[column["path"]], row[column["letter"]].upper()
            if path.suffix != ".wav":
                continue
            rate = soundfile.info(path).samplerate
            first, last = (round(float(row[column[name]]) * rate) for name in ("start", "end"))
            samples = soundfile.read(path, always_2d=True)[0][max(0, first - rate // 20) : last + rate // 20, 0]
            recording = room(samples, rate, tmp_path / "microphone.wav")
            found = post(f"{server.url}api/recognize", recording.read_bytes())[1]
            if found["letter"] == letter and found["probability"] > 0.9:
                break
        with microphone(playwright, recording) as browser:
            page, problems, _ = opened(browser, server.url)
            say(page)
            assert page.inner_text("#letter") == letter
            assert problems == []


def test_a_word_can_be_spelled_by_keyboard_alone(server: Server, browser: Browser, letters: dict[str, Path]) -> None:
    page, problems, _ = opened(browser, server.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "record"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.locator("label[for=file]").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    spelled = ""
    for letter in "CAB":
        page.set_input_files("#file", letters[letter])
        spelled += letter
        page.wait_for_function("expected => document.getElementById('word').textContent === expected", arg=spelled)
        assert page.inner_text("#letter") == letter
        assert page.inner_text("#status") == f"Recognised {letter}."
    second = page.locator("#ranked button").nth(1)
    instead = second.locator(".name").inner_text()
    second.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#word") == f"CA{instead}"
    page.focus("#backspace")
    page.keyboard.press("Enter")
    assert page.inner_text("#word") == "CA"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Space")
    assert page.inner_text("#word") == ""
    assert page.evaluate("document.activeElement.id") == "record"
    assert page.is_disabled("#backspace")
    assert problems == []
    page.close()


def test_non_letters_and_non_recordings_are_reported(
    server: Server, browser: Browser, tmp_path: Path, spoken_checkpoint: Path
) -> None:
    page, _, _ = opened(browser, server.url)
    (tmp_path / "notes.txt").write_text("dear diary")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_function(
        "() => document.getElementById('status').textContent.includes('notes.txt: cannot be decoded')"
    )
    assert page.is_hidden("#answer")
    page.route("**/api/recognize*", lambda route: route.abort())
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_function("() => document.getElementById('status').textContent.includes('does not answer')")
    page.close()
    soundfile.write(tmp_path / "hush.wav", np.random.default_rng(0).normal(0, 1e-3, 16_000), 16_000)
    with serving(tmp_path, "--checkpoint", rejecting(spoken_checkpoint, 1.0, tmp_path)) as strict:
        page, problems, _ = opened(browser, strict.url)
        page.set_input_files("#file", tmp_path / "hush.wav")
        page.wait_for_selector("#answer:not([hidden])")
        assert page.inner_text("#letter") == "Not a letter"
        assert page.inner_text("#word") == ""
        assert "No letter was recognised" in page.inner_text("#status")
        page.locator("#ranked button").first.click()
        assert page.inner_text("#word") == page.locator("#ranked .name").first.inner_text()
        assert problems == []
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(
    scheme: str, server: Server, browser: Browser, letters: dict[str, Path]
) -> None:
    page, problems, _ = opened(browser, server.url, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for letter in "QWERTYQWERTY":
        before = page.inner_text("#word")
        page.set_input_files("#file", letters[letter])
        page.wait_for_function(f"() => document.getElementById('word').textContent.length === {len(before) + 1}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert problems == []
    # WCAG 2: the contrast of text is at least 4.5 to 1.
    contrast = page.evaluate(
        """() => {
          const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number)
            .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!c.endsWith(", 0)") && c !== "transparent") return c; } };
          return [...document.querySelectorAll("h1, h2, p, button, label, figcaption, output, footer")]
            .filter((e) => !e.disabled && e.textContent).map((e) => {
              const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
              return (a + 0.05) / (b + 0.05); });
        }"""
    )
    assert len(contrast) > 10
    assert min(contrast) >= 4.5
    page.close()


def test_the_api_and_predict_agree(server: Server, letters: dict[str, Path], run_python: Run) -> None:
    paths = list(letters.values())
    command = ["-m", "speechmlp.predict", "--format", "jsonl", "--device", "cpu", "--checkpoint"]
    checkpoint = server.process.args[-1]  # type: ignore[index]
    result = run_python(*command, str(checkpoint), *paths)
    assert result.returncode == 0, result.stderr
    for path, line in zip(paths, result.stdout.splitlines(), strict=True):
        status, found = post(f"{server.url}api/recognize?name={quote(path.name)}", path.read_bytes())
        assert status == 200
        assert found.pop("seconds") == pytest.approx(soundfile.info(path).duration, abs=1e-3)
        assert found == json.loads(line) | {"path": path.name}


def bad_recordings(folder: Path) -> list[tuple[str, bytes, int, str]]:
    """Returns name, body, status and part of the message."""
    wave = folder / "wave.wav"
    soundfile.write(wave, np.zeros(8000), 16_000, subtype="PCM_16")
    header = wave.read_bytes()
    soundfile.write(folder / "nan.wav", np.full(1600, np.nan), 16_000, subtype="FLOAT")
    soundfile.write(folder / "long.flac", np.zeros(61 * 8000), 8000)
    soundfile.write(folder / "wide.flac", np.zeros((50 * 96_000, 3), np.int16), 96_000)
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    return [
        ("notes.txt", b"dear diary", 422, "notes.txt: cannot be decoded as audio"),
        ("a.wav", header[:20], 422, "a.wav: cannot be decoded as audio"),
        ("a.wav", header[:22] + b"\xff\xff" + header[24:], 422, "a.wav: "),
        ("a.wav", header[:24] + b"\xff\xff\xff\xff" + header[28:], 422, "a.wav: "),
        ("a.wav", b"RIFF" + bytes(1000), 422, "a.wav: cannot be decoded as audio"),
        ("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(1000), 422, "a.m4a: "),
        ("", b"", 400, "the recording is empty"),
        ("nan.wav", (folder / "nan.wav").read_bytes(), 422, "nan.wav: contains NaN"),
        ("none.wav", (folder / "none.wav").read_bytes(), 422, "none.wav: contains no samples"),
        ("long.flac", (folder / "long.flac").read_bytes(), 422, "long.flac: expected at most 60 s, found 61 s"),
        ("wide.flac", (folder / "wide.flac").read_bytes(), 422, "wide.flac: expected at most 11520000 samples"),
        ("../../etc/passwd", b"x" * 100, 422, "passwd: cannot be decoded"),
        ("x" * 5000 + ".wav", b"x", 422, "x" * 100),
        ("a\nb\0.wav", b"x", 422, ": cannot be decoded"),
        ("a.wav", bytes(17 << 20), 413, "expected at most 16 MB"),
    ]


def test_bad_recordings_end_in_one_line(server: Server, letters: dict[str, Path], tmp_path: Path) -> None:
    for name, body, expected, text in bad_recordings(tmp_path):
        status, found = post(f"{server.url}api/recognize?name={quote(name)}", body)
        assert (status, list(found)) == (expected, ["error"]), (name, found)
        assert text in found["error"]
        assert "\n" not in found["error"]
        assert str(server.folder) not in found["error"]
    for query in ("waveform=-1", "waveform=1e9", "waveform=99999999", "waveform=%F0%9F%98%80", "name=%ff%fe"):
        status, found = post(f"{server.url}api/recognize?{query}", letters["O"].read_bytes())
        assert (status, found["letter"]) == (200, "O")
        assert len(found.get("waveform", [])) <= 2000


def rss(process: "subprocess.Popen[str]") -> int:
    """Returns the peak memory of a process in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("header", [f"Content-Length: {1 << 30}", "Transfer-Encoding: chunked"])
def test_a_gigabyte_is_refused_early(header: str, server: Server, letters: dict[str, Path]) -> None:
    before = rss(server.process)
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    block = bytes(1 << 20)
    if "chunked" in header:
        block = b"100000\r\n" + block + b"\r\n"
    sent, answer = 0, b""
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(f"POST /api/recognize HTTP/1.1\r\nHost: {address.netloc}\r\n{header}\r\n\r\n".encode())
        try:
            while sent < 1 << 30:
                connection.sendall(block)
                sent += len(block)
        except OSError:  # closed by the server
            pass
        try:
            while data := connection.recv(1 << 16):
                answer += data
        except ConnectionError:  # data sent after the answer makes the kernel reset the connection
            pass
    assert sent < 128 << 20
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert rss(server.process) < before + (64 << 20)
    assert post(f"{server.url}api/recognize", letters["O"].read_bytes())[1]["letter"] == "O"


def test_fifty_uploads_at_once_are_answered(server: Server, letters: dict[str, Path]) -> None:
    chosen = [list(letters)[number % len(letters)] for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        bodies = [letters[letter].read_bytes() for letter in chosen]
        answers = list(pool.map(lambda body: post(f"{server.url}api/recognize", body), bodies))
    assert [(status, found["letter"]) for status, found in answers] == [(200, letter) for letter in chosen]


def test_other_machines_and_other_sites_are_refused(server: Server, letters: dict[str, Path]) -> None:
    url, body = f"{server.url}api/recognize", letters["O"].read_bytes()
    assert urlsplit(server.url).hostname == "127.0.0.1"
    assert post(url, body, Origin="http://evil.example")[0] == 403
    assert post(url, body, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert post(url, body, Origin=server.url.rstrip("/"))[0] == 200
    for host, expected in (
        ("evil.example", 400),
        ("localhost:1", 200),
        ("[::1]:80", 200),
        ("127.0.0.1.evil.example", 400),
    ):
        request = urllib.request.Request(f"{server.url}api", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status = answer.status
                assert answer.headers["Access-Control-Allow-Origin"] is None
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        assert status == expected, host
    port = urlsplit(server.url).port
    listening = subprocess.run(
        ["sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"], capture_output=True, text=True, check=False
    )
    if listening.returncode == 0:
        mine = [row.split()[1] for row in listening.stdout.splitlines() if f":{port:04X} " in row.partition(" 0A ")[0]]
        assert [address for address in mine if not address.startswith("0100007F")] == []


def test_addresses_reachable_from_other_machines_are_warned_about(
    spoken_checkpoint: Path, letters: dict[str, Path], tmp_path: Path
) -> None:
    with serving(tmp_path, "--checkpoint", spoken_checkpoint, "--host", "0.0.0.0") as server:
        port = urlsplit(server.url).port
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api", headers={"Host": "my-machine.example"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["labels"][:3] == ["A", "B", "C"]
    assert server.errors.startswith("warning: 0.0.0.0 can be reached from other machines")


def test_it_can_be_interrupted_at_any_moment(spoken_checkpoint: Path, tmp_path: Path) -> None:
    def ended(_: int) -> tuple[str, int]:
        with serving(tmp_path, "--checkpoint", spoken_checkpoint) as server:
            pass  # the signal comes while the server starts
        return server.errors, server.process.returncode

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(ended, range(2))) == {("interrupted\n", 130)}


def test_mistakes_end_in_one_line(server: Server, spoken_checkpoint: Path, run_python: Run, tmp_path: Path) -> None:
    taken = str(urlsplit(server.url).port)
    model = ["--checkpoint", str(spoken_checkpoint)]
    (tmp_path / "hidden").mkdir()
    mistakes = [
        (["--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
        ([*model, "--port", taken], f"127.0.0.1, port {taken}: cannot listen there (Address already in use)"),
        ([*model, "--port", "70000"], "--port: expected 0 to 65535, found 70000"),
        ([*model, "--host", "203.0.113.7"], "203.0.113.7, port 8026: cannot listen there"),
    ]
    for arguments, expected in mistakes:
        result = run_python("-m", "speechmlp.serve", "--no-browser", *arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert expected in result.stderr
    (tmp_path / "starlette.py").write_text("raise ImportError('not here', name='starlette')\n")
    result = run_python("-m", "speechmlp.serve", "--no-browser", *model)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "starlette is not installed: python -m pip install 'speechmlp[serve]'" in result.stderr
