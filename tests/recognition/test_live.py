"""Live spelling: letters of a stream compared with those of the whole recording, and streams that hold no letters."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from speechmlp.audio.resampling import resample
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import joined_words
from speechmlp.evaluation.spelling import edit_distance
from speechmlp.recognition.live import CONTEXT, LONG, LiveLetter, LiveSpeller
from speechmlp.recognition.speller import Speller, load_speller
from tests.conftest import tone

RATE = 16_000


@pytest.fixture(scope="module")
def speller() -> Speller:
    return load_speller(device="cpu")


@pytest.fixture(scope="module")
def words(synthetic_corpus: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """Words with pauses of 0.1 and 0.4 s, in rooms with a little noise."""
    letters = [one for one in read_manifest(synthetic_corpus) if one.split == "test"]
    noise = np.random.default_rng(0)
    found = []
    for pause in (0.1, 0.4):
        for word in list(joined_words(letters, pause, []))[:2]:
            said = np.concatenate([np.zeros(RATE, np.float32), word.samples.numpy(), np.zeros(RATE, np.float32)])
            found.append((word.text, (said + noise.normal(0, 5e-4, len(said))).astype(np.float32)))
    return found


def spelled(live: LiveSpeller, samples: NDArray[np.generic], size: int) -> list[LiveLetter]:
    """Returns the final letters of samples that arrive in pieces."""
    changes = [change for first in range(0, len(samples), size) for change in live.push(samples[first : first + size])]
    return [letter for change in changes + live.finish() for letter in change.final]


def text(letters: list[LiveLetter]) -> str:
    return "".join(one.letter for one in letters)


def test_a_stream_is_spelled_like_the_whole_recording(
    speller: Speller, words: list[tuple[str, NDArray[np.float32]]]
) -> None:
    letters = errors = differences = 0
    for expected, samples in words:
        found = text(spelled(LiveSpeller(speller), samples, 4000))
        letters += len(expected)
        errors += edit_distance(expected, found)
        differences += edit_distance(speller(samples, RATE).text, found)
    assert errors < 0.4 * letters
    assert differences < 0.2 * letters


def test_it_does_not_matter_how_samples_arrive(speller: Speller, words: list[tuple[str, NDArray[np.float32]]]) -> None:
    samples = words[-1][1]
    whole = spelled(LiveSpeller(speller), samples, len(samples))
    assert len(whole) > 1
    for size in (1024, 7777):
        found = spelled(LiveSpeller(speller), samples, size)
        assert [(one.letter, one.start, one.end) for one in found] == [
            (one.letter, one.start, one.end) for one in whole
        ]
    short = spelled(LiveSpeller(speller), np.round(32767 * samples).astype(np.int16), 3000)
    offset = spelled(LiveSpeller(speller), samples + 0.05, 3000)
    stereo = [change.final for change in LiveSpeller(speller).push(np.stack([samples, samples]))]
    assert text(short) == text(offset) == text(whole)
    assert text([letter for final in stereo for letter in final]) == text(whole)


def test_times_and_second_guesses_are_those_of_the_letters(
    speller: Speller, words: list[tuple[str, NDArray[np.float32]]]
) -> None:
    samples = words[-1][1]
    found = spelled(LiveSpeller(speller), samples, 3000)
    assert all(one.end > one.start for one in found)
    assert [one.start for one in found] == sorted(one.start for one in found)
    assert 0.9 < found[0].start < found[-1].end < len(samples) / RATE - 0.8
    for one in found:
        assert one.ranked[0] == (one.letter, one.probability)
        assert sum(probability for _, probability in one.ranked) == pytest.approx(1)


def test_a_letter_is_provisional_soon_after_its_end(
    speller: Speller, words: list[tuple[str, NDArray[np.float32]]]
) -> None:
    samples = words[-1][1]
    final = spelled(LiveSpeller(speller), samples, len(samples))
    live = LiveSpeller(speller)
    shown = 0.0
    for first in range(0, len(samples), 800):
        for change in live.push(samples[first : first + 800]):
            if text([*change.final, *change.provisional])[:1] == final[0].letter and not shown:
                shown = (first + 800) / RATE
    assert 0 < shown - final[0].end < 0.25


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_other_rates_are_resampled(speller: Speller, words: list[tuple[str, NDArray[np.float32]]], rate: int) -> None:
    samples = words[-1][1]
    faster = resample(torch.from_numpy(samples), RATE, rate).numpy()
    found, expected = spelled(LiveSpeller(speller, rate), faster, 8000), spelled(LiveSpeller(speller), samples, 8000)
    assert text(found) == text(expected)
    assert [one.start for one in found] == pytest.approx([one.start for one in expected], abs=0.03)


def test_silence_and_noise_become_no_letters_and_take_no_memory(speller: Speller) -> None:
    generator = np.random.default_rng(0)
    clicks = np.zeros(20 * RATE, np.float32)
    clicks[:: RATE // 2] = 0.5
    rumble = np.cumsum(generator.normal(0, 1e-3, 20 * RATE))
    for wave in (np.zeros(20 * RATE), generator.normal(0, 0.01, 20 * RATE), clicks, rumble / np.abs(rumble).max()):
        live = LiveSpeller(speller)
        assert text(spelled(live, wave.astype(np.float32), 8000)) == ""
        assert len(live._window) <= (CONTEXT + LONG) * 160
        assert len(live._readings.known) < 500


def test_a_long_hum_is_no_endless_letter(speller: Speller) -> None:
    live = LiveSpeller(speller)
    hum = np.concatenate([np.zeros(RATE), tone(200, 6), np.zeros(RATE)])
    assert len(text(spelled(live, hum, 8000))) < 3
    assert len(live._window) <= (CONTEXT + LONG) * 160


def test_samples_that_are_none_are_refused(speller: Speller) -> None:
    with pytest.raises(UserError, match="sample_rate: expected 1 to"):
        LiveSpeller(speller, 0)
    live = LiveSpeller(speller)
    assert live.push([]) == live.push(np.zeros(0)) == []
    for samples, message in (
        (np.full(100, np.nan), "NaN"),
        (np.full(100, 3e4), "between -1 and 1"),
        (np.zeros((2, 2, 2)), "expected samples"),
        (np.array(["a"]), "expected real samples"),
    ):
        with pytest.raises(UserError, match=message):
            live.push(samples)
    assert live.push(np.zeros(RATE)) == []  # and it goes on
