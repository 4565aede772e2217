"""Ranking of words on a lattice, compared with an enumeration of all paths."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, label_of
from speechmlp.recognition.word_list import Lattice, WordList


def a_lattice(boundaries: int, segments: int, seed: int) -> Lattice:
    generator = np.random.default_rng(seed)
    pairs = [(start, end) for end in range(boundaries) for start in range(end)]
    chosen = sorted(generator.choice(len(pairs), segments, replace=False))
    starts, ends = (np.array([pairs[index][side] for index in chosen]) for side in (0, 1))
    return Lattice(boundaries, starts, ends, generator.normal(0, 4, (segments, 26)))


def all_paths(lattice: Lattice, word: str, boundary: int = 0, letter: int = 0) -> Iterator[float]:
    """Yields the score of each path from a boundary and a letter of the word to the ends of both."""
    if boundary == lattice.boundaries - 1 and letter == len(word):
        yield 0.0
    if boundary < lattice.boundaries - 1:
        yield from all_paths(lattice, word, boundary + 1, letter)
    if letter < len(word):
        yield from (WordList.DELETION + rest for rest in all_paths(lattice, word, boundary, letter + 1))
    for start, end, scores in zip(lattice.starts, lattice.ends, lattice.scores, strict=True):
        if start == boundary:
            for rest in all_paths(lattice, word, int(end), letter):
                yield float(scores.max()) + WordList.BONUS + WordList.INSERTION + rest
            if letter < len(word):
                for rest in all_paths(lattice, word, int(end), letter + 1):
                    yield float(scores[label_of(word[letter])]) + WordList.BONUS + rest


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_sums_over_all_paths(seed: int) -> None:
    lattice = a_lattice(5, 6, seed)
    words = ["A", "BA", "CAB", "ABC", "ABCA", "CA"]
    scores = WordList(words).scores(lattice)
    for word, score in zip(words, scores, strict=True):
        paths = list(all_paths(lattice, word))
        expected = max(paths) + math.log(sum(math.exp(path - max(paths)) for path in paths))
        assert score == pytest.approx(expected, abs=1e-9)


def spelled(word: str, sure: float = 8.0) -> Lattice:
    """Returns a lattice of one clear segment for each letter."""
    scores = np.full((len(word), 26), -sure)
    scores[np.arange(len(word)), [label_of(letter) for letter in word]] = sure
    return Lattice(len(word) + 1, np.arange(len(word)), np.arange(1, len(word) + 1), scores)


def test_the_spelled_word_ranks_first_with_letters_missing_added_or_wrong() -> None:
    words = WordList(["MILLER", "MULLER", "MILL", "SMITH", "JONES", "o'Neil"])
    for found, expected in (("MILLER", "MILLER"), ("MLLER", "MILLER"), ("SMIITH", "SMITH"), ("JOMES", "JONES")):
        assert words.rank(spelled(found))[0][0] == expected
    assert words.rank(spelled("ONEIL"))[0][0] == "o'Neil"
    ranked = words.rank(spelled("SMITH"))
    assert sum(probability for _, probability in ranked) == pytest.approx(1)
    assert ranked[0][1] > 0.9


def test_an_empty_recording_prefers_short_words() -> None:
    nothing = Lattice(1, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 26)))
    assert [word for word, _ in WordList(["LONGER", "A"]).rank(nothing)] == ["A", "LONGER"]


def test_ten_thousand_words_are_ranked_quickly() -> None:
    generator = np.random.default_rng(0)
    words = WordList("".join(generator.choice(list("ABCDEFGHIJ"), generator.integers(3, 12))) for _ in range(10_000))
    lattice = a_lattice(60, 150, 0)
    started = time.perf_counter()
    words.rank(lattice)
    assert time.perf_counter() - started < 10  # a fraction of a second on an idle machine


def test_lists_are_read_and_invalid_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("smith\n\nJones\nsmith\n", encoding="utf-8")
    assert WordList.read(tmp_path / "words.txt").words == ["smith", "Jones"]
    (tmp_path / "empty.txt").write_text("\n12\n", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, problem in (("empty", "found none"), ("absent", "No such file"), ("binary", "not UTF-8 text")):
        with pytest.raises(UserError, match=problem) as caught:
            WordList.read(tmp_path / f"{name}.txt")
        assert f"{name}.txt" in str(caught.value)


def test_words_that_begin_as_it_is_spelled_are_offered() -> None:
    words = WordList(["cat", "cable", "cab", "dog", "Table", "o'neil"])

    def offered(text: str, sure: float = 0.9) -> list[str]:
        letters = np.full((len(text), 26), np.log((1 - sure) / 25))
        for row, letter in zip(letters, text, strict=True):
            row[LETTERS.index(letter)] = np.log(sure)
        ranked = words.offer(letters)
        assert sum(probability for _, probability in ranked) == pytest.approx(1)
        return [word for word, _ in ranked]

    assert set(offered("CA")[:3]) == {"cat", "cable", "cab"}
    assert offered("CAT")[0] == offered("XCAT")[0] == "cat"  # a letter too many
    assert offered("CABLE")[0] == offered("CBLE")[0] == "cable"  # a letter too few
    assert offered("TAB")[0] == offered("TABX")[0] == "Table"  # a wrong letter
    assert offered("ONE")[0] == "o'neil"
    assert len(offered("")) == len(offered("CATCATCATCAT")) == 6
