"""The exported web page in a browser without a network, compared with `serve`; and its steps compared with Python's."""

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Playwright

from speechmlp.audio.decoding import load, mix_at
from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.config.loading import load_config
from speechmlp.errors import UserError
from speechmlp.export.runtime import runtime_files
from speechmlp.export.web import page_files
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.recognition.recognizer import Second
from speechmlp.recognition.speller import load_speller
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint
from speechmlp.serve.app import Answers
from speechmlp.serve.voice import Models
from tests.conftest import CHROMIUM, once
from tests.forks import Forks
from tests.serve.conftest import opened, rejecting
from tests.test_placing import HALF, clip

COMMAND = ["-m", "speechmlp.export", "--format", "web"]
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FAKE_MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def exported(spoken_checkpoint: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the command wrote, with the float32 model in `float32` and the int8 model in `int8`."""
    try:
        runtime_files()
    except UserError as error:
        pytest.skip(str(error))

    def make(folder: Path) -> None:
        model = rejecting(spoken_checkpoint, 0.5, folder)
        for kind, options in (("float32", ["--float32"]), ("int8", [])):
            result = forks.run([*COMMAND, "--checkpoint", model, "--output", kind, *options], folder)
            assert (result.returncode, result.stderr) == (0, "")
            assert f"Wrote {kind}: " in result.stdout

    return once(tmp_path_factory, "web", make)


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serves a folder as in the documentation; yields its address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            port = re.search(r"port (\d+)", process.stdout.readline())
            assert port is not None
            yield f"http://127.0.0.1:{port[1]}/"
        finally:
            process.terminate()


@contextmanager
def chromium(playwright: Playwright, *arguments: str) -> Iterator[Browser]:
    """A browser that finds no host but this one."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", NO_NETWORK, *arguments])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def site(exported: Path) -> Iterator[str]:
    with static_server(exported) as url:
        yield url


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with chromium(playwright) as opened:
        yield opened


def recognized(page: Page, name: str, content: bytes) -> dict[str, Any]:
    """Returns what the page's backend answers to a recording."""
    found: dict[str, Any] = page.evaluate(
        """async ([name, bytes]) => {
          const { recognize } = await import("./backend.js");
          return await recognize(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name), name, 240);
        }""",
        [name, base64.b64encode(content).decode()],
    )
    return found


def encoded(samples: Any, rate: int, form: str = "WAV", subtype: str | None = None) -> bytes:
    """Returns a recording of samples [T] or [C, T]."""
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples).T, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def answers(exported: Path) -> Answers:
    """Answers as `serve` gives them."""
    return Answers(Models(load_speller(exported / "model.pt", device="cpu"), "model"))


@pytest.fixture(scope="module")
def spoken(synthetic_corpus: Path) -> list[tuple[Array, int]]:
    """Spoken letters and their sample rates."""
    paths = sorted(synthetic_corpus.parent.rglob("*.wav"))[::45]
    return [soundfile.read(path, dtype="float32") for path in paths]


def require_equal(found: dict[str, Any], expected: dict[str, Any], probability: float = 2e-3) -> None:
    """Compares an answer of the page with one of `serve`."""
    assert "error" not in found, found
    assert found.keys() == expected.keys()
    assert [found[key] for key in ("path", "letter", "more", "note")] == [
        expected[key] for key in ("path", "letter", "more", "note")
    ]
    assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=probability)
    assert found["seconds"] == pytest.approx(expected["seconds"], abs=1e-3)
    assert found["waveform"] == pytest.approx(expected["waveform"], abs=2e-3)
    for edge in ("start", "end"):
        assert found[edge] == (None if expected[edge] is None else pytest.approx(expected[edge], abs=0.011))


def test_answers_equal_those_of_serve(
    site: str, browser: Browser, answers: Answers, spoken: list[tuple[Array, int]], tmp_path: Path
) -> None:
    page, problems, requests = opened(browser, f"{site}float32/")
    rng = np.random.default_rng(0)
    recordings: dict[str, bytes] = {}
    for number, (samples, rate) in enumerate(spoken[:6]):
        longer = np.pad(samples, (rate, 2 * rate)) + 1e-3 * rng.standard_normal(len(samples) + 3 * rate)
        kinds = [
            ("PCM_16", samples),
            ("FLOAT", longer),
            ("PCM_24", [samples, -samples]),
            ("PCM_U8", samples),
            ("ULAW", samples + 0.05),
            ("ALAW", longer),
        ]
        subtype, values = kinds[number]
        recordings[f"{subtype}.wav"] = encoded(values, rate, "WAV", subtype)
    samples, rate = spoken[0]
    recordings["flac.flac"] = encoded([samples, samples], rate, "FLAC")
    recordings["two letters.wav"] = encoded(np.tile(np.trim_zeros(samples), 2), rate)
    recordings["44100.wav"] = encoded(clip(44_100), 44_100)
    recordings["cut off.wav"] = recordings["PCM_16.wav"][: 2 * len(recordings["PCM_16.wav"]) // 3]
    streamed = bytearray(recordings["PCM_16.wav"])
    streamed[4:8] = streamed[40:44] = b"\xff\xff\xff\xff"
    recordings["streamed.wav"] = bytes(streamed)
    for name, content in recordings.items():
        (tmp_path / name).write_bytes(content)
        expected = answers.letter(tmp_path / name, name, 240)
        require_equal(recognized(page, name, content), expected)
        assert expected["more"] or name != "two letters.wav"
    for form, subtype in (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):  # whose decoders differ a little
        content = encoded(np.pad(samples, rate), rate, form, subtype)
        (tmp_path / form).write_bytes(content)
        found, expected = recognized(page, form, content), answers.letter(tmp_path / form, form, 240)
        assert found["letter"] == expected["letter"]
        assert found["probability"] == pytest.approx(expected["probability"], abs=0.05)
        assert found["seconds"] == pytest.approx(expected["seconds"], abs=0.06)
    assert problems == []
    assert all(url.startswith((site, "data:")) for url in requests)
    page.close()


def test_int8_recognises_the_same_letters(
    site: str, browser: Browser, answers: Answers, spoken: list[tuple[Array, int]], tmp_path: Path
) -> None:
    page, _, _ = opened(browser, f"{site}int8/")
    same = []
    for samples, rate in spoken:
        (tmp_path / "letter.wav").write_bytes(encoded(samples, rate))
        found = recognized(page, "letter.wav", (tmp_path / "letter.wav").read_bytes())
        expected = answers.letter(tmp_path / "letter.wav", "letter.wav", 240)
        same.append(found["ranked"][0][0] == expected["ranked"][0][0])
    assert len(same) > 8
    assert np.mean(same) > 0.85
    page.close()


def drop(page: Page, *recordings: tuple[str, bytes]) -> None:
    """Drops files on the page."""
    data = page.evaluate_handle(
        """files => {
          const data = new DataTransfer();
          for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
          return data;
        }""",
        [[name, list(content)] for name, content in recordings],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})


def status(page: Page, expected: str) -> None:
    """Waits until the page says something, a regular expression."""
    page.wait_for_function("text => new RegExp(text).test(document.getElementById('status').textContent)", arg=expected)


def test_letters_are_shown_dropped_and_said(
    site: str, playwright: Playwright, answers: Answers, spoken: list[tuple[Array, int]], tmp_path: Path
) -> None:
    found = []
    for number, (samples, rate) in enumerate(spoken):
        noise = 5e-4 * np.random.default_rng(number).standard_normal(len(samples) + 3 * rate)
        path = tmp_path / f"{number}.wav"
        path.write_bytes(encoded(np.pad(0.5 * samples / np.abs(samples).max(), (rate, 2 * rate)) + noise, rate))
        answer = answers.letter(path, path.name, 0)
        found.append((answer["probability"] if answer["letter"] else 0.0, answer["letter"], path))
    _, letter, path = max(found)
    with chromium(playwright, *FAKE_MICROPHONE, f"--use-file-for-fake-audio-capture={path}%noloop") as browser:
        page, problems, requests = opened(browser, f"{site}int8/")
        drop(page, (path.name, path.read_bytes()))
        status(page, f"^Recognised {letter}")
        assert page.inner_text("#letter") == page.inner_text("#word") == letter
        assert page.locator("#ranked li").count() == 3
        assert re.fullmatch(r"Letter from [\d.]+ to [\d.]+ s of [\d.]+ s", page.inner_text("#place"))
        page.click("#record")
        page.wait_for_function(f"() => document.getElementById('word').textContent === '{2 * letter}'", timeout=20_000)
        assert "stay in this browser" in page.inner_text("footer")
        assert problems == []
        assert all(url.startswith((site, "data:")) for url in requests)


@pytest.mark.slow
def test_mistakes_are_one_sentence(site: str, exported: Path, browser: Browser) -> None:
    page, problems, _ = opened(browser, f"{site}int8/")
    rate = 16_000
    for name, content, expected in [
        ("notes.txt", b"dear diary", "notes.txt: cannot be decoded as audio"),
        ("page.wav", b"<!doctype html>" * 100, "page.wav: cannot be decoded as audio"),
        ("empty.wav", b"", "empty.wav: cannot be decoded as audio"),
        ("header.wav", encoded([], rate), "header.wav: contains no samples"),
        ("broken.mp3", b"ID3\x04" + bytes(3000), "broken.mp3: cannot be decoded as audio"),
        ("broken.ogg", b"OggS" + bytes(3000), "broken.ogg: cannot be decoded as audio"),
        ("hush.wav", encoded(np.zeros(rate), rate), "hush.wav: is silent"),
        ("short.wav", encoded(clip(rate, 0.03), rate), r"short.wav: is too short \(0.030 s\)"),
        ("long.wav", encoded(clip(8000, 61.0), 8000), "long.wav: expected at most 60 s, found 61.00 s"),
        ("nan.wav", encoded(np.full(rate, np.nan), rate, subtype="FLOAT"), "nan.wav: contains samples that are not"),
        ("loud.wav", encoded(np.full(rate, 3e4), rate, subtype="FLOAT"), "loud.wav: contains samples that are not"),
    ]:
        drop(page, (name, content))
        status(page, f"^{expected}")
        assert page.is_hidden("#answer")
    drop(page, ("noise.wav", encoded(1e-3 * np.random.default_rng(0).standard_normal(rate), rate)))
    page.wait_for_selector("#answer:not([hidden])")
    assert problems == []
    blocked = page.evaluate("fetch('http://127.0.0.1:1/').then(() => 'loaded', (error) => error.name)")
    assert blocked == "TypeError"
    assert any("Content Security Policy" in problem for problem in problems)
    page.close()


def test_a_blocked_microphone_and_a_page_without_a_server_are_reported(
    site: str, exported: Path, playwright: Playwright, browser: Browser
) -> None:
    with chromium(playwright, "--deny-permission-prompts", FAKE_MICROPHONE[0]) as strict:
        page, problems, _ = opened(strict, f"{site}int8/")
        page.click("#record")
        status(page, "^The microphone is blocked; allow it in the browser, or choose a file.")
        assert problems == []
    page = browser.new_page()
    page.goto((exported / "int8" / "index.html").as_uri())
    assert "python -m http.server" in page.inner_text("#status")
    page.route("**/model.onnx", lambda route: route.abort())
    page.goto(f"{site}int8/")
    drop(page, ("letter.wav", encoded(clip(16_000), 16_000)))
    status(page, "^The model cannot be loaded")
    page.close()


def seconds(page: Page, samples: Array, rate: int) -> tuple[list[Array], dict[str, Any]]:
    """Returns the seconds that the page finds in a recording [C, T], and what is said of them."""
    found = page.evaluate(
        """async ([bytes, count, rate]) => {
          const load = async () => [await import("./channels.js"), await import("./resampling.js"),
            await import("./recognizer.js"), await (await fetch("settings.json")).json()];
          const [{ mix }, { resample }, { findSeconds }, settings] = await (window.loading ??= load());
          const all = new Float32Array(Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)).buffer);
          const length = all.length / count;
          const channels = Array.from({ length: count }, (_, c) => all.slice(c * length, (c + 1) * length));
          const { samples, note } = mix(channels, rate, settings.channels);
          const seconds = findSeconds(resample(samples, rate, settings.sample_rate, settings.resampling), settings);
          const keys = ["first", "score", "long", "voices"];
          const about = Object.fromEntries(keys.map((key) => [key, seconds.map((one) => one[key])]));
          return { note, waveforms: seconds.map((one) => [...one.waveform].map((value) => value * 32768)), ...about };
        }""",
        [base64.b64encode(np.ascontiguousarray(samples, np.float32).tobytes()).decode(), len(samples), rate],
    )
    return [(np.array(one) / 32_768).astype(np.float32) for one in found.pop("waveforms")], found


def same_seconds(page: Page, samples: Array, rate: int, audio: AudioInput = DEFAULT_INPUT) -> bool:
    """Whether the page reads the same seconds of a recording [C, T] as Python, to the last bit but one."""
    mixed = mix_at(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), rate, audio.sample_rate)
    best = Second.of(mixed, audio)
    expected = [best, *best.rivals]
    waveforms, found = seconds(page, samples, rate)
    about = {"note": mixed.note} | {key: [getattr(one, key) for one in expected] for key in ("first", "long", "voices")}
    return (
        about == {key: found[key] for key in about}
        and found["score"] == pytest.approx([one.score for one in expected], abs=0.05)
        and all(np.abs(mine - one.waveform.numpy()).max() < HALF for mine, one in zip(waveforms, expected, strict=True))
    )


@contextmanager
def page_without_model(checkpoint: Checkpoint, browser: Browser, folder: Path) -> Iterator[Page]:
    """A page with the JavaScript of an exported one."""
    for name, content in page_files(checkpoint, "letters").items():
        (folder / name).write_bytes(content)
    (folder / "index.html").write_text("<!doctype html>")
    with static_server(folder) as url:
        page = browser.new_page()
        page.goto(url)
        yield page
        page.close()


@pytest.fixture(scope="module")
def steps(spoken_checkpoint: Path, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_without_model(load_checkpoint(spoken_checkpoint), browser, tmp_path_factory.mktemp("steps")) as page:
        yield page


def disturbed(mono: Array, rate: int, seed: int) -> list[Array]:
    """Returns recordings [C, T] of a letter with what microphones add."""
    noise = np.random.default_rng(seed).standard_normal(len(mono) + 3 * rate).astype(np.float32)
    here, time = noise[: len(mono)], np.arange(len(mono)) / rate
    longer = np.pad(mono, (rate, 2 * rate)) + 1e-3 * noise
    later = np.arange(len(longer)) / rate
    hum = np.sum([np.sin(2 * np.pi * 59.9 * n * later + n * n) / n for n in range(1, 16)], 0)
    return [
        mono[None],
        np.stack([mono, -mono]),
        np.stack([mono, 1e-3 * here]),
        np.stack([mono, np.clip(30 * mono, -0.5, 0.5), mono + 0.05 * here]),
        (longer + 2e-3 * noise)[None],
        (longer + 0.05 * hum)[None],
        (longer + 0.05 * np.sign(np.sin(2 * np.pi * 60 * later)))[None],
        (longer + 0.2 * (later < 0.6) * np.sign(np.sin(2 * np.pi * 300 * later)))[None],
        (mono + 0.3)[None],
        (mono + 0.1 * np.sin(2 * np.pi * 50 * time))[None],
        np.clip(20 * mono, -0.9, 0.9)[None],
        np.concatenate([longer, 0.8 * longer])[None],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 22_051])
def test_generated_recordings_are_placed_as_in_python(steps: Page, rate: int) -> None:
    for number, length in enumerate((0.06, 1.0, 2.5)):
        for recording in disturbed(clip(rate, length, seed=rate), rate, seed=rate)[(number + rate) % 3 :: 3]:
            assert same_seconds(steps, recording, rate)


@pytest.mark.slow
def test_other_inputs_are_placed_as_in_python(browser: Browser, tmp_path: Path) -> None:
    for sample_rate, length in ((8000, 1.0), (22_050, 2.0), (16_000, 0.5)):
        config = load_config(
            None, [f"input={{sample_rate: {sample_rate}, seconds: {length}}}", 'labels=["yes", no thanks]']
        )
        checkpoint = Checkpoint(config, SpeechClassifier(config), None, [])
        audio = checkpoint.model.audio
        assert (audio.sample_rate, audio.num_samples) == (sample_rate, sample_rate * length)
        with page_without_model(checkpoint, browser, tmp_path) as page:
            assert page.evaluate("fetch('settings.json').then(r => r.json()).then(s => s.labels)") == [
                "yes",
                "no thanks",
            ]
            for first, rate in enumerate((8000, 44_100)):
                for recording in disturbed(clip(rate, 1.5, seed=rate), rate, seed=rate)[first::3]:
                    assert same_seconds(page, recording, rate, audio)


def test_what_is_no_letter_is_placed_as_in_python(steps: Page) -> None:
    rng = np.random.default_rng(0)
    for samples in (
        np.zeros(16_000),
        np.ones(16_000) / 2,
        np.full(1, 0.1),
        0.1 * rng.standard_normal(30_000),
        (np.arange(20_000) == 9000) * 0.9,
        0.3 * np.sin(0.3 * np.arange(40_000)),
        np.repeat(rng.standard_normal(100), 300) * 0.1,
    ):
        assert same_seconds(steps, np.asarray(samples, np.float32)[None], 16_000)


@pytest.mark.corpus
@pytest.mark.slow
def test_real_recordings_are_placed_as_in_python(steps: Page, real_recordings: Path) -> None:
    suffixes = (".wav", ".mp3", ".ogg")
    paths = [path for path in sorted((real_recordings / "prompts").rglob("*")) if path.suffix in suffixes]
    same = []
    for number, path in enumerate(paths[::29]):
        waveform, rate = load(path)
        if waveform.shape[1] > 10 * rate:
            continue
        same.append(same_seconds(steps, waveform.numpy(), rate))
        same.append(same_seconds(steps, disturbed(waveform[0].numpy(), rate, number)[1 + number % 11], rate))
    assert len(same) > 40
    assert np.mean(same) > 0.97
