"""Recognition of spelled words: letters with their times from a recording of continuous spelling.

A scorer rates every segment between 50 ms and 0.9 s, on a grid of 20 ms, by how much it looks like one whole letter.
The classifier reads the best segment of each neighbourhood, alone in its second. A search over all sequences of
successive segments (a semi-Markov model) finds the most likely one.

Dimension key: `T` samples, `S` segments on the grid, `D` lengths, `N` boundaries, `K` candidates.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.labels import LETTERS
from speechmlp.models.inference import EVALUATION_BATCH
from speechmlp.models.segments import WEIGHTS as SEGMENTS_MODEL
from speechmlp.models.segments import SegmentScorer, load_scorer
from speechmlp.recognition.recognizer import WEIGHTS as LETTERS_MODEL
from speechmlp.recognition.recognizer import Recognizer, Waveform, as_mono, load_recognizer
from speechmlp.recognition.word_list import Lattice

GRID = 2
"""Frames between two starts, and between two ends, on the grid."""
SHORTEST, LONGEST = 5, 90
"""Lengths of a letter, in frames."""
OVERLAP = 2
"""Frames by which successive letters may overlap."""
MARGIN = 0.25
"""Log-odds by which a candidate may be below its neighbours."""
LEAST = -3.0
"""Smallest log-odds of a candidate."""
BATCH = 4096
"""Segments in a batch of the scorer."""
BAR_AFTER = 2.0
"""Seconds until a progress bar appears on a terminal."""

# Chosen on AN4's validation speakers by scripts/release/evaluate_spelling.py --split valid --tune.
ODDS_WEIGHT, LETTER_WEIGHT, BONUS = 0.5, 1.5, 0.0
"""Weights of a segment's log-odds and of the letter's log-probability; added score of each letter."""


@dataclass(frozen=True)
class SpelledLetter:
    """A letter of a spelled word.

    Attributes:
        letter: A to Z.
        probability: of the letter, given its start and end.
        start: in seconds.
        end: in seconds.
    """

    letter: str
    probability: float
    start: float
    end: float


@dataclass(frozen=True)
class Spelling:
    """A spelled word.

    Attributes:
        letters: in order.
        lattice: all candidates, for `WordList.rank`.
    """

    letters: tuple[SpelledLetter, ...]
    lattice: Lattice

    @property
    def text(self) -> str:
        """The letters as a word."""
        return "".join(one.letter for one in self.letters)


@dataclass(frozen=True)
class Candidates:
    """Segments that may be letters, sorted by end.

    Attributes:
        starts: int [K], frames.
        ends: int [K].
        odds: [K], log-odds of each being one whole letter.
        log_probabilities: [K, 26], of the letters.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    odds: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]


class Speller:
    """Recognises spelled words; safe to share between threads."""

    def __init__(self, recognizer: Recognizer, scorer: SegmentScorer) -> None:
        self.recognizer = recognizer
        self.scorer = scorer.to(recognizer.device)
        self.hop = scorer.front_end.spectrum.hop_length

    def __call__(self, waveform: Waveform, sample_rate: int) -> Spelling:
        """Returns the letters of a recording of any rate and length.

        Args:
            waveform: [T] or [C, T], as for `Recognizer`.
            sample_rate: Hz.

        Raises:
            UserError: the waveform is invalid, see `as_mono`.
        """
        mono = as_mono(waveform, sample_rate)
        return self.spell(self.candidates(mono), len(mono))

    @torch.inference_mode()
    def candidates(self, mono: Tensor) -> Candidates:
        """Returns the segments of a waveform [T] at 16 kHz that may be letters, read by the classifier."""
        starts, ends, odds = self._segments(mono.to(self.recognizer.device))
        order = np.argsort(ends, kind="stable")
        starts, ends, odds = starts[order], ends[order], odds[order]
        parts = range(0, len(starts), EVALUATION_BATCH)
        # Only recordings of minutes take long enough for the bar to appear.
        shown = tqdm(parts, desc="letters", delay=BAR_AFTER, leave=False, disable=None)
        read = [
            self._read(mono, starts[first : first + EVALUATION_BATCH], ends[first : first + EVALUATION_BATCH])
            for first in shown
        ]
        return Candidates(starts, ends, odds, np.concatenate(read) if read else np.zeros((0, len(LETTERS))))

    def _segments(self, mono: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Returns start, end and log-odds of the segments that are more likely letters than their neighbours."""
        features = self.scorer.features(mono[None])
        start = torch.arange(0, max(1, features.shape[1] - SHORTEST), GRID, device=mono.device)
        length = torch.arange(SHORTEST, LONGEST + 1, GRID, device=mono.device)
        every = torch.cartesian_prod(start, length)  # [S, 2]
        first, end = every[:, 0], every.sum(1)
        inside = end < features.shape[1]
        odds = torch.full(inside.shape, -torch.inf, device=mono.device)
        indices = inside.nonzero()[:, 0]
        for part in torch.split(indices, BATCH):
            odds[part] = self.scorer(features, torch.zeros_like(part), first[part], end[part])
        grid = odds.view(len(start), len(length))
        # The neighbour with the same end and a start one step later is one step shorter.
        padded = F.pad(grid, (2, 2, 1, 1), value=-torch.inf)
        best = grid > LEAST
        for later in (-1, 0, 1):
            for longer in (-1, 0, 1):
                shift = 2 + longer - later
                best &= grid >= padded[1 + later : 1 + later + len(start), shift : shift + len(length)] - MARGIN
        kept = best.flatten().nonzero()[:, 0]
        return first[kept].cpu().numpy(), end[kept].cpu().numpy(), odds[kept].double().cpu().numpy()

    def _read(self, mono: Tensor, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns log-probabilities [K, 26] of the letters in segments, each alone in the middle of its second."""
        seconds = torch.zeros(len(starts), NUM_SAMPLES)
        left = (NUM_SAMPLES - (ends - starts) * self.hop) // 2
        for row, start, end, first in zip(seconds, starts, ends, left, strict=True):
            samples = mono[start * self.hop : end * self.hop]
            row[first : first + len(samples)] = samples
        model = self.recognizer.checkpoint.model
        logits = model(seconds.to(self.recognizer.device)).cpu().double()
        return (logits / self.recognizer.checkpoint.temperature).log_softmax(1).numpy()  # type: ignore[no-any-return]

    def spell(self, found: Candidates, length: int, weights: tuple[float, float, float] | None = None) -> Spelling:
        """Returns the most likely sequence of candidates.

        Args:
            found: the candidates.
            length: of the recording, in samples at 16 kHz.
            weights: instead of `ODDS_WEIGHT`, `LETTER_WEIGHT` and `BONUS`.
        """
        of_odds, of_letter, bonus = weights or (ODDS_WEIGHT, LETTER_WEIGHT, BONUS)
        scores = of_odds * found.odds[:, None] + of_letter * found.log_probabilities + bonus  # [K, 26]
        free = np.maximum(found.ends - OVERLAP, found.starts + 1)  # the earliest start of the next letter
        boundaries, numbers = np.unique(np.concatenate([[0], found.starts, free]), return_inverse=True)
        starts, ends = numbers[1 : 1 + len(found.starts)], numbers[1 + len(found.starts) :]
        order = np.argsort(ends, kind="stable")
        lattice = Lattice(len(boundaries), starts[order], ends[order], scores[order])
        letters = []
        for segment in _best_path(lattice):
            index = order[segment]
            label = int(found.log_probabilities[index].argmax())
            start, end = (
                min(frame * self.hop, length) / SAMPLE_RATE for frame in (found.starts[index], found.ends[index])
            )
            probability = float(np.exp(found.log_probabilities[index, label]))
            letters.append(SpelledLetter(LETTERS[label], probability, start, end))
        return Spelling(tuple(letters), lattice)


def _best_path(lattice: Lattice) -> list[int]:
    """Returns the segments, in order, of the path through a lattice with the highest sum of scores."""
    score = np.zeros(lattice.boundaries)
    came_by = np.full(lattice.boundaries, -1)  # the segment that ends there; -1: none
    best = lattice.scores.max(1) if len(lattice.scores) else np.zeros(0)
    segment = 0
    for boundary in range(1, lattice.boundaries):
        score[boundary] = score[boundary - 1]
        while segment < len(best) and lattice.ends[segment] == boundary:
            through = score[lattice.starts[segment]] + best[segment]
            if through > score[boundary]:
                score[boundary], came_by[boundary] = through, segment
            segment += 1
    path = []
    boundary = lattice.boundaries - 1
    while boundary > 0:
        segment = int(came_by[boundary])
        if segment < 0:
            boundary -= 1
        else:
            path.append(segment)
            boundary = int(lattice.starts[segment])
    return path[::-1]


def load_speller(checkpoint: str | Path | None = None, device: str = "auto") -> Speller:
    """Returns a speller, used as `load_speller()(waveform, sample_rate).text`.

    Args:
        checkpoint: a `best.pt` of single letters; None for the model in the package.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: see `load_recognizer`.
    """
    return Speller(load_recognizer(checkpoint, device), load_scorer())


def fingerprints() -> dict[str, str]:
    """Returns file name -> SHA-256 of each model in the package, which identifies the models that figures belong to."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (LETTERS_MODEL, SEGMENTS_MODEL)}
