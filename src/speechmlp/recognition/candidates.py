"""Candidates: segments of a recording of spelling that may be letters, with the evidence for each.

A scorer rates every segment between 50 ms and 0.9 s, on a grid of 20 ms, by how much it looks like one whole letter.
The best segment of each neighbourhood is a candidate, and so is each piece between two pauses that is short enough to
be one letter. The classifier reads each candidate alone in its second.

Dimension key: `T` samples, `F` frames, `S` segments on the grid, `K` candidates,
`L` labels of the classifier.
"""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio.resampling import resample
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.labels import LETTERS
from speechmlp.models.inference import EVALUATION_BATCH
from speechmlp.models.pauses import Parts, speech_parts
from speechmlp.models.segments import LONGEST, SHORTEST, SegmentScorer
from speechmlp.recognition.recognizer import Recognizer

GRID = 2
"""Frames between two starts, and between two ends, on the grid."""
OVERLAP = 2
"""Frames by which successive letters may overlap."""
MARGIN = 0.25
"""Log-odds by which a candidate may be below its neighbours."""
LEAST, LEAST_DOUBLE = -3.0, 0.0
"""Smallest log-odds of a candidate, and of the word double."""
PAUSES = (5, 10, 18)
"""Frames of the shortest pause at which a recording is cut: a stop's closure inside a letter is up to 180 ms long."""
LONGEST_PIECE = 110
"""Frames of the longest piece between pauses that may be one letter."""
ALONE = ((2, 0, 90), (1, 18, 90))
"""In a recording whose letters are said one by one: which of `PAUSES` are between them, and the frames of the shortest
and the longest piece. After short pauses, a very short piece is a part of a letter with a closure inside, such as X."""
AROUND_SPEECH = 6
"""Frames before and after speech that a letter may reach into a pause."""
CONTEXT = 8
"""Frames of a pause that the classifier's input contains before and after a letter."""
AFTER_DOUBLE = 40
"""Frames until the letter after the word double starts, at most."""
BATCH = 4096
"""Segments in a batch of the scorer."""
BAR_AFTER = 2.0
"""Seconds until a progress bar appears on a terminal."""


@dataclass(frozen=True)
class Candidates:
    """Segments that may be letters.

    Attributes:
        starts: int [K], frames.
        ends: int [K].
        odds: [K], log-odds of each being one whole letter, or the word double.
        pieces: bool [K], whether each lies between two pauses.
        alone: bool [K], whether each is such a piece of a recording whose letters are said one by one.
        log_probabilities: [K, L], of the letters, by the classifier.
        named: [K, L], the same by the segment scorer, which knows A to Z; others get what a letter gets by chance.
        doubles: bool [K], whether each is the word double.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    odds: NDArray[np.float64]
    pieces: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    log_probabilities: NDArray[np.float64]
    named: NDArray[np.float64]
    doubles: NDArray[np.bool_]


@dataclass
class Readings:
    """What the classifier has read of a signal whose windows are searched one after the other.

    Attributes:
        origin: sample of the signal at which the window starts, a multiple of the scorer's hop.
        known: first and last sample of an input, exclusive, in the signal -> log-probabilities [L].
    """

    origin: int = 0
    known: MutableMapping[tuple[int, int], Tensor] = field(default_factory=dict)

    def forget(self, before: int) -> None:
        """Removes the inputs that start before a sample of the signal."""
        for span in [span for span in self.known if span[0] < before]:
            del self.known[span]


@torch.inference_mode()
def find_candidates(
    recognizer: Recognizer, scorer: SegmentScorer, mono: Tensor, since: int = 0, readings: Readings | None = None
) -> Candidates:
    """Returns the candidates of a waveform [T] at 16 kHz, those that are letters sorted by end.

    Args:
        recognizer: its classifier reads the letters.
        scorer: on the recognizer's device.
        mono: the waveform.
        since: the frame from which on candidates may start.
        readings: of a signal that the waveform is a window of; nothing is read twice.
    """
    centred = (mono - mono.mean()).to(recognizer.device)[None]
    mel = scorer.front_end.spectrum(centred)
    features = scorer.normalise(scorer.front_end.log_mel(mel))
    cuts = [speech_parts(mel[0].cpu(), pause) for pause in PAUSES]
    speech = torch.zeros(mel.shape[1], dtype=torch.bool, device="cpu")
    for first, last in cuts[0]:
        speech[first:last] = True
    chosen = _grid_segments(scorer, features, speech, since)
    pieces = {part for parts in cuts for part in parts if SHORTEST <= part[1] - part[0] <= LONGEST_PIECE}
    pieces = {part for part in pieces if part[0] >= since}
    said_alone = set(_said_alone(cuts))
    # A piece that is on the grid too is a piece.
    rows = sorted({**dict.fromkeys(chosen, False), **dict.fromkeys(pieces, True)}.items(), key=lambda row: row[0][::-1])
    spans = np.array([span for span, _ in rows], np.int64).reshape(-1, 2)
    scores = _scores(scorer, features, torch.from_numpy(spans)).double()
    found = Candidates(
        starts=spans[:, 0],
        ends=spans[:, 1],
        odds=scores[:, SegmentScorer.ODDS].numpy(),
        pieces=np.array([piece for _, piece in rows], bool),
        alone=np.array([span in said_alone for span, _ in rows], bool),
        log_probabilities=_read(
            recognizer,
            mono,
            _inputs(
                spans.tolist(),
                speech.tolist(),
                scorer.front_end.spectrum.hop_length,
                round(recognizer.audio.seconds * SAMPLE_RATE),
                len(mono),
            ),
            Readings() if readings is None else readings,
        ),
        named=_named(scores[:, : SegmentScorer.ODDS].log_softmax(1), recognizer.labels),
        doubles=np.zeros(len(spans), bool),
    )
    return with_doubles(found, scores[:, SegmentScorer.DOUBLE].numpy())


def _said_alone(cuts: Sequence[Parts]) -> Parts:
    """Returns the pieces, of those between each of `PAUSES`, that are letters said one by one; none otherwise."""
    for which, shortest, longest in ALONE:
        if len(cuts[which]) > 1 and all(shortest <= last - first <= longest for first, last in cuts[which]):
            return cuts[which]
    return []


def _named(by_letter: Tensor, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Returns log-probabilities [K, L] of labels, of those [K, 26] of the letters A to Z."""
    by_chance = by_letter.new_full((len(by_letter), 1), -math.log(len(LETTERS)))
    columns = [LETTERS.index(label) if label in LETTERS else len(LETTERS) for label in labels]
    return torch.cat([by_letter, by_chance], 1)[:, columns].numpy()


def _scores(scorer: SegmentScorer, features: Tensor, spans: Tensor) -> Tensor:
    """Returns the scorer's output [S, 28] for segments [S, 2]."""
    found = [torch.zeros(0, SegmentScorer.DOUBLE + 1, dtype=torch.float32, device="cpu")]
    for first in range(0, len(spans), BATCH):
        start, end = spans[first : first + BATCH].to(features.device).unbind(1)
        found.append(scorer(features, torch.zeros_like(start), start, end).cpu())
    return torch.cat(found)


def _grid_segments(scorer: SegmentScorer, features: Tensor, speech: Tensor, since: int = 0) -> list[tuple[int, int]]:
    """Returns start and end of segments that are more likely letters, or the word double, than their neighbours.

    Args:
        scorer: the scorer.
        features: [1, F, C].
        speech: bool [F], what is not a pause.
        since: the frame from which on they may start.
    """
    frames = features.shape[1]
    near = F.max_pool1d(speech.float()[None], 2 * AROUND_SPEECH + 1, 1, AROUND_SPEECH)[0] > 0
    start = torch.arange(since, max(since + 1, frames - SHORTEST), GRID, device="cpu")
    length = torch.arange(SHORTEST, LONGEST + 1, GRID, device="cpu")
    every = torch.cartesian_prod(start, length)  # [S, 2]
    first, end = every[:, 0], every.sum(1)
    indices = ((end < frames) & near[first] & near[end.clamp(max=frames - 1)]).nonzero()[:, 0]
    grid = torch.full((2, len(every)), -torch.inf, dtype=torch.float32, device="cpu")
    columns = (SegmentScorer.ODDS, SegmentScorer.DOUBLE)
    for part in torch.split(indices, BATCH):
        grid[:, part] = _scores(scorer, features, torch.stack([first[part], end[part]], 1))[:, columns].T
    odds, double = grid.view(2, len(start), len(length))
    kept = (_peaks(odds, LEAST) | _peaks(double, LEAST_DOUBLE)).flatten().nonzero()[:, 0]
    return list(zip(first[kept].tolist(), end[kept].tolist(), strict=True))


def _peaks(grid: Tensor, least: float) -> Tensor:
    """Returns which segments of log-odds by start and length are above `least` and near or above all neighbours."""
    starts, lengths = grid.shape
    # The neighbour with the same end and a start one step later is one step shorter.
    padded = F.pad(grid, (2, 2, 1, 1), value=-torch.inf)
    best = grid > least
    for later in (-1, 0, 1):
        for longer in (-1, 0, 1):
            shift = 2 + longer - later
            best &= grid >= padded[1 + later : 1 + later + starts, shift : shift + lengths] - MARGIN
    return best


def _inputs(
    spans: Sequence[Sequence[int]], speech: Sequence[bool], hop: int, size: int, length: int
) -> list[tuple[int, int]]:
    """Returns first and last sample, exclusive, of the classifier's input for each segment.

    What is around a letter belongs to its input as far as it is a pause.
    """
    inputs = []
    for start, end in spans:
        first, last = start, end
        while first > max(0, start - CONTEXT) and not speech[first - 1]:
            first -= 1
        while last < min(len(speech), end + CONTEXT) and not speech[last]:
            last += 1
        inputs.append((first * hop, min(last * hop, first * hop + size, length)))
    return inputs


def _read(
    recognizer: Recognizer, mono: Tensor, inputs: Sequence[tuple[int, int]], readings: Readings
) -> NDArray[np.float64]:
    """Returns log-probabilities [K, L] of the letters in parts of a waveform, each alone in its second."""
    audio = recognizer.audio
    size = round(audio.seconds * SAMPLE_RATE)
    keys = [(readings.origin + first, readings.origin + last) for first, last in inputs]
    new = [number for number, key in enumerate(keys) if key not in readings.known]
    # Only recordings of minutes take long enough for the bar to appear.
    for chunk in tqdm(range(0, len(new), EVALUATION_BATCH), desc="letters", delay=BAR_AFTER, leave=False, disable=None):
        numbers = new[chunk : chunk + EVALUATION_BATCH]
        seconds = torch.zeros(len(numbers), size, dtype=torch.float32, device="cpu")
        for row, number in zip(seconds, numbers, strict=True):
            first, last = inputs[number]
            left = (size - (last - first)) // 2
            row[left : left + last - first] = mono[first:last]
        if audio.sample_rate != SAMPLE_RATE:
            at_rate = (resample(second, SAMPLE_RATE, audio.sample_rate)[: audio.num_samples] for second in seconds)
            seconds = torch.stack([F.pad(second, (0, audio.num_samples - len(second))) for second in at_rate])
        logits = recognizer.checkpoint.model(seconds.to(recognizer.device)).cpu().double()
        rows = (logits / recognizer.checkpoint.temperature).log_softmax(1)
        readings.known.update((keys[number], row) for number, row in zip(numbers, rows, strict=True))
    if not keys:
        return np.zeros((0, len(recognizer.labels)))
    return torch.stack([readings.known[key] for key in keys]).numpy()


def with_doubles(found: Candidates, odds: NDArray[np.float64]) -> Candidates:
    """Returns the candidates and, for each that is the word double, one that is the letter that follows it.

    So "double L" is two letters L, the first of them at the time of "double".

    Args:
        found: K candidates.
        odds: [K], log-odds of each being the word double.
    """
    likely = found.odds + found.log_probabilities.max(1) if len(odds) else odds
    rows, followed = [], []
    for index in np.flatnonzero(odds > LEAST_DOUBLE):
        gap = found.starts - found.ends[index]
        after = np.flatnonzero((gap >= -OVERLAP) & (gap <= AFTER_DOUBLE) & (likely > 0))
        if len(after):
            nearest = after[gap[after] <= gap[after].min() + SHORTEST]
            rows.append(index)
            followed.append(nearest[likely[nearest].argmax()])
    if not rows:
        return found
    return Candidates(
        starts=np.concatenate([found.starts, found.starts[rows]]),
        ends=np.concatenate([found.ends, found.ends[rows]]),
        odds=np.concatenate([found.odds, odds[rows]]),
        pieces=np.concatenate([found.pieces, np.zeros(len(rows), bool)]),
        alone=np.concatenate([found.alone, np.zeros(len(rows), bool)]),
        log_probabilities=np.concatenate([found.log_probabilities, found.log_probabilities[followed]]),
        named=np.concatenate([found.named, found.named[followed]]),
        doubles=np.concatenate([found.doubles, np.ones(len(rows), bool)]),
    )
