"""Live spelling over HTTP and on the page, with a microphone that plays spelled words."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Page, Playwright

from speechmlp.data.manifest import read_manifest
from speechmlp.evaluation.joined_words import joined_words
from speechmlp.recognition.live import LiveSpeller
from speechmlp.recognition.speller import load_speller
from speechmlp.runs.checkpoint import PACKAGED
from speechmlp.serve import api
from tests.serve.conftest import Server, microphone, post, serving

RATE = 16_000


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("live"), "--checkpoint", PACKAGED) as started:
        yield started


@pytest.fixture(scope="module")
def said(synthetic_corpus: Path) -> tuple[str, NDArray[np.int16]]:
    """What the model recognises of a word of three letters or more, and its samples, between silences."""
    letters = [one for one in read_manifest(synthetic_corpus) if one.split == "test"]
    noise = np.random.default_rng(0)
    for word in joined_words(letters, 0.5, []):
        quiet = np.zeros(RATE, np.float32)
        samples = np.concatenate([quiet, word.samples.numpy(), quiet])
        samples = np.round(32767 * (0.5 * samples / np.abs(samples).max() + noise.normal(0, 5e-4, len(samples))))
        live = LiveSpeller(load_speller(device="cpu"))
        changes = live.push(samples.astype(np.int16)) + live.finish()
        found = "".join(letter.letter for change in changes for letter in change.final)
        if found == word.text:
            return found, samples.astype(np.int16)
    raise AssertionError("no word is recognised")


def push(server: Server, samples: bytes, **options: Any) -> tuple[int, dict[str, Any]]:
    kind = {"Content-Type": "application/octet-stream"}
    return post(f"{server.url}api/live?{urlencode(options)}", samples, **kind)


def test_pieces_are_spelled_and_answers_may_be_lost(live_server: Server, said: tuple[str, NDArray[np.int16]]) -> None:
    text, samples = said
    session = ""
    letters: list[dict[str, Any]] = []
    for first in range(0, len(samples), 8000):
        piece = samples[first : first + 8000].tobytes()
        options = {"session": session, "rate": RATE, "first": first, "known": len(letters)}
        if first == 16_000:
            assert push(live_server, piece, **options)[0] == 200  # whose answer is lost, so it is sent again
        status, found = push(live_server, piece, **options)
        assert status == 200, found
        api.Live.model_validate(found)
        session = found["session"]
        letters = letters[: found["first"]] + found["letters"]
    assert found["seconds"] == pytest.approx(len(samples) / RATE, abs=1e-3)
    status, found = push(live_server, b"", session=session, first=len(samples), known=len(letters), end=True)
    letters = letters[: found["first"]] + found["letters"]
    assert "".join(one["letter"] for one in letters) == text
    assert all(sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-3) for one in letters)
    status, found = push(live_server, b"", session=session)
    assert status == 410
    assert "begin another one" in found["error"]


def test_mistakes_are_answered_in_one_line(live_server: Server) -> None:
    for body, options, expected, message in (
        (b"abc", {}, 400, "16-bit samples"),
        (b"", {"rate": 7999}, 400, "rate: "),
        (b"", {"rate": "nan"}, 400, "rate: "),
        (b"", {"known": -1}, 400, "known: "),
        (b"", {"session": "x" * 101}, 400, "session: "),
        (b"", {"session": "unknown"}, 410, "session: it has ended"),
        (bytes((2 << 20) + 2), {}, 413, "2 MB"),
    ):
        status, found = push(live_server, body, **options)
        assert (status, list(found)) == (expected, ["error"]), found
        assert message in found["error"]
    assert post(f"{live_server.url}api/live", b"{}", **{"Content-Type": "application/json"})[0] == 415


def test_microphones_that_are_forgotten_do_not_keep_others_out(live_server: Server) -> None:
    found = [push(live_server, b"", rate=RATE) for _ in range(40)]
    assert {status for status, _ in found} == {200, 429}
    assert "try again later" in found[-1][1]["error"]
    for _, one in found:
        if "session" in one:
            push(live_server, b"", session=one["session"], end=True)
    assert push(live_server, b"", rate=RATE, end=True)[0] == 200


def test_words_are_offered(live_server: Server) -> None:
    def offer(body: Any) -> tuple[int, dict[str, Any]]:
        return post(f"{live_server.url}api/words", json.dumps(body).encode(), **{"Content-Type": "application/json"})

    letters = [{"C": 0.9, "Z": 0.1}, {"A": 1}]
    status, found = offer({"words": ["dog", "cable", "Cat", "zap"], "letters": letters, "best": 3})
    assert status == 200
    api.Offer.model_validate(found)
    assert {one["word"] for one in found["words"][:2]} == {"cable", "Cat"}
    assert found["words"][2]["word"] == "zap"
    for body, message in (
        ({"words": [], "letters": []}, "words: "),
        ({"words": ["123"], "letters": []}, "words: "),
        ({"words": ["a"], "letters": [{"a": 1}, {"?": 1}]}, "letters.1: expected one"),
        ({"words": ["a"], "letters": [{"A": 2}]}, "letters.0.A"),
        ([], "body: "),
    ):
        status, found = offer(body)
        assert (status, list(found)) == (422, ["error"]), found
        assert message in found["error"]
    assert post(f"{live_server.url}api/words", b"{", **{"Content-Type": "application/json"})[0] == 422
    assert post(f"{live_server.url}api/words", b"x")[0] == 415


def wait(page: Page, condition: str, argument: Any = None) -> None:
    page.wait_for_function(condition, arg=argument, timeout=60_000)


def wait_for_word(page: Page, text: str) -> None:
    wait(page, "expected => document.getElementById('word').textContent === expected", text)


def wait_for_status(page: Page, text: str) -> None:
    wait(page, "expected => document.getElementById('status').textContent.includes(expected)", text)


@pytest.fixture
def page(
    live_server: Server, playwright: Playwright, said: tuple[str, NDArray[np.int16]], tmp_path: Path
) -> Iterator[Page]:
    """The page, with a microphone that plays the word and then silence."""
    quiet = np.zeros(60 * RATE, np.int16)
    soundfile.write(tmp_path / "microphone.wav", np.concatenate([said[1], quiet]), RATE, subtype="PCM_16")
    with microphone(playwright, tmp_path / "microphone.wav") as browser:
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(live_server.url)
        wait(page, "() => document.getElementById('model').textContent")
        yield page
        assert problems == []


@pytest.mark.slow
def test_letters_appear_are_corrected_played_and_deleted(page: Page, said: tuple[str, NDArray[np.int16]]) -> None:
    text, _ = said
    page.evaluate(
        "() => new MutationObserver(() => { const one = document.getElementById('provisional').textContent;"
        " if (one) window.seen = (window.seen ?? '') + one; })"
        ".observe(document.getElementById('provisional'), { childList: true, characterData: true, subtree: true })"
    )
    page.click("summary")
    page.fill("#words", f"{text.lower()}\n{text[:2]}zebra\ncat\nhouse")
    page.focus("#record")
    page.keyboard.press("Enter")
    wait_for_word(page, text)
    assert set(page.evaluate("window.seen")) & set(text)  # letters are shown before they are final
    assert page.get_attribute("#record", "aria-pressed") == "true"  # until the user stops it
    wait(page, "() => document.querySelector('#offers button')?.textContent", None)
    assert page.inner_text("#offers button >> nth=0") == text.lower()
    guess = page.inner_text("#ranked .name >> nth=1")
    page.click("#ranked button >> nth=1")
    wait_for_word(page, text[:-1] + guess)
    page.click("#play")  # what is played is not spelled again
    page.wait_for_timeout(2500)
    wait_for_word(page, text[:-1] + guess)
    page.click("#delete")
    wait_for_word(page, text[:-1])
    page.focus("#word button >> nth=0")
    page.keyboard.press("Enter")
    assert page.inner_text("#letter") == text[0]
    page.click("#delete")
    wait_for_word(page, text[1:-1])
    page.focus("#record")
    page.keyboard.press("Enter")
    wait_for_status(page, f"Spelled: {text[1:-1]}.")
    assert page.evaluate("document.activeElement.id") == "record"
    page.reload()
    wait_for_word(page, text[1:-1])  # closing the page loses nothing
    page.click("#clear")
    page.reload()
    wait(page, "() => document.getElementById('model').textContent")
    assert page.inner_text("#word") == ""


@pytest.mark.slow
def test_a_microphone_that_is_taken_away_ends_it(page: Page, said: tuple[str, NDArray[np.int16]]) -> None:
    page.evaluate(
        """() => {
          const plain = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await plain(wanted));
        }"""
    )
    page.click("#record")
    wait_for_word(page, said[0])
    page.evaluate("stream.getTracks().forEach((track) => track.dispatchEvent(new Event('ended')))")
    wait_for_status(page, f"The microphone was taken away. Spelled: {said[0]}.")
    assert page.get_attribute("#record", "aria-pressed") == "false"


@pytest.mark.slow
def test_a_server_that_stops_loses_nothing(
    playwright: Playwright, said: tuple[str, NDArray[np.int16]], tmp_path: Path
) -> None:
    quiet = np.zeros(60 * RATE, np.int16)
    soundfile.write(tmp_path / "microphone.wav", np.concatenate([said[1], quiet]), RATE, subtype="PCM_16")
    with microphone(playwright, tmp_path / "microphone.wav") as browser:
        with serving(tmp_path, "--checkpoint", PACKAGED) as server:
            page = browser.new_page()
            page.goto(server.url)
            page.click("#record")
            wait_for_word(page, said[0])
            started = time.monotonic()
        assert time.monotonic() - started < 20  # an open microphone does not keep it from ending
        wait_for_status(page, "The server does not answer. Is it still running? Spelled: ")
        assert page.inner_text("#word") == said[0]
        assert page.get_attribute("#record", "aria-pressed") == "false"


def test_the_page_is_complete(live_server: Server) -> None:
    for name in ("", "page.css", "page.js", "live.js", "microphone.js", "word.js", "capture.js", "backend.js"):
        with urllib.request.urlopen(live_server.url + name) as answer:
            assert answer.status == 200
