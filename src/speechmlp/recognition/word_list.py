"""Ranks the words of a list by exact sums over all paths through a lattice of spelled letters.

A lattice has boundaries in time and segments between them, each with log-probabilities of the labels. A word's
score is the logarithm of the sum over all alignments of its letters with the lattice. Letters may be deleted and
segments inserted, both at a cost; gaps between segments cost nothing.

Words with a common prefix share its computation (a trie), and all prefixes of one length are computed together, so
that 10,000 words take less time than finding the segments.

Dimension key: `N` boundaries, `K` segments, `P` prefixes of one length, `W` words, `L` labels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, characters, labels_in

Floats = NDArray[np.float64]
OFFERED = 3.0
"""Score of a certain letter, for words that are offered."""
LEAST = -9.0
"""Smallest log-probability of a letter, for words that are offered: a chosen one may be wrong too."""


@dataclass(frozen=True)
class Lattice:
    """The segments of a recording that may be letters.

    Attributes:
        boundaries: their number N; they are numbered in time.
        starts: int [K], boundary at the start of each segment; segments are sorted by end.
        ends: int [K], boundary at its end; larger.
        scores: [K, L], log-odds of the segment being each letter, compared with being skipped.
    """

    boundaries: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    scores: Floats


class WordList:
    """A list of words to rank.

    Args:
        words: of labels in either case; other characters, such as apostrophes, are ignored.
        labels: of the model that spells, L of them; those of one character are what words consist of.

    Attributes:
        words: the W words as given, without duplicates.

    Raises:
        UserError: no word has a letter.
    """

    # Chosen on AN4's validation speakers, by word accuracy and cross-entropy among 10,000 words.
    DELETION = -5.0
    """Score of a letter of the word that is not in the recording, in nats."""
    INSERTION = -3.0
    """Score of a segment that is not a letter of the word."""
    BONUS = 1.0
    """Added score of each segment: with a list of words, less evidence for a letter is needed than without one."""

    UNFINISHED = -0.1
    """Score of each letter of an offered word that is not spelled yet."""

    def __init__(self, words: Iterable[str], labels: tuple[str, ...] = LETTERS) -> None:
        spelled = {word: labels_in(word, labels) for word in dict.fromkeys(words)}
        self.words = [word for word, letters in spelled.items() if letters]
        if not self.words:
            raise UserError(f"words: expected words of {characters(labels)}, found none")
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """For each length: the index of each prefix's parent among the shorter prefixes, and its last letter."""
        self._members: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """For each length: the words that are at least so long, and the index of each one's prefix."""
        self._lengths = np.array([len(spelled[word]) for word in self.words])
        self._build([spelled[word] for word in self.words])

    @classmethod
    def read(cls, path: str | Path, labels: tuple[str, ...] = LETTERS) -> "WordList":
        """Returns the words of a text file, one a line.

        Raises:
            UserError: it cannot be read, or has no words.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"{path}: cannot be read as a list of words ({reason}); expected one a line") from error
        try:
            return cls((line.strip() for line in lines), labels)
        except UserError as error:
            raise UserError(f"{path}: expected words of {characters(labels)}, one a line, found none") from error

    def _build(self, words: Sequence[tuple[int, ...]]) -> None:
        indices: dict[tuple[int, ...], int] = {(): 0}
        for length in range(1, max(map(len, words)) + 1):
            prefixes = dict.fromkeys(word[:length] for word in words if len(word) >= length)
            parents = np.array([indices[prefix[:-1]] for prefix in prefixes])
            self._levels.append((parents, np.array([prefix[-1] for prefix in prefixes])))
            indices = {prefix: index for index, prefix in enumerate(prefixes)}
            long = [index for index, word in enumerate(words) if len(word) >= length]
            self._members.append((np.array(long), np.array([indices[words[index][:length]] for index in long])))

    def scores(self, lattice: Lattice) -> Floats:
        """Returns the score [W] of each word in nats, relative to an empty recording."""
        found = np.full(len(self.words), -np.inf)
        for length, (words, scores) in enumerate(self._prefix_scores(lattice), start=1):
            ends = self._lengths[words] == length
            found[words[ends]] = scores[ends]
        return found

    def _prefix_scores(self, lattice: Lattice) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Yields, for each length, the words that are at least so long and the score of each one's prefix."""
        skipped = lattice.scores.max(1) + self.BONUS + self.INSERTION if len(lattice.scores) else np.zeros(0)
        paths = np.full((lattice.boundaries, 1), -np.inf)  # [N, P]
        paths[0] = 0.0
        self._advance(lattice, skipped, paths)
        segments = list(enumerate(zip(lattice.starts.tolist(), lattice.ends.tolist(), strict=True)))
        for (parents, letters), (words, prefixes) in zip(self._levels, self._members, strict=True):
            before = paths[:, parents]
            paths = before + self.DELETION
            for number, (start, end) in segments:
                paths[end] = np.logaddexp(paths[end], before[start] + lattice.scores[number, letters] + self.BONUS)
            self._advance(lattice, skipped, paths)
            yield words, paths[-1, prefixes]

    @staticmethod
    def _advance(lattice: Lattice, skipped: Floats, paths: Floats) -> None:
        """Adds, in place, to paths [N, P] those that skip gaps and segments."""
        number = 0
        for boundary in range(1, lattice.boundaries):
            paths[boundary] = np.logaddexp(paths[boundary], paths[boundary - 1])
            while number < len(skipped) and lattice.ends[number] == boundary:
                start = lattice.starts[number]
                paths[boundary] = np.logaddexp(paths[boundary], paths[start] + skipped[number])
                number += 1

    def rank(self, lattice: Lattice) -> list[tuple[str, float]]:
        """Returns the words with their probabilities within the list, the most probable first."""
        return self._ranked(self.scores(lattice))

    def offer(self, letters: Floats) -> list[tuple[str, float]]:
        """Returns the words that begin with spelled letters, perhaps wrong ones, the most probable first.

        Args:
            letters: log-probabilities [N, 26] of each letter that is spelled so far.
        """
        count = len(letters)
        # Only their ratios matter, and what a letter is worth compared with one that is skipped.
        scores = OFFERED + np.maximum(letters, LEAST)
        found = np.full(len(self.words), -np.inf)
        lattice = Lattice(count + 1, np.arange(count), np.arange(1, count + 1), scores)
        for length, (words, prefixes) in enumerate(self._prefix_scores(lattice), start=1):
            np.maximum.at(found, words, prefixes + self.UNFINISHED * (self._lengths[words] - length))
        return self._ranked(found)

    def _ranked(self, scores: Floats) -> list[tuple[str, float]]:
        weights = np.exp(scores - scores.max())
        order = np.argsort(-weights, kind="stable")
        return [(self.words[index], float(weights[index] / weights.sum())) for index in order]
