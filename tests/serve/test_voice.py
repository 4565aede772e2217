"""Teaching the page a voice: over HTTP, and in a browser whose microphone plays letters."""

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

from speechmlp.audio.encoding import wav_bytes
from speechmlp.data.manifest import read_manifest
from speechmlp.serve import api
from tests.conftest import CHROMIUM
from tests.serve.conftest import Server, microphone, opened, post, serving

RATE = 16_000
SAID = "ABCDEFGH"


@pytest.fixture(scope="module")
def spoken(synthetic_corpus: Path) -> dict[str, NDArray[np.float32]]:
    """Letters of one synthetic voice, at a level of 0.5, with quiet before and after."""
    letters = read_manifest(synthetic_corpus)
    voice = letters[0].speaker
    noise = np.random.default_rng(0)
    found = {}
    for one in letters:
        if one.speaker == voice and one.letter in SAID:
            samples, _ = soundfile.read(one.path, dtype="float32")
            quiet = np.zeros(RATE // 2, np.float32)
            samples = np.concatenate([quiet, 0.5 * samples / np.abs(samples).max(), quiet])
            found[one.letter] = (samples + noise.normal(0, 3e-4, len(samples))).astype(np.float32)
    return dict(sorted(found.items()))


def take(server: Server, letter: str, samples: NDArray[np.float32], rate: int = RATE) -> tuple[int, dict[str, Any]]:
    return post(f"{server.url}api/voice/take?{urlencode({'letter': letter})}", wav_bytes(samples, rate))


def state(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}api/voice") as answer:
        found: dict[str, Any] = json.load(answer)
    api.Voice.model_validate(found)
    return found


def change(server: Server, action: str, **options: Any) -> tuple[int, dict[str, Any]]:
    return post(f"{server.url}api/voice/{action}?{urlencode(options)}", b"")


def finished(server: Server) -> dict[str, Any]:
    """Waits until the model is adapted, and returns the state."""
    for _ in range(1200):
        if not (found := state(server))["adapting"]:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def model(server: Server) -> str:
    with urllib.request.urlopen(f"{server.url}api") as answer:
        return str(json.load(answer)["model"])


def probabilities(server: Server, samples: NDArray[np.float32]) -> dict[str, float]:
    found: dict[str, float] = post(f"{server.url}api/recognize", wav_bytes(samples, RATE))[1]["probabilities"]
    return found


def test_a_voice_is_taught_and_the_change_is_undone(spoken: dict[str, NDArray[np.float32]], tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    with serving(tmp_path, "--voice", folder) as server:
        assert state(server)["takes"] == dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 0)
        for action, options, message in (
            ("adapt", {}, "expected takes of 5 letters or more, found 0"),
            ("use", {"adapted": True}, "no model has been adapted yet"),
            ("remove", {"letter": "A"}, "there is no take of A"),
            ("remove", {"letter": "?"}, "letter: expected "),
        ):
            status, found = change(server, action, **options)
            assert (status, list(found)) == (422, ["error"]), found
            assert message in found["error"]
        assert change(server, "use", adapted="perhaps")[0] == 400
        status, found = take(server, "Ä", spoken["A"])
        assert (status, "letter: expected " in found["error"]) == (422, True)
        status, found = post(f"{server.url}api/voice/take?letter=A", b"no recording")
        assert (status, list(found)) == (422, ["error"])
        before = probabilities(server, spoken["B"])
        for letter, samples in spoken.items():
            for number in range(3):
                status, found = take(server, letter, samples * 0.8**number, round(RATE * (1 + 0.03 * number)))
                assert (status, found["kept"], found["advice"]) == (200, True, []), found
                api.Take.model_validate(found)
        assert take(server, "A", spoken["A"] * 0)[1]["advice"][0].startswith("silence; ")
        assert take(server, "A", np.clip(9 * spoken["A"], -1, 1))[1]["kept"] is False
        assert take(server, "A", spoken["A"])[1]["voice"]["takes"]["A"] == 4
        assert change(server, "remove", letter="a")[1]["takes"]["A"] == 3
        assert len(list((folder / "recordings").glob("*/me_nohash_*.wav"))) == 3 * len(SAID)

        assert change(server, "adapt")[1]["adapting"] is True
        assert change(server, "adapt")[0] == 409
        assert change(server, "remove", letter="A")[0] == 409
        found = finished(server)
        assert found["error"] == ""
        assert any("takes that were held out: " in line for line in found["lines"])
        assert "Never recorded, so not adapted to: I J" in "\n".join(found["lines"])
        assert (found["adapted"], found["used"]) == (True, True), found
        assert model(server).endswith(", adapted to your voice")
        adapted = probabilities(server, spoken["B"])
        assert adapted != before
        assert change(server, "use", adapted=False)[1]["used"] is False
        assert probabilities(server, spoken["B"]) == before
        assert not model(server).endswith("your voice")
    with serving(tmp_path, "--voice", folder) as server:  # the choice is kept
        assert (state(server)["adapted"], state(server)["used"]) == (True, False)
        assert change(server, "use", adapted=True)[1]["used"] is True
        assert change(server, "adapt")[0] == 200
        change(server, "stop")
        found = finished(server)
        assert found["error"] == "Stopped; the model that answered before still does.", found
        assert probabilities(server, spoken["B"]) == adapted
    with serving(tmp_path, "--voice", folder) as server:
        assert state(server)["used"] is True
        assert probabilities(server, spoken["B"]) == adapted
        assert change(server, "adapt")[0] == 200  # and the server ends meanwhile
    assert (folder / "adapted.pt").exists()
    assert list(tmp_path.glob("tmp*")) == []
    (folder / "adapted.pt").write_bytes(b"half a model")
    with serving(tmp_path, "--voice", folder) as server:
        assert probabilities(server, spoken["B"]) == before
    assert "warning: " in server.errors
    assert "the original model answers" in server.errors
    assert sum(state_count := [1 for _ in (folder / "recordings").glob("*/*.wav")]) == 3 * len(SAID), state_count


def test_takes_of_other_letters_are_refused(spoken: dict[str, NDArray[np.float32]], tmp_path: Path) -> None:
    with serving(tmp_path, "--voice", tmp_path / "voice") as server:
        for letter in SAID:
            found = take(server, letter, spoken["B" if letter != "B" else "C"])[1]
            assert found["kept"]
            assert found["heard"] != letter
        change(server, "adapt")
        found = finished(server)
    assert found["error"].startswith("the starting model recognises ")
    assert (found["adapted"], found["used"], found["lines"]) == (False, False, [])


def test_takes_are_stored_only_where_that_is_wanted(server: Server, spoken: dict[str, NDArray[np.float32]]) -> None:
    with urllib.request.urlopen(f"{server.url}api") as answer:
        assert json.load(answer)["voice"] is False
    status, found = take(server, "A", spoken["A"])
    assert (status, "start it with --voice FOLDER" in found["error"]) == (403, True)
    for action in ("remove", "adapt", "stop", "use"):
        assert change(server, action)[0] == 403


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError, match="error: --voice "), serving(tmp_path, "--voice", tmp_path / "file"):
        pass


@pytest.fixture(scope="module")
def voice_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default model; its folder for takes is that of the user."""
    folder = tmp_path_factory.mktemp("voice")
    with serving(folder, environment={"XDG_DATA_HOME": str(folder / "data")}) as started:
        yield started


@pytest.fixture
def page(
    voice_server: Server, playwright: Playwright, spoken: dict[str, NDArray[np.float32]], tmp_path: Path
) -> Iterator[Page]:
    """The page, with a microphone that says A to H, with pauses, and then nothing."""
    quiet = np.zeros(RATE, np.float32)
    said = np.concatenate([quiet, *(part for one in spoken.values() for part in (one, quiet))])
    soundfile.write(tmp_path / "said.wav", np.concatenate([said, *[quiet] * 60]), RATE, subtype="PCM_16")
    with microphone(playwright, tmp_path / "said.wav") as browser:
        page, problems, _ = opened(browser, voice_server.url)
        yield page
        assert problems == []


def wait_for(page: Page, element: str, text: str) -> None:
    condition = "([id, text]) => document.getElementById(id).textContent.includes(text)"
    page.wait_for_function(condition, arg=[element, text], timeout=120_000)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_asks_for_letters_and_adapts_the_model(page: Page, voice_server: Server) -> None:
    page.keyboard.press("Tab")
    page.click("#tab-teach")
    assert page.is_hidden("#recognise")
    assert page.inner_text("#teach-letter") == "A"
    assert page.is_disabled("#teach-adapt")
    page.click("#teach-record")
    wait_for(page, "teach-letter", "I")
    page.click("#teach-record")
    wait_for(page, "teach-status", "Stopped. Your takes are kept.")
    assert page.inner_text("#teach-count").startswith("8 takes of 8 letters")
    page.click("#teach-remove")
    wait_for(page, "teach-count", "7 takes of 7 letters")
    page.reload()  # nothing is lost
    page.wait_for_function("() => document.getElementById('model').textContent")
    page.click("#tab-teach")
    wait_for(page, "teach-count", "7 takes of 7 letters")
    page.click("#teach-adapt")
    page.close()  # in the middle
    found = finished(voice_server)
    assert found["error"] == ""
    assert "This voice: not measured" in "\n".join(found["lines"])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_changes_between_the_models(page: Page, voice_server: Server, spoken: dict[str, Any]) -> None:
    for letter, samples in spoken.items():
        for number in range(2):
            assert take(voice_server, letter, samples * 0.8**number, round(RATE * (1 + 0.03 * number)))[1]["kept"]
    page.click("#tab-teach")
    page.click("#teach-adapt")
    wait_for(page, "teach-lines", "takes that were held out: ")
    wait_for(page, "model", "adapted to your voice")
    page.click("#teach-use")
    wait_for(page, "teach-use", "Use the adapted model")
    page.wait_for_function("() => !document.getElementById('model').textContent.includes('your voice')")
    page.click("#teach-use")
    wait_for(page, "model", "adapted to your voice")
    page.keyboard.press("Shift+Tab")
    page.focus("#tab-teach")
    page.keyboard.press("ArrowLeft")
    assert page.is_visible("#recognise")
    assert page.is_hidden("#teach")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_silent_microphone_and_one_that_is_taken_away(
    voice_server: Server, playwright: Playwright, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(60 * RATE), RATE, subtype="PCM_16")
    before = state(voice_server)["takes"]
    with microphone(playwright, tmp_path / "silence.wav") as browser:
        page, problems, _ = opened(browser, voice_server.url)
        page.click("#tab-teach")
        page.click("#teach-record")
        wait_for(page, "teach-status", "3 takes in a row were not usable: silence; ")
        assert page.inner_text("#teach-record") == "Record"
        assert problems == []
    assert state(voice_server)["takes"] == before
