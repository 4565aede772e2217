"""Real letters with other sounds in the recording: a few of the conditions of `disturbances`, on a few letters."""

from pathlib import Path

import numpy as np
import pytest

from speechmlp.recognition.recognizer import Recognizer, load_recognizer
from tests.acceptance.disturbances import Letter, Sounds, answers, read_letters, recordings
from tests.acceptance.disturbing_sounds import CONDITIONS

pytestmark = pytest.mark.corpus

SOME = (
    "offset 6 %",
    "settling 0.5, 0.12 s",
    "rumble 20 to 60 Hz, 0 dB",
    "thump after, 20 dB",
    "key press before, 0 to 20 dB",
    "knock after, 0 to 20 dB",
    "beep before, 0 to 10 dB",
    "melody, 0 to 10 dB",
    "sentence after",
)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load_recognizer(device="cpu")


@pytest.fixture(scope="module")
def sounds(real_recordings: Path) -> Sounds:
    return Sounds(real_recordings)


@pytest.fixture(scope="module")
def letters(real_recordings: Path, recognizer: Recognizer, sounds: Sounds) -> list[Letter]:
    """Letters that are right in near silence."""
    found = list(read_letters(real_recordings, None, 12, np.random.default_rng(1)))
    plain = answers(recognizer, recordings(found, sounds, "plain", CONDITIONS["plain"], 1))
    right = [letter for letter, answer in zip(found, plain, strict=True) if letter.letter == answer]
    assert len(right) > 0.7 * len(found)
    return right


@pytest.mark.parametrize("name", SOME)
def test_hardly_a_letter_is_lost(name: str, recognizer: Recognizer, sounds: Sounds, letters: list[Letter]) -> None:
    found = answers(recognizer, recordings(letters, sounds, name, CONDITIONS[name], 1))
    lost = [letter.letter for letter, answer in zip(letters, found, strict=True) if letter.letter != answer]
    assert len(lost) <= 2
