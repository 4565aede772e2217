"""Resampling, compared with torchaudio's."""

import math
from fractions import Fraction

import pytest
import torch
import torchaudio

from speechmlp.audio.resampling import resample


@pytest.mark.parametrize("rate", [8000, 11025, 12500, 22050, 24000, 32000, 44100, 48000, 96000, 100, 768_000])
@pytest.mark.parametrize("seconds", [1.0, 0.33, 0.0])
def test_results_equal_those_of_torchaudio(rate: int, seconds: float) -> None:
    wave = torch.rand(1 + int(rate * seconds), generator=torch.Generator().manual_seed(rate)) - 0.5
    ours, theirs = resample(wave, rate, 16_000), torchaudio.transforms.Resample(rate, 16_000)(wave)
    assert ours.shape == theirs.shape == (math.ceil(len(wave) * Fraction(16_000, rate)),)
    assert (ours - theirs).abs().max() < 2e-6


def test_a_part_of_a_long_waveform_gives_that_part_of_the_result() -> None:
    wave = torch.rand(44_100 * 3, generator=torch.Generator().manual_seed(0)) - 0.5
    whole, part = resample(wave, 44_100, 16_000), resample(wave[44_100:], 44_100, 16_000)
    assert (whole[16_100:] - part[100:]).abs().max() < 2e-6  # beyond the kernel's reach


def test_equal_and_almost_equal_rates_change_nothing() -> None:
    wave = torch.rand(100)
    assert resample(wave, 16_000, 16_000) is wave
    assert resample(wave, 16_001, 16_000) is wave
