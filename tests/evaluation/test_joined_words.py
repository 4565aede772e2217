"""Words joined from recordings of single letters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import BETWEEN, LONGEST, SHORTEST, joined_words, read_letter
from speechmlp.labels import LETTERS

RATE = 16_000


def letter_files(
    folder: Path, letters: Sequence[str], speaker: str, seconds: float = 0.4, timed: bool = False
) -> list[Utterance]:
    """Writes a tone of `seconds` for each letter, with silence before and after."""
    utterances = []
    for number, letter in enumerate(letters):
        time = np.arange(round(seconds * RATE)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (300 + 60 * LETTERS.index(letter)) * time) * np.hanning(len(time)) ** 0.2
        silence = np.zeros(RATE // 2)
        path = folder / speaker / f"{number}{letter}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.concatenate([silence, tone, silence]), RATE)
        start, end = (0.5, 0.5 + seconds) if timed else (None, None)
        utterances.append(Utterance(path, letter, speaker, start=start, end=end))
    return utterances


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.6])
def test_words_have_their_letters_and_pauses(tmp_path: Path, pause: float, timed: bool) -> None:
    utterances = letter_files(tmp_path, LETTERS, "ann", timed=timed) + letter_files(tmp_path, "ABC", "bob", timed=timed)
    words = list(joined_words(utterances, pause, []))
    assert {word.speaker for word in words} == {"ann", "bob"}
    assert set("".join(word.text for word in words if word.speaker == "ann")) == set(LETTERS)
    for word in words:
        assert SHORTEST <= len(word.text) <= LONGEST
        assert word.samples.abs().max() < 0.35
        for (_, end), (start, _) in zip(word.ends[:-1], word.ends[1:], strict=True):
            assert start - end == round(pause * RATE)
            if pause > 0.3:  # the middle of a pause is silent
                middle = (start + end) // 2
                assert word.samples[middle - 200 : middle + 200].abs().max() == 0
        assert word.ends[0][0] == round(BETWEEN * RATE)
        for letter, (start, end) in zip(word.text, word.ends, strict=True):
            spectrum = word.samples[start:end].numpy()
            loudest = np.abs(np.fft.rfft(spectrum, RATE)).argmax()
            assert loudest == pytest.approx(300 + 60 * LETTERS.index(letter), abs=8)
            assert (end - start) / RATE == pytest.approx(0.4, abs=0.05)


def test_words_depend_only_on_the_names(tmp_path: Path) -> None:
    utterances = letter_files(tmp_path, "ABCDEFGH", "ann", 0.2)
    forwards = [word.text for word in joined_words(utterances, 0.1, [])]
    backwards = [word.text for word in joined_words(utterances[::-1], 0.5, [])]
    assert forwards == backwards
    assert len("".join(forwards)) >= 8


def test_unreadable_recordings_are_listed(tmp_path: Path) -> None:
    utterances = letter_files(tmp_path, "ABCD", "ann", 0.2)
    utterances[1].path.write_bytes(b"no audio")
    skipped: list[str] = []
    words = list(joined_words(utterances, 0.1, skipped))
    assert "B" not in "".join(word.text for word in words)
    assert len(skipped) == 1
    assert str(utterances[1].path) in skipped[0]
    soundfile.write(utterances[0].path, np.zeros(0), RATE)
    with pytest.raises(UserError, match="contains no samples; expected a recorded letter"):
        read_letter(utterances[0])
