"""Recording through PortAudio from a virtual microphone: an ALSA device that reads a file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.corpora.takes import find_problems
from speechmlp.data.manifest import read_manifest
from speechmlp.record import main
from tests.conftest import Run, tone

try:
    import sounddevice  # noqa: F401
except (ImportError, OSError):
    pytest.skip("sounddevice or PortAudio is not installed", allow_module_level=True)
if not sys.platform.startswith("linux"):
    pytest.skip("the virtual microphone is ALSA's", allow_module_level=True)

Record = Callable[..., "subprocess.CompletedProcess[str]"]


LENGTH = 12_800
"""Samples of a take: 0.8 s at 16 kHz; the virtual microphone runs in real time."""


def spoken(level: float = 0.3, first: float = 0.25) -> np.ndarray:
    """Returns a take, int16: a sound of 0.3 s in faint noise."""
    samples = 3e-4 * np.random.default_rng(0).normal(size=LENGTH)
    begin = round(16_000 * first)
    sound = tone(700, 0.3, level=level) * np.hanning(4800)
    part = samples[begin : begin + len(sound)]
    part += sound[: len(part)]
    return (32_767 * np.clip(samples, -1, 1)).astype("<i2")


@pytest.fixture
def record(tmp_path: Path, run_python: Run, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Runs the command with a microphone that records the given samples in every take, and with key presses."""

    def run(samples: np.ndarray, keys: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        np.tile(samples, 4).tofile(tmp_path / "microphone.raw")
        (tmp_path / "asoundrc").write_text(
            f'pcm.mic {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{tmp_path}/microphone.raw" '
            "format raw }\n"
            "pcm.!default { type plug slave { pcm mic format S16_LE rate 16000 channels 1 } }\n"
        )
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asoundrc"))
        return run_python("-m", "speechmlp.record", "--seconds", "0.8", *arguments, stdin=keys.encode())

    return run


def test_recorded_letters_become_a_corpus(record: Record, tmp_path: Path) -> None:
    result = record(spoken(), "\n\ns\nq\n", "--speaker", "anna", "--letters", "AB", "--takes", "2", "--seed", "1")
    assert result.returncode == 0, result.stderr
    assert "4 letters to say" in result.stdout
    assert "1/4  say  " in result.stdout
    assert "Kept: 2, skipped: 1" in result.stdout
    files = sorted((tmp_path / "recordings").glob("?/anna_nohash_?.wav"))
    assert len(files) == 2
    samples, rate = soundfile.read(files[0], dtype="int16")
    assert (rate, len(samples)) == (16_000, LENGTH)
    assert np.array_equal(samples, spoken())  # the microphone's samples, unchanged
    # A second run asks for the missing letters; other speakers add to the same folder.
    again = record(spoken(), "\n" * 9, "--speaker", "anna", "--letters", "AB", "--takes", "2")
    assert "2 letters to say" in again.stdout
    for speaker in ("bob", "carl"):
        last = record(spoken(), "\n" * 9, "--speaker", speaker, "--letters", "ab", "--takes", "1")
    assert "corpus.shared_speakers" in again.stdout
    assert "corpus.shared_speakers" not in last.stdout
    utterances = read_manifest(tmp_path / "recordings" / "manifest.tsv")
    assert len(utterances) == 8
    assert {utterance.split for utterance in utterances} == {"train", "valid", "test"}


def test_other_labels_are_recorded(record: Record, tmp_path: Path) -> None:
    result = record(spoken(), "\n" * 9, "--speaker", "anna", "--labels", "A", "7", "stop now", "--takes", "1")
    assert result.returncode == 0, result.stderr
    assert {path.parent.name for path in tmp_path.glob("recordings/*/*.wav")} == {"a", "7", "stop now"}
    assert 'labels=\'["A", "7", "stop now"]\'' in result.stdout
    assert "--labels A 7 'stop now'" in result.stdout
    wrong = record(spoken(), "", "--speaker", "anna", "--labels", "A", "a/b")
    assert wrong.stderr == "error: --labels: expected texts that are names of folders too, found 'a/b'\n"


@pytest.mark.parametrize(
    ("samples", "advice"),
    [
        (np.zeros(LENGTH, "<i2"), "silence; is this the right microphone?"),
        (spoken(level=4.0), "too loud; turn the gain down"),
    ],
)
def test_bad_takes_are_repeated_and_not_kept(samples: np.ndarray, advice: str, record: Record, tmp_path: Path) -> None:
    result = record(samples, "\n" * 9, "--speaker", "anna", "--letters", "Q", "--takes", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(advice) == 3
    assert result.stdout.count("please say it again") == 2
    assert "Kept: 0, skipped: 1" in result.stdout
    assert not list(tmp_path.glob("recordings/*/*"))


@pytest.mark.parametrize(
    ("samples", "kinds"),
    [
        (spoken(), []),
        (spoken(first=0.65), ["late"]),
        (spoken()[5000:], ["early"]),
        (spoken(level=0.008), ["quiet"]),
        (spoken(level=0.0015), ["noisy", "quiet"]),
        (spoken(level=0.001), ["silent"]),
    ],
)
def test_level_and_edges_are_checked(samples: np.ndarray, kinds: list[str]) -> None:
    waveform = torch.from_numpy(samples.astype("float32") / 32768)[None]
    assert [kind for kind, _ in find_problems(waveform, 16_000)] == kinds


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--speaker", "a/b"], "--speaker: expected letters, digits"),
        (["--speaker", "a", "--letters", "A1"], "--letters: expected letters A to Z"),
        (["--speaker", "a", "--seconds", "nan"], "--seconds of 0.5 to 10"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert problem in error


def test_microphones_are_listed_and_unknown_ones_refused(record: Record) -> None:
    assert "mic" in record(spoken(), "", "--speaker", "x", "--list-devices").stdout
    result = record(spoken(), "\n", "--speaker", "x", "--device", "77")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "microphone: cannot be opened" in result.stderr
    assert "--list-devices lists them" in result.stderr
