"""Which words of a list fit what was spelled: exact sums over all ways through a lattice, for the whole list at once.

A lattice has boundaries in time and segments between them, each with log-probabilities of the 26 letters. A word's
score is the logarithm of the sum over all ways to lay its letters along the lattice; a letter of the word may be left
out, and a segment may be no letter of the word, both at a price; what lies between segments costs nothing.

Words that begin alike share their computation (a trie), and all prefixes of one length go through the lattice side by
side, so that 10,000 words take less time than finding the segments.

Dimension key: `N` boundaries, `K` segments, `P` prefixes of one length, `W` words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmlp.errors import UserError
from speechmlp.labels import label_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lattice:
    """Segments of a recording that may be letters.

    Attributes:
        boundaries: how many there are, N; they are numbered in time.
        starts: int [K], boundary where each segment starts; segments are in the order of their ends.
        ends: int [K], boundary where it ends; larger.
        scores: [K, 26], log-odds of the segment being each letter, against being passed over.
    """

    boundaries: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    scores: Floats


class WordList:
    """Words to choose from.

    Args:
        words: of letters A to Z in either case; what else they hold, such as apostrophes, is passed over.

    Attributes:
        words: as they were given, without repetition, W.

    Raises:
        UserError: there is no letter in them.
    """

    # Chosen on AN4's validation speakers, by word accuracy and cross-entropy among 10,000 words.
    DELETION = -5.0
    """Price of a letter of the word that is not in the recording, in nats."""
    INSERTION = -3.0
    """Price of a segment that is no letter of the word."""
    BONUS = 1.0
    """For each segment: a list of words needs less proof that something is a letter than the search without one."""

    def __init__(self, words: Iterable[str]) -> None:
        spelled = {word: re.sub("[^A-Z]", "", word.upper()) for word in dict.fromkeys(words)}
        self.words = [word for word, letters in spelled.items() if letters]
        if not self.words:
            raise UserError("words: expected words of letters A to Z, found none")
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """For each length, the place of each prefix's beginning among the shorter ones, and its last letter."""
        self._ends: list[list[tuple[int, int]]] = []
        """For each length, (word, place of the prefix that it is)."""
        self._build([spelled[word] for word in self.words])

    @classmethod
    def read(cls, path: str | Path) -> "WordList":
        """Returns the words of a text file, one a line.

        Raises:
            UserError: it cannot be read, or holds none.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"{path}: cannot be read as a list of words ({reason}); expected one a line") from error
        try:
            return cls(line.strip() for line in lines)
        except UserError as error:
            raise UserError(f"{path}: expected words of letters A to Z, one a line, found none") from error

    def _build(self, words: Sequence[str]) -> None:
        places = {"": 0}
        for length in range(1, max(map(len, words)) + 1):
            prefixes = dict.fromkeys(word[:length] for word in words if len(word) >= length)
            beginnings = np.array([places[prefix[:-1]] for prefix in prefixes])
            self._levels.append((beginnings, np.array([label_of(prefix[-1]) for prefix in prefixes])))
            places = {prefix: place for place, prefix in enumerate(prefixes)}
            self._ends.append([(index, places[word]) for index, word in enumerate(words) if len(word) == length])

    def scores(self, lattice: Lattice) -> Floats:
        """Returns the score [W] of each word, in nats against an empty recording."""
        passed = lattice.scores.max(1) + self.BONUS + self.INSERTION if len(lattice.scores) else np.zeros(0)
        found = np.full(len(self.words), -np.inf)
        ways = np.full((lattice.boundaries, 1), -np.inf)  # [N, P]
        ways[0] = 0.0
        self._go_on(lattice, passed, ways)
        segments = list(enumerate(zip(lattice.starts.tolist(), lattice.ends.tolist(), strict=True)))
        for (beginnings, letters), ends in zip(self._levels, self._ends, strict=True):
            before = ways[:, beginnings]
            ways = before + self.DELETION
            for number, (start, end) in segments:
                ways[end] = np.logaddexp(ways[end], before[start] + lattice.scores[number, letters] + self.BONUS)
            self._go_on(lattice, passed, ways)
            for word, place in ends:
                found[word] = ways[-1, place]
        return found

    @staticmethod
    def _go_on(lattice: Lattice, passed: Floats, ways: Floats) -> None:
        """Adds to ways [N, P] those that pass over time and over segments, in place."""
        number = 0
        for boundary in range(1, lattice.boundaries):
            ways[boundary] = np.logaddexp(ways[boundary], ways[boundary - 1])
            while number < len(passed) and lattice.ends[number] == boundary:
                start = lattice.starts[number]
                ways[boundary] = np.logaddexp(ways[boundary], ways[start] + passed[number])
                number += 1

    def rank(self, lattice: Lattice) -> list[tuple[str, float]]:
        """Returns the words with their probabilities among the list, the most probable first."""
        scores = self.scores(lattice)
        weights = np.exp(scores - scores.max())
        order = np.argsort(-weights, kind="stable")
        return [(self.words[index], float(weights[index] / weights.sum())) for index in order]
