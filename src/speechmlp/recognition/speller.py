"""Recognition of spelled words: letters with their times from a recording of spelling, with pauses or without.

A search over all sequences of successive candidates (a semi-Markov model) finds the most likely one.

Dimension key: `T` samples, `N` boundaries, `K` candidates, `L` labels.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechmlp.audio.channels import Mix
from speechmlp.audio.decoding import resampled
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.labels import LETTERS, describe
from speechmlp.models.segments import WEIGHTS as SEGMENTS_MODEL
from speechmlp.models.segments import SegmentScorer, load_scorer
from speechmlp.recognition.candidates import OVERLAP, Candidates, Readings, find_candidates
from speechmlp.recognition.inputs import Recording, as_mono
from speechmlp.recognition.recognizer import Recognizer, load_recognizer
from speechmlp.recognition.word_list import Lattice
from speechmlp.runs.checkpoint import PACKAGED as LETTERS_MODEL


@dataclass(frozen=True)
class Weights:
    """How the scores of a candidate are added.

    Chosen on the validation speakers of AN4, spelled names and joined words by `evaluate_spelling.py --tune`. Only
    their ratios matter to the search; `letter` stays, because the constants of `WordList` are on its scale.

    Attributes:
        odds: weight of the segment's log-odds.
        letter: weight of the letter's log-probability by the classifier.
        named: weight of the letter's log-probability by the segment scorer.
        bonus: added for each letter.
        piece: added for each letter between two pauses.
        alone: added in addition if the letters of the recording are said one by one.
    """

    odds: float = 0.4
    letter: float = 1.5
    named: float = 0.0
    bonus: float = 0.0
    piece: float = 1.2
    alone: float = 3.0


WEIGHTS = Weights()


@dataclass(frozen=True)
class SpelledLetter:
    """A letter of a spelled word.

    Attributes:
        letter: one of the model's labels, A to Z by default.
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
        note: why only one channel is used; empty if it is their mean.
    """

    letters: tuple[SpelledLetter, ...]
    lattice: Lattice
    note: str = ""

    @property
    def text(self) -> str:
        """The letters as a word; with spaces between them if one is longer than a character."""
        between = " " if any(len(one.letter) > 1 for one in self.letters) else ""
        return between.join(one.letter for one in self.letters)


class Speller:
    """Recognises spelled words; safe to share between threads.

    Attributes:
        warning: which of the model's labels are often missed; empty if none.
    """

    def __init__(self, recognizer: Recognizer, scorer: SegmentScorer) -> None:
        self.recognizer = recognizer
        self.scorer = scorer.to(recognizer.device)
        self.hop = scorer.front_end.spectrum.hop_length
        others = [label for label in recognizer.labels if label not in LETTERS]
        self.warning = (
            f"spelling: the segment model was trained on the letters A to Z, so {describe(others)} will often be missed"
            if others
            else ""
        )

    def __call__(self, recording: Recording, sample_rate: float | None = None) -> Spelling:
        """Returns the letters of a recording of any rate and length.

        Args:
            recording: a waveform [T] or [C, T], or a path, bytes or an open file, as for `Recognizer`.
            sample_rate: of a waveform, in Hz; None for a path, bytes or a file.

        Raises:
            UserError: the recording or the sample rate is invalid, see `as_mono`.
        """
        return self.spell_mixed(as_mono(recording, sample_rate))

    def spell_mixed(self, mixed: Mix) -> Spelling:
        """Returns the letters of a waveform [T]."""
        mixed = resampled(mixed, SAMPLE_RATE)
        with torch.autocast(self.recognizer.device.type, enabled=False):  # the caller may have it on
            found = self.spell(self.candidates(mixed.waveform), len(mixed.waveform))
        return replace(found, note=mixed.note)

    def candidates(self, mono: Tensor, since: int = 0, readings: Readings | None = None) -> Candidates:
        """Returns the segments of a waveform [T] at 16 kHz that may be letters, see `find_candidates`."""
        return find_candidates(self.recognizer, self.scorer, mono, since, readings)

    def spell(self, found: Candidates, length: int, weights: Weights = WEIGHTS) -> Spelling:
        """Returns the most likely sequence of candidates.

        Args:
            found: the candidates.
            length: of the recording, in samples at 16 kHz.
            weights: of their scores.
        """
        lattice, path = self.search(found, weights)
        evidence = weights.letter * found.log_probabilities + weights.named * found.named  # [K, L]
        letters = []
        for index in path:
            label = int(evidence[index].argmax())
            start, end = (
                min(frame * self.hop, length) / SAMPLE_RATE for frame in (found.starts[index], found.ends[index])
            )
            probability = float(np.exp(found.log_probabilities[index, label]))
            letters.append(SpelledLetter(self.recognizer.labels[label], probability, start, end))
        return Spelling(tuple(letters), lattice)

    def search(self, found: Candidates, weights: Weights = WEIGHTS) -> tuple[Lattice, list[int]]:
        """Returns all sequences of candidates, and the candidates of the most likely one."""
        evidence = weights.letter * found.log_probabilities + weights.named * found.named  # [K, L]
        alone = weights.odds * found.odds + weights.bonus + weights.piece * found.pieces
        alone += weights.alone * found.alone
        scores = alone[:, None] + evidence
        free = np.maximum(found.ends - OVERLAP, found.starts + 1)  # the earliest start of the next letter
        boundaries, numbers = np.unique(np.concatenate([[0], found.starts, free]), return_inverse=True)
        starts, ends = numbers[1 : 1 + len(found.starts)], numbers[1 + len(found.starts) :]
        order = np.argsort(ends, kind="stable")
        lattice = Lattice(len(boundaries), starts[order], ends[order], scores[order])
        return lattice, [int(order[segment]) for segment in _best_path(lattice)]


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


def load_speller(checkpoint: str | Path | None = None, device: str | torch.device = "auto") -> Speller:
    """Returns a speller, used as `load_speller()(waveform, sample_rate).text`.

    Args:
        checkpoint: a `best.pt` of single letters; None for the model in the package.
        device: auto, cpu, cuda or cuda:N, or a `torch.device`.

    Raises:
        UserError: see `load_recognizer`.
    """
    return Speller(load_recognizer(checkpoint, device), load_scorer())


def fingerprints() -> dict[str, str]:
    """Returns file name -> SHA-256 of each model in the package, which identifies the models that figures belong to."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (LETTERS_MODEL, SEGMENTS_MODEL)}
