"""Speech and pauses."""

import numpy as np
import pytest
import torch

from speechmlp.config.schema import AlignedConfig
from speechmlp.models.pauses import speech_parts
from speechmlp.models.spectrum import MelSpectrum

RATE = 16_000
SPECTRUM = MelSpectrum(AlignedConfig(), padding="constant", mean_power=True)


def parts_of(wave: np.ndarray, pause: int) -> list[tuple[int, int]]:
    return speech_parts(SPECTRUM(torch.from_numpy(wave.astype(np.float32))[None])[0], pause)


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("level", [0.01, 0.5])
def test_sounds_between_pauses(noise: float, level: float) -> None:
    generator = np.random.default_rng(0)
    wave = generator.normal(0, 1, 3 * RATE) * noise * level
    # A vowel, a stop's closure of 90 ms, a faint fricative; a pause of 0.5 s; a vowel.
    tone = np.sin(2 * np.pi * 250 * np.arange(RATE) / RATE)
    wave[8_000:12_000] += level * tone[:4_000]
    hiss = np.diff(generator.normal(0, 0.05 * level, 3_201))
    wave[13_440:16_640] += hiss
    wave[24_640:30_000] += level * tone[:5_360]
    found = parts_of(wave, 12)
    assert len(found) == 2
    assert [edge for part in found for edge in part] == pytest.approx([50, 104, 154, 188], abs=4)
    assert len(parts_of(wave, 5)) == 3
    assert len(parts_of(wave, 80)) == 1


def test_silence_has_no_parts_and_one_sound_is_one_part() -> None:
    assert parts_of(np.zeros(RATE), 10) == []
    assert parts_of(np.zeros(1), 10) == []
    tone = 0.1 * np.sin(2 * np.pi * 400 * np.arange(8_000) / RATE)
    click = np.zeros(RATE)
    click[8_000] = 1.0
    assert parts_of(np.concatenate([np.zeros(4_000), tone, np.zeros(4_000)]), 10)[0][0] == pytest.approx(25, abs=3)
    assert all(last - first < 8 for first, last in parts_of(click, 10))
