"""The page in a real browser with a microphone, and the API with valid, broken and hostile requests."""

import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, JSHandle, Page, Playwright, Route

from speechmlp.labels import LETTERS
from speechmlp.runs.checkpoint import PACKAGED
from tests.conftest import Run
from tests.serve.conftest import Server, microphone, opened, post, rejecting, serving


def room(samples: "np.typing.NDArray[Any]", rate: int, path: Path) -> Path:
    """Writes a recording of samples [T] in a quiet room: silence, the letter, silence; returns its path."""
    quiet = np.zeros(rate)
    samples = np.concatenate([quiet, samples / np.abs(samples).max() * 0.5, quiet, quiet])
    samples += np.random.default_rng(0).normal(0, 5e-4, len(samples))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


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


def say(page: Page) -> None:
    """Presses Record with the keyboard, waits for a letter, and stops."""
    page.focus("#record")
    page.keyboard.press("Enter")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Spelled: ')")


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
    assert 0.1 < start < end < length < 2  # what is around the letter
    assert page.locator("#waveform .sound").count() == 240
    assert page.locator("#waveform .inside").count() == 1
    assert problems == []
    assert all(url.startswith((server.url, "data:")) for url in requests)
    page.close()


@pytest.mark.parametrize("offset", [0.01, -0.06])
def test_an_offset_of_the_sound_card_neither_becomes_nor_hides_a_letter(
    server: Server, playwright: Playwright, said: tuple[str, Path], tmp_path: Path, offset: float
) -> None:
    samples, rate = soundfile.read(said[1])
    soundfile.write(tmp_path / "microphone.wav", np.concatenate([samples, np.zeros(9 * rate)]) + offset, rate)
    with microphone(playwright, tmp_path / "microphone.wav") as browser:
        page = opened(browser, server.url)[0]
        say(page)
        assert page.inner_text("#letter") == page.inner_text("#word") == said[0]


@pytest.mark.corpus
def test_a_real_speakers_letter_is_shown(playwright: Playwright, real_recordings: Path, tmp_path: Path) -> None:
    folder = real_recordings / "prompts"
    rows = [line.split("\t") for line in (folder / "index.tsv").read_text().splitlines()]
    column = {name: rows[0].index(name) for name in ("path", "letter", "start", "end")}
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", "--checkpoint", PACKAGED) as server:
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


def files_to_drop(page: Page, *paths: Path) -> JSHandle:
    """Returns what a browser has in its hand when files are dragged over a page."""
    return page.evaluate_handle(
        """files => {
          const data = new DataTransfer();
          for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
          return data;
        }""",
        [[path.name, list(path.read_bytes())] for path in paths],
    )


def drop(page: Page, files: JSHandle) -> None:
    """Drops files on the page."""
    page.dispatch_event("body", "drop", {"dataTransfer": files})


def wait_for_word(page: Page, word: str) -> None:
    page.wait_for_function("expected => document.getElementById('word').textContent === expected", arg=word)


def test_every_dropped_file_is_recognised(
    server: Server, browser: Browser, letters: dict[str, Path], tmp_path: Path
) -> None:
    page, problems, _ = opened(browser, server.url)
    named = [tmp_path / f"{letter}.wav" for letter in "CABOX"]
    for path in named:
        path.write_bytes(letters[path.stem].read_bytes())
    (tmp_path / "notes.txt").write_text("dear diary")
    held: list[Route] = []
    page.route("**/api/recognize?name=C.wav*", lambda route: held.append(route))
    drop(page, files_to_drop(page, named[0], named[1]))
    drop(page, files_to_drop(page, named[2]))  # while the first one is being recognised
    page.wait_for_function("() => document.getElementById('status').textContent === 'Recognising C.wav …'")
    held[0].continue_()
    page.unroute("**/api/recognize?name=C.wav*")
    wait_for_word(page, "CAB")
    page.wait_for_function("() => document.getElementById('status').textContent === 'C.wav: C. A.wav: A. B.wav: B.'")
    page.set_input_files("#file", [named[3], tmp_path / "notes.txt", named[4]])
    wait_for_word(page, "CABOX")
    page.wait_for_function("() => document.getElementById('status').textContent.endsWith('X.wav: X.')")
    assert page.inner_text("#status").startswith("O.wav: O. notes.txt: cannot be decoded as audio")
    drop(page, files_to_drop(page, named[0]))
    wait_for_word(page, "CABOXC")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Recognised C.'")
    drop(page, files_to_drop(page))  # a text or a link
    assert page.inner_text("#status") == "Drop an audio file."
    assert [
        problem for problem in problems if "422" not in problem
    ] == []  # the browser reports the status of notes.txt
    page.close()


def test_a_file_dropped_while_recording_is_recognised_at_once(
    server: Server, browser: Browser, said: tuple[str, Path], letters: dict[str, Path]
) -> None:
    page, problems, _ = opened(browser, server.url)
    files = files_to_drop(page, letters["X"])
    page.focus("#record")
    page.keyboard.press("Enter")
    wait_for_word(page, said[0])
    drop(page, files)
    wait_for_word(page, f"{said[0]}X")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Spelled: ')")
    assert page.inner_text("#word") == f"{said[0]}X"
    assert problems == []
    page.close()


def test_a_file_that_cannot_be_read_is_reported(
    server: Server, browser: Browser, letters: dict[str, Path], tmp_path: Path
) -> None:
    page, _, _ = opened(browser, server.url)
    first = tmp_path / "first.wav"
    first.write_bytes(letters["O"].read_bytes())
    chrome = page.context.new_cdp_session(page)
    root = chrome.send("DOM.getDocument")["root"]["nodeId"]
    node = chrome.send("DOM.querySelector", {"nodeId": root, "selector": "#file"})["nodeId"]
    chrome.send("DOM.setFileInputFiles", {"nodeId": node, "files": [str(first)]})
    wait_for_word(page, "O")
    chrome.send("DOM.setFileInputFiles", {"nodeId": node, "files": [str(tmp_path), str(first)]})
    wait_for_word(page, "OO")
    assert f"{tmp_path.name} cannot be read" in page.inner_text("#status")
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
        assert found.pop("note") == ""
        assert found.pop("seconds") == pytest.approx(soundfile.info(path).duration, abs=1e-3)
        probabilities = found.pop("probabilities")
        assert list(probabilities) == list(LETTERS)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert max(probabilities, key=lambda letter: probabilities[letter]) == found["letter"]
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
    status, found = post(f"{server.url}api/recognize?name=%ff%fe&waveform=2000&_=1", letters["O"].read_bytes())
    assert (status, found["letter"], len(found["waveform"])) == (200, "O", 2000)
    for query in ("waveform=-1", "waveform=1e9", "waveform=2001", "waveform=", "waveform=%F0%9F%98%80"):
        status, found = post(f"{server.url}api/recognize?{query}", letters["O"].read_bytes())
        assert (status, found["error"].partition(":")[0]) == (400, "waveform"), query


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
        ([*model, "--host", ""], "--host: expected an address such as 127.0.0.1"),
        ([*model, "--host", "a..b"], "a..b, port 8026: cannot listen there"),
    ]
    for arguments, expected in mistakes:
        result = run_python("-m", "speechmlp.serve", "--no-browser", *arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert expected in result.stderr
    (tmp_path / "starlette.py").write_text("raise ImportError('not here', name='starlette')\n")
    result = run_python("-m", "speechmlp.serve", "--no-browser", *model)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "starlette is not installed: python -m pip install 'speechmlp[serve]'" in result.stderr
