"""Steady hum is removed, and only that."""

import numpy as np
import pytest

from speechmlp.audio.hum import without_hum
from speechmlp.audio.placing import place
from speechmlp.audio_format import SAMPLE_RATE
from tests.audio.test_placing import Samples, recording, voice

RNG = np.random.default_rng(3)


def hum(base: float, level: float, harmonics: int, seconds: float = 3.0, slope: float = 1.5) -> Samples:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * base * n * time + RNG.uniform(0, 6)) / n**slope for n in range(1, harmonics + 1))
    return np.asarray(level * tones, np.float32)


def db(samples: Samples) -> float:
    return 10 * float(np.log10(np.square(samples, dtype=np.float64).mean() + 1e-20))


@pytest.mark.parametrize(
    ("base", "level", "harmonics"),
    [
        (50.0, 0.03, 6),
        (60.0, 0.1, 12),
        (100.0, 0.1, 10),
        (120.0, 0.3, 12),
        (49.83, 0.1, 8),
        (400.0, 0.1, 3),
        (180, 0.05, 1),
    ],
)
def test_hum_goes_and_the_voice_stays(base: float, level: float, harmonics: int) -> None:
    plain = recording((1.2, voice()))
    left = without_hum(plain + hum(base, level, harmonics)) - plain
    assert db(left) < db(hum(base, level, harmonics)) - 35


@pytest.mark.parametrize("seconds", [0.1, 0.39, 0.41, 1.0, 2.9, 6.5, 13.0])
def test_hum_in_recordings_of_any_length(seconds: float) -> None:
    plain = recording((seconds / 3, voice(min(0.4, seconds / 3))), seconds=seconds)
    noisy = plain + hum(60, 0.05, 8, seconds)[: len(plain)]
    found = without_hum(noisy)
    assert found.shape == noisy.shape
    assert found.dtype == np.float32
    if seconds > 1:
        assert db(found - plain) < db(noisy - plain) - 20


def test_a_recording_without_strong_hum_is_the_same_array() -> None:
    noise = 0.02 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    weak = recording((1.2, voice())) + hum(50, 0.002, 6)
    long = recording(*((0.45 * number, voice(0.4, 100 + 7 * number)) for number in range(6)))
    spectrum = np.fft.rfft(noise)
    spectrum[(60 * 3) :] = 0
    rumble = recording((1.2, voice())) + 5 * np.fft.irfft(spectrum, len(noise)).astype(np.float32)
    monotone = np.tile(voice(0.4), 8)
    for samples in (
        recording((1.2, voice())),
        noise,
        weak,
        long,
        rumble,
        monotone,
        voice(),
        np.zeros(40_000, np.float32),
    ):
        assert without_hum(samples) is samples


def test_hum_does_not_change_the_second_that_is_used() -> None:
    plain = recording((1.2, voice()))
    found, wanted = place(plain + hum(60, 0.1, 12)), place(plain)
    assert abs(found.first - wanted.first) < 0.05 * SAMPLE_RATE
    shift = found.first - wanted.first
    same = np.corrcoef(found.samples[4000:12_000], np.roll(wanted.samples, -shift)[4000:12_000])[0, 1]
    assert same > 0.999
