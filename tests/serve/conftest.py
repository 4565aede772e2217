"""A running server for the tests of the page and of the API."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page, Playwright

from speechmlp.data.manifest import read_manifest
from speechmlp.recognition.recognizer import load_recognizer
from tests.conftest import CHROMIUM

COMMAND = [sys.executable, "-m", "speechmlp.serve"]
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
    """A running server: its address, process, folder, and, after its end, what else it printed."""

    url: str
    process: "subprocess.Popen[str]"
    folder: Path
    errors: str = ""
    output: str = ""


def rejecting(checkpoint: Path, reject_below: float, folder: Path) -> Path:
    """Returns a copy of a checkpoint with another rejection threshold."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"reject_below": reject_below}, folder / "model.pt")
    return folder / "model.pt"


@contextmanager
def serving(
    folder: Path,
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[Server]:
    """Runs the command during the block."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, "--no-browser", "--port", "0", *map(str, arguments)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"TMPDIR": str(folder), "XDG_DATA_HOME": str(folder / "data")} | (environment or {}),
        )
        assert process.stdout is not None
        found = re.fullmatch(r"Say a letter at (https?://\S+) \(Ctrl-C ends\)\n", process.stdout.readline())
        server = Server(found[1] if found else "", process, folder)
        try:
            if found:
                yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            with process.stdout as output:
                server.output = output.read()
            errors.seek(0)
            server.errors = errors.read()
            assert found, server.errors


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
