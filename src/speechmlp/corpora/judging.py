"""Whether a cut-out letter is what its transcript says: a trained model is asked, and doubtful letters are left out.

Forced alignment always finds an alignment, even if something else is said. A model that was trained on other people
often recognises another letter, but the right one is among its first ones. Where it is not, the recognised letter may
still end alike, as B and T do: then the letter is cut well, and is one that the model should be trained on.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError
from speechmlp.files import write_text

Judge = Callable[[Sequence[NDArray[np.int16]]], Sequence[Mapping[str, float]]]
"""Recordings, int16 [T] at 16 kHz -> letter -> probability, the most probable letter first."""

LEFT_OUT = "left_out.tsv"
SECONDS = (0.08, 1.2)
"""Shortest and longest letter that is cut out of fluent speech."""
FIRST = 6
"""The label must be among so many of the most probable letters."""
RHYMES = ("AHJK", "BCDEGPTVZ", "FLMNSX", "IRY", "QUW", "O")
"""Letters with the same vowel, or nearly so in some accent."""
UNLIKELY = math.log(1e-3)
"""Lowest log-probability that counts, and that of letters that are too short or too long."""


@dataclass(frozen=True)
class Verdict:
    """What a model makes of a letter that was cut out.

    Attributes:
        rank: of the label among the 26 letters, 1 for the most probable.
        recognized: the most probable letter.
        log_probability: of the label, at least `UNLIKELY`.
        reason: why the letter is left out; empty if it is kept.
    """

    rank: int
    recognized: str
    log_probability: float
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """A part of a recording that is not in the corpus, and why."""

    path: str
    label: str
    speaker: str
    start: float
    end: float
    reason: str


def judge_letters(
    samples: NDArray[np.int16], letters: Sequence[tuple[str, int, int]], judge: Judge
) -> tuple[Verdict, ...]:
    """Returns the verdict on each letter of a recording.

    Args:
        samples: the recording, int16 [T] at 16 kHz.
        letters: letter, first sample and last sample (exclusive).
        judge: the model.
    """
    found = judge([samples[first:last] for _, first, last in letters])
    verdicts = []
    for (letter, first, last), probabilities in zip(letters, found, strict=True):
        judged, seconds = verdict(letter, probabilities), (last - first) / SAMPLE_RATE
        if not SECONDS[0] <= seconds <= SECONDS[1]:
            judged = replace(judged, log_probability=UNLIKELY, reason=f"{seconds:.2f} s long")
        verdicts.append(judged)
    return tuple(verdicts)


def verdict(letter: str, probabilities: Mapping[str, float]) -> Verdict:
    """Returns the verdict on a letter, given the probabilities of all letters, the most probable first."""
    ranked = list(probabilities)
    rank, first = ranked.index(letter) + 1, ranked[0]
    alike = any(letter in rhymes and first in rhymes for rhymes in RHYMES)
    reason = "" if rank <= FIRST or alike else f"recognised as {first}"
    return Verdict(rank, first, max(UNLIKELY, math.log(max(probabilities[letter], 1e-9))), reason)


def write_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Writes what is left out as a TSV file.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(("path", "label", "speaker", "start", "end", "reason"))
    for part in left_out:
        writer.writerow((part.path, part.label, part.speaker, f"{part.start:.3f}", f"{part.end:.3f}", part.reason))
    write_text(path, text.getvalue())


def require_some(count: int, source: str | Path, left_out: Sequence[LeftOut]) -> None:
    """Checks that a corpus is not empty.

    Raises:
        UserError: everything was left out.
    """
    if not count:
        reason = f"; the first: {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"{source}: no letter is left: all {len(left_out)} are left out{reason}")
