"""Spelled words: the letters in a recording of somebody spelling, with their times, and the words of a list that fit.

Every stretch of the recording between 50 ms and 0.9 s, on a grid of 20 ms, is scored by how much it looks like one
whole letter; the best of each neighbourhood are read by the classifier, each alone in its second; and a search over
all rows of stretches that follow each other (a semi-Markov model) finds the most likely one.

Dimension key: `T` samples, `S` stretches, `D` lengths, `N` boundaries, `K` segments.
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
"""Frames between the starts, and between the ends, that are considered."""
SHORTEST, LONGEST = 5, 90
"""Frames of a letter."""
OVERLAP = 2
"""Frames that a letter may share with the next."""
MARGIN = 0.25
"""Log-odds that a stretch may have less than its neighbours."""
LEAST = -3.0
"""Log-odds under which a stretch is not read."""
BATCH = 4096
"""Stretches that are scored at a time."""
BAR_AFTER = 2.0
"""Seconds after which a progress bar shows on a terminal."""

# Chosen on AN4's validation speakers by scripts/evaluate_spelling.py --split valid --tune.
ODDS_WEIGHT, LETTER_WEIGHT, BONUS = 0.5, 1.5, 0.0
"""Of the log-odds of a stretch being a letter, of the log-probability of the letter, and for each letter."""


@dataclass(frozen=True)
class SpelledLetter:
    """A letter in a recording.

    Attributes:
        letter: A to Z.
        probability: of the letter, its start and end being right.
        start: in seconds of the recording.
        end: in seconds.
    """

    letter: str
    probability: float
    start: float
    end: float


@dataclass(frozen=True)
class Spelling:
    """What was spelled.

    Attributes:
        letters: in their order.
        lattice: everything that was considered; `WordList.rank` takes it.
    """

    letters: tuple[SpelledLetter, ...]
    lattice: Lattice

    @property
    def text(self) -> str:
        """The letters as a word."""
        return "".join(one.letter for one in self.letters)


@dataclass(frozen=True)
class Candidates:
    """Stretches that may be letters, in the order of their ends.

    Attributes:
        starts: int [K], frames.
        ends: int [K].
        odds: [K], log-odds of being one whole letter.
        log_probabilities: [K, 26], of the letters.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    odds: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]


class Speller:
    """Finds spelled letters; may be shared by threads."""

    def __init__(self, recognizer: Recognizer, scorer: SegmentScorer) -> None:
        self.recognizer = recognizer
        self.scorer = scorer.to(recognizer.device)
        self.hop = scorer.front_end.spectrum.hop_length

    def __call__(self, waveform: Waveform, sample_rate: int) -> Spelling:
        """Returns the letters of a recording of any rate and length.

        Args:
            waveform: [T] or [C, T], as `Recognizer` takes it.
            sample_rate: Hz.

        Raises:
            UserError: it cannot be used.
        """
        mono = as_mono(waveform, sample_rate)
        return self.spell(self.candidates(mono), len(mono))

    @torch.inference_mode()
    def candidates(self, mono: Tensor) -> Candidates:
        """Returns the stretches of a waveform [T] at 16 kHz that may be letters, read by the classifier."""
        starts, ends, odds = self._stretches(mono.to(self.recognizer.device))
        order = np.argsort(ends, kind="stable")
        starts, ends, odds = starts[order], ends[order], odds[order]
        parts = range(0, len(starts), EVALUATION_BATCH)
        # A recording of minutes takes a while; one of a word is done before the bar would show.
        shown = tqdm(parts, desc="letters", delay=BAR_AFTER, leave=False, disable=None)
        read = [
            self._read(mono, starts[first : first + EVALUATION_BATCH], ends[first : first + EVALUATION_BATCH])
            for first in shown
        ]
        return Candidates(starts, ends, odds, np.concatenate(read) if read else np.zeros((0, len(LETTERS))))

    def _stretches(self, mono: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Returns start, end and log-odds of the stretches that are likelier letters than their neighbours."""
        features = self.scorer.features(mono[None])
        start = torch.arange(0, max(1, features.shape[1] - SHORTEST), GRID, device=mono.device)
        length = torch.arange(SHORTEST, LONGEST + 1, GRID, device=mono.device)
        every = torch.cartesian_prod(start, length)  # [S, 2]
        first, end = every[:, 0], every.sum(1)
        inside = end < features.shape[1]
        odds = torch.full(inside.shape, -torch.inf, device=mono.device)
        places = inside.nonzero()[:, 0]
        for part in torch.split(places, BATCH):
            odds[part] = self.scorer(features, torch.zeros_like(part), first[part], end[part])
        grid = odds.view(len(start), len(length))
        # A neighbour whose start is one step later and whose end is the same is one step shorter.
        padded = F.pad(grid, (2, 2, 1, 1), value=-torch.inf)
        best = grid > LEAST
        for later in (-1, 0, 1):
            for longer in (-1, 0, 1):
                shift = 2 + longer - later
                best &= grid >= padded[1 + later : 1 + later + len(start), shift : shift + len(length)] - MARGIN
        kept = best.flatten().nonzero()[:, 0]
        return first[kept].cpu().numpy(), end[kept].cpu().numpy(), odds[kept].double().cpu().numpy()

    def _read(self, mono: Tensor, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns log-probabilities [K, 26] of the letters in stretches, each alone in the middle of its second."""
        seconds = torch.zeros(len(starts), NUM_SAMPLES)
        left = (NUM_SAMPLES - (ends - starts) * self.hop) // 2
        for row, start, end, first in zip(seconds, starts, ends, left, strict=True):
            samples = mono[start * self.hop : end * self.hop]
            row[first : first + len(samples)] = samples
        model = self.recognizer.checkpoint.model
        logits = model(seconds.to(self.recognizer.device)).cpu().double()
        return (logits / self.recognizer.checkpoint.temperature).log_softmax(1).numpy()  # type: ignore[no-any-return]

    def spell(self, found: Candidates, length: int, weights: tuple[float, float, float] | None = None) -> Spelling:
        """Returns the most likely row of candidates.

        Args:
            found: the candidates.
            length: of the recording, in samples at 16 kHz.
            weights: other ones than `ODDS_WEIGHT`, `LETTER_WEIGHT` and `BONUS`.
        """
        of_odds, of_letter, bonus = weights or (ODDS_WEIGHT, LETTER_WEIGHT, BONUS)
        scores = of_odds * found.odds[:, None] + of_letter * found.log_probabilities + bonus  # [K, 26]
        free = np.maximum(found.ends - OVERLAP, found.starts + 1)  # where the next letter may start
        boundaries, places = np.unique(np.concatenate([[0], found.starts, free]), return_inverse=True)
        starts, ends = places[1 : 1 + len(found.starts)], places[1 + len(found.starts) :]
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
    """Returns the segments, in time, of the way through a lattice with the highest sum of scores."""
    score = np.zeros(lattice.boundaries)
    came_by = np.full(lattice.boundaries, -1)  # the segment that ends there; -1: time passes
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
    """Returns a speller: `load_speller()(waveform, sample_rate).text`.

    Args:
        checkpoint: a `best.pt` that reads single letters; None for the model in the package.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: as `load_recognizer`.
    """
    return Speller(load_recognizer(checkpoint, device), load_scorer())


def fingerprints() -> dict[str, str]:
    """Returns the SHA-256 of each model in the package by its file's name, by which figures tell what they are of."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (LETTERS_MODEL, SEGMENTS_MODEL)}
