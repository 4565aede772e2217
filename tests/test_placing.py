"""`speechmlp.placing`, which needs no torch, compared with the recognizer and with torchaudio."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

from speechmlp.audio.decoding import load
from speechmlp.errors import UserError
from speechmlp.placing import place, resample
from speechmlp.recognition.inputs import as_mono
from speechmlp.recognition.recognizer import Second, load_recognizer
from tests.conftest import ROOT
from tests.forks import Forks

HALF = 1.01 / 32_768
"""What rounding to 16 bits makes of a difference by rounding."""


def product(samples: Any, rate: int) -> NDArray[np.float32]:
    """Returns the second that the recognizer reads first."""
    return Second.of(as_mono(samples, rate)).waveform.numpy()


def clip(rate: int, seconds: float = 3.0, seed: int = 0) -> NDArray[np.float32]:
    """Returns a recording with a click, a vowel of 0.3 s anywhere, and noise."""
    rng = np.random.default_rng(seed)
    samples = 2e-3 * rng.standard_normal(round(seconds * rate))
    length = min(len(samples), round(0.3 * rate))
    time = np.arange(length) / rate
    harmonics = np.arange(1, max(2, int(min(3000, 0.4 * rate) / 130)))
    weight = np.exp(-(((harmonics * 130 - rng.uniform(300, 800)) / 300) ** 2)) + 0.05
    vowel = (weight[:, None] * np.sin(2 * np.pi * 130 * harmonics[:, None] * time)).sum(0) * np.hanning(length)
    first = int(rng.integers(0, len(samples) - length + 1))
    samples[first : first + length] += 0.3 * vowel / max(1e-9, np.abs(vowel).max())
    samples[len(samples) // 9] += 0.4
    return np.asarray(samples, np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 12500, 22050, 24000, 32000, 44100, 48000, 96000, 100, 768_000])
@pytest.mark.parametrize("seconds", [1.0, 0.33, 0.0])
def test_resampling_equals_that_of_torchaudio(rate: int, seconds: float) -> None:
    wave = np.random.default_rng(rate).random(1 + int(rate * seconds), np.float32) - np.float32(0.5)
    theirs = torchaudio.transforms.Resample(rate, 16_000)(torch.from_numpy(wave)).numpy()
    ours = resample(wave, rate)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 3e-6


def test_long_recordings_are_resampled_in_blocks() -> None:
    wave = np.random.default_rng(0).random(24_000 * 9, np.float32) - np.float32(0.5)
    theirs = torchaudio.transforms.Resample(24_000, 16_000)(torch.from_numpy(wave)).numpy()
    assert np.abs(resample(wave, 24_000) - theirs).max() < 3e-6


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000, 22_051])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0])
def test_it_is_the_second_that_the_recognizer_reads(rate: int, seconds: float) -> None:
    mono = clip(rate, seconds, seed=rate)
    quiet = 2e-3 * np.random.default_rng(1).standard_normal(len(mono))
    kinds = [mono, [mono, quiet], [mono, -mono], (mono * 32_767).astype(np.int16), mono.astype(">f8"), mono[::-1]]
    for samples in kinds:
        found = place(samples, rate)
        assert found.dtype == np.float32
        assert found.shape == (16_000,)
        assert np.abs(found - product(samples, rate)).max() < HALF
        assert np.abs(found).max() > 0.01


@pytest.mark.corpus
def test_it_is_that_second_in_real_recordings(real_recordings: Path) -> None:
    suffixes = (".wav", ".mp3", ".ogg")
    paths = [path for path in sorted((real_recordings / "prompts").rglob("*")) if path.suffix in suffixes]
    equal = []
    for path in paths[::8]:
        try:
            waveform, rate = load(path)
        except UserError:
            continue
        equal.append(np.abs(place(waveform.numpy(), rate) - product(waveform, rate)).max() < HALF)
    assert len(equal) > 50
    assert np.mean(equal) > 0.99


@pytest.mark.parametrize(
    ("samples", "rate", "expected"),
    [
        ([], 16_000, "waveform: expected samples, found none"),
        (np.zeros((48_000, 2)), 44_100, r"expected samples \[T\] or \[C, T\], found shape \[48000, 2\]"),
        ([0.0, float("nan")], 16_000, "holds NaN or infinite samples"),
        (np.full(10, 1e39), 16_000, "holds NaN or infinite samples"),
        (np.array([20_000.0]), 16_000, "expected samples between -1 and 1, found 20000; divide by the full scale"),
        ("clip.wav", 16_000, "expected real samples"),
        ([0.0], 0, "sample_rate: expected 1 to 768000 Hz, a whole number, found 0"),
        ([0.0], None, "sample_rate: expected 1 to 768000 Hz, a whole number, found None"),
        ([0.0], 44.1, "sample_rate: expected 1 to 768000 Hz, a whole number, found 44.1"),
    ],
)
def test_mistakes_are_one_line(samples: Any, rate: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        place(samples, rate)


@pytest.mark.parametrize("samples", [[0.0], np.zeros(3, np.uint8) + 128, np.zeros((2, 5))])
def test_silence_and_single_samples_give_silence(samples: Any) -> None:
    assert np.array_equal(place(samples, 44_100), np.zeros(16_000))


def snippet() -> str:
    """Returns the program in docs/use.md that runs an ONNX file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "use.md").read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if "InferenceSession" in block]
    return str(found)


@pytest.mark.slow
def test_the_documented_program_runs_without_torch(
    spoken_checkpoint: Path, synthetic_corpus: Path, forks: Forks, tmp_path: Path
) -> None:
    result = forks.run(["-m", "speechmlp.export", "--checkpoint", spoken_checkpoint], tmp_path)
    assert result.returncode == 0, result.stderr
    for package in ("torch", "torchaudio"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('not here')\n")
    program = snippet() + "\nimport sys; assert 'torch' not in sys.modules\n"
    spoken, rate = soundfile.read(next(iter(sorted(synthetic_corpus.parent.rglob("*A*.wav")))))
    wave = np.interp(np.arange(0, len(spoken), rate / 44_100), np.arange(len(spoken)), spoken)
    wave = np.resize(np.pad(wave, (44_100, 3 * 44_100)), 3 * 44_100)
    for channels in (1, 2):
        soundfile.write(tmp_path / "clip.wav", np.repeat(wave[:, None], channels, 1), 44_100)
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        expected = load_recognizer(spoken_checkpoint)(tmp_path / "clip.wav")
        letter, probability = result.stdout.split()
        assert letter == (expected.letter or "none")
        assert float(probability) == pytest.approx(expected.probability, abs=1e-3)
