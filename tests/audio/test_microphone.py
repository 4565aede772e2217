"""The microphone: a stream that reads a file, and PortAudio with a microphone that ALSA feeds from a file."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from speechmlp.audio.microphone import LISTENER, listen, record
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import joined_words
from tests.conftest import Run, tone

RATE = 16_000
QUIET = np.random.default_rng(0).normal(0, 3e-4, 20 * RATE).astype(np.float32)


def has_portaudio() -> bool:
    if importlib.util.find_spec("sounddevice") is None or not Path("/usr/share/alsa/alsa.conf").exists():
        return False
    try:
        import sounddevice  # noqa: F401
    except OSError:
        return False
    return True


class Tape:
    """A stream of given samples: int16 blocks, with silence after the end."""

    samplerate = float(RATE)

    def __init__(self, *parts: NDArray[np.float32]) -> None:
        self.samples = (np.concatenate([*parts, QUIET, QUIET]) * 32767).astype(np.int16)
        self.position = 0

    def read(self, frames: int) -> tuple[NDArray[Any], bool]:
        self.position += frames
        return self.samples[self.position - frames : self.position, None], False


def test_an_utterance_is_recorded_with_its_beginning_and_little_else() -> None:
    hum = tone(300, 0.4, level=0.3)
    screen = io.StringIO()
    found = record(Tape(QUIET[: 2 * RATE], hum), 0.6, screen).numpy()
    loud = np.flatnonzero(np.abs(found) > 0.1)
    assert 0.2 * RATE < loud[0] < 0.4 * RATE
    assert loud[-1] - loud[0] == pytest.approx(len(hum), abs=0.02 * RATE)
    assert len(found) < 1.5 * RATE
    assert "dBFS" in screen.getvalue()
    assert screen.getvalue().endswith("\r")  # cleared


@pytest.mark.parametrize("offset", [0.01, -0.03, 0.06, 0.3])
@pytest.mark.parametrize("settling", [np.inf, 0.1])
def test_an_offset_of_the_sound_card_is_neither_speech_nor_deafening(offset: float, settling: float) -> None:
    quiet = QUIET[: 2 * RATE]
    parts = [np.concatenate([quiet, tone(300, 0.4, level=0.1), QUIET])]
    drift = offset * np.exp(-np.arange(len(parts[0])) / RATE / settling)
    tape = Tape(parts[0] + drift.astype(np.float32))
    found = record(tape, 0.6).numpy()
    assert 1.0 < len(found) / RATE < 1.6
    spoken = np.abs(found - np.median(found)) > 0.05
    assert np.flatnonzero(spoken)[-1] - np.flatnonzero(spoken)[0] == pytest.approx(0.4 * RATE, abs=0.02 * RATE)


def test_a_click_is_not_speech_and_a_short_gap_is_not_the_end() -> None:
    click = tone(300, 0.01, level=0.5)
    hum = tone(300, 0.3, level=0.3)
    found = record(Tape(QUIET[:RATE], click, QUIET[:RATE], hum, QUIET[: RATE // 4], hum), 0.6).numpy()
    loud = np.flatnonzero(np.abs(found) > 0.1)
    assert loud[-1] - loud[0] == pytest.approx(0.85 * RATE, abs=0.05 * RATE)


def test_silence_and_endless_noise_are_errors() -> None:
    with pytest.raises(UserError, match="no sound in 15 s"):
        record(Tape(), 0.6)
    with pytest.raises(UserError, match="no pause in 60 s"):
        record(Tape(*[QUIET[: RATE // 2], tone(300, 0.3)] * 80), 0.6)


@pytest.mark.skipif(not has_portaudio(), reason="no sounddevice, PortAudio or ALSA")
def test_the_command_records_through_portaudio(
    tmp_path: Path, run_python: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = np.concatenate([QUIET[:RATE], tone(300, 0.4, level=0.3), QUIET[: 3 * RATE]])
    (said * 32767).astype("<i2").tofile(tmp_path / "said.raw")
    (tmp_path / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        "pcm.!default { type plug slave.pcm { type file slave.pcm { type null } "
        f'file "/dev/null" infile "{tmp_path / "said.raw"}" format "raw" }} }}\n'
    )
    command = ["-m", "speechmlp.predict", "--microphone", "--format", "jsonl"]
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    result = run_python(*command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('{"path": "microphone", ')
    assert "Say a letter" in result.stderr
    (tmp_path / "asound.conf").write_text("</usr/share/alsa/alsa.conf>\npcm.!default { type hw card 99 }\n")
    unplugged = run_python(*command)
    assert unplugged.returncode == 2
    assert "microphone: cannot be opened" in unplugged.stderr


class Unplugged(Tape):
    """A stream that ends with an error."""

    def read(self, frames: int) -> tuple[NDArray[Any], bool]:
        if self.position > len(self.samples) - 40 * RATE:
            raise OSError("Unanticipated host error [PaErrorCode -9999]")
        return super().read(frames)


def test_what_is_heard_is_complete_until_the_microphone_is_taken_away() -> None:
    tape = Unplugged(tone(300, 2.0))
    heard: list[NDArray[np.int16]] = []
    with pytest.raises(UserError, match=r"microphone: it was taken away \(Unanticipated host error"):
        heard.extend(listen(tape))
    samples = np.concatenate(heard)
    assert np.array_equal(samples, tape.samples[: len(samples)])
    assert len(samples) >= 2 * RATE


def test_the_listening_thread_ends_with_its_reader() -> None:
    heard = listen(Tape(tone(300, 1.0)))
    next(heard)
    heard.close()
    assert not any(thread.name == LISTENER for thread in threading.enumerate())


@pytest.mark.skipif(not has_portaudio(), reason="no sounddevice, PortAudio or ALSA")
@pytest.mark.slow
def test_the_command_spells_until_ctrl_c(tmp_path: Path, synthetic_corpus: Path) -> None:
    letters = [one for one in read_manifest(synthetic_corpus) if one.split == "test"]
    word = next(joined_words(letters, 0.5, []))
    said = np.concatenate([QUIET[:RATE], word.samples.numpy(), QUIET, QUIET, QUIET])
    (said * 32767).astype("<i2").tofile(tmp_path / "said.raw")
    (tmp_path / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        "pcm.!default { type plug slave.pcm { type file slave.pcm { type null } "
        f'file "/dev/null" infile "{tmp_path / "said.raw"}" format "raw" }} }}\n'
    )
    (tmp_path / "words.txt").write_text(f"{word.text}\nother\n")
    command = [sys.executable, "-m", "speechmlp.predict", "--microphone", "--continuous", "--format", "jsonl"]
    with subprocess.Popen(
        [*command, "--words", "words.txt", "--device", "cpu"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())  # while it goes on
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0, errors
    assert first["letter"] in word.text
    assert {name for name, _ in first["words"]} == {word.text, "other"}
    text = first["letter"] + "".join(json.loads(line)["letter"] for line in rest.splitlines())
    assert "Ctrl-C ends" in errors
    assert f"spelled: {text}\nwords: " in errors
