"""The second of a recording that is a model's input."""

import numpy as np
import pytest
from numpy.typing import NDArray

from speechmlp.audio.placing import Placing, place
from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from tests.conftest import tone

Samples = NDArray[np.float32]


def voice(seconds: float = 0.4, pitch: float = 120.0, level: float = 0.3) -> Samples:
    """Returns a diphthong: a pulse train that falls and trembles through moving resonances."""
    count = round(seconds * SAMPLE_RATE)
    along = np.linspace(0, 1, count)
    tremble = np.interp(along, np.linspace(0, 1, 40), 0.03 * np.random.default_rng(1).standard_normal(40))
    bend = 1.2 - 0.4 * along + tremble
    phase = np.cumsum(pitch * bend) / SAMPLE_RATE
    sound = np.zeros(count)
    for number in range(1, 40):
        frequency = number * pitch * bend
        gain = sum(
            1 / (1 + ((frequency - centre) / width) ** 2)
            for centre, width in ((550 - 200 * along, 90), (1700 + 500 * along, 130), (2700, 200))
        )
        sound += gain * np.sin(2 * np.pi * number * phase) / number**0.5
    sound *= np.minimum(1, np.minimum(along, 1 - along) * 12)
    return np.asarray((level * sound / np.abs(sound).max()).astype(np.float32))


def recording(*parts: tuple[float, Samples], seconds: float = 3.0) -> Samples:
    """Returns a recording in near silence with sounds at times in s."""
    samples = 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    for time, sound in parts:
        first = round(time * SAMPLE_RATE)
        samples[first : first + len(sound)] += sound[: len(samples) - first]
    return samples


def knock(level: float) -> Samples:
    time = np.arange(3200) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * 300 * time) * np.exp(-time / 0.02)).astype(np.float32)


def settling(size: float, seconds: float) -> Samples:
    return (size * np.exp(-np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE / seconds)).astype(np.float32)


DISTURBANCES = {
    "nothing": (0.0, np.zeros(1, np.float32)),
    "constant offset": (0.0, np.full(3 * SAMPLE_RATE, 0.5, np.float32)),
    "settling offset": (0.0, settling(0.5, 0.12)),
    "step": (2.6, np.full(SAMPLE_RATE, -0.4, np.float32)),
    "rumble": (0.0, tone(40, 3.0, level=0.4)),
    "thump": (0.3, 4 * tone(60, 0.2, level=0.2)),
    "knock before": (0.9, knock(0.9)),
    "knock after": (1.7, knock(0.9)),
    "click": (1.0, np.array([0.9, -0.9, 0.5], np.float32)),
    "beep before": (0.5, tone(1000, 0.3, level=0.9)),
    "beep after": (1.8, tone(440, 0.9, level=0.5)),
    "dual tone": (0.3, tone(697, 0.5, level=0.4) + tone(1336, 0.5, level=0.4)),
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_the_voice_is_taken_whole_and_nothing_else(name: str) -> None:
    spoken = voice()
    placed = place(recording((1.2, spoken), DISTURBANCES[name]))
    assert placed.samples.shape == (NUM_SAMPLES,)
    assert placed.samples.dtype == np.float32
    begin = round(1.2 * SAMPLE_RATE) - placed.first
    assert 800 < begin < NUM_SAMPLES - len(spoken) - 800
    inside = placed.samples[begin : begin + len(spoken)]
    assert float(np.corrcoef(inside, spoken)[0, 1]) > 0.97
    outside = np.concatenate([placed.samples[: begin - 800], placed.samples[begin + len(spoken) + 800 :]])
    assert float(np.square(outside).sum()) < 0.02 * float(np.square(inside).sum())


def test_the_letter_is_taken_and_not_the_sentence_after_it() -> None:
    sentence = np.concatenate([voice(0.3, pitch, 0.6) for pitch in (110, 130, 100, 120, 90)])
    placing = Placing(recording((0.5, voice()), (1.6, sentence), seconds=4.0))
    placed = placing.second()
    assert len(placing.stretches) == 2
    assert placed.first < round(0.5 * SAMPLE_RATE)
    assert placed.first + NUM_SAMPLES > round(0.9 * SAMPLE_RATE)


@pytest.mark.parametrize("length", [2, 4801, 15_999, 16_000])
def test_short_recordings_are_centred_between_zeros(length: int) -> None:
    wave = tone(300, 1.0)[:length]
    placed = place(wave)
    first = (NUM_SAMPLES - length) // 2
    assert placed.recorded == length
    assert placed.first == -first
    assert np.array_equal(placed.samples[first : first + length], wave)
    assert placed.samples.sum() == pytest.approx(wave.sum(), abs=1e-4)


def test_a_letter_alone_stays_as_it_is() -> None:
    spoken = np.pad(voice(), 2000)
    assert np.array_equal(place(spoken).samples, np.pad(spoken, (NUM_SAMPLES - len(spoken)) // 2))


def test_a_knock_in_a_short_recording_is_silenced_and_the_letter_does_not_move() -> None:
    spoken = voice(0.3)
    plain = np.zeros(15_000, np.float32)
    plain[8000 : 8000 + len(spoken)] = spoken
    disturbed = plain.copy()
    disturbed[1000:4200] += knock(0.8)
    placed = place(disturbed)
    assert np.array_equal(placed.samples[7500:13_500], place(plain).samples[7500:13_500])
    assert not placed.samples[: 500 + 4200].any()


def test_without_a_voice_the_loudest_second_is_taken() -> None:
    samples = recording((2.0, tone(1000, 0.5)), (0.5, tone(1000, 0.5, level=0.1)), seconds=4.0)
    placed = place(samples)
    assert placed.first < 2 * SAMPLE_RATE
    assert placed.first + NUM_SAMPLES >= round(2.5 * SAMPLE_RATE)
    assert not Placing(samples).stretches


def test_a_long_silence_is_zeros() -> None:
    assert not place(np.zeros(20_000, np.float32)).samples.any()


@pytest.mark.parametrize(("gap", "level", "voices"), [(0.02, 0.3, 2), (0.1, 0.15, 2), (0.1, 0.05, 1), (0.5, 0.3, 1)])
def test_voices_of_a_stretch_are_counted_if_they_are_about_equally_loud(gap: float, level: float, voices: int) -> None:
    first, second = voice(0.35, level=0.3), voice(0.35, level=level)
    stretches = Placing(recording((1.0, first), (1.35 + gap, second))).stretches
    assert stretches[0].voices == voices
