"""The microphone: a stream that reads a file, and PortAudio with a microphone that ALSA feeds from a file."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from speechmlp.audio.microphone import record
from speechmlp.errors import UserError
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
