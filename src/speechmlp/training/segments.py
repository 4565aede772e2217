"""Training of the segment scorer: stretches of running speech that are one whole letter, and others.

Dimension key: `B` recordings, `T` samples, `S` stretches.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio_format import FULL_SCALE
from speechmlp.labels import NUM_LETTERS
from speechmlp.models.augmentation import Augment
from speechmlp.models.segments import LONGEST, SHORTEST, SegmentScorer
from speechmlp.training.spelled_rows import DOUBLE, HOP, OTHER, Pool, Spoken

FRAMES = 221
"""Of the stretch that is cut from each recording."""
RECORDINGS, STRETCHES = 24, 24
"""Of a batch, and of each recording in it."""
CLEAN = 0.33
"""Fraction of batches that are used as they were recorded."""
NEAR = 2
"""Frames that alignment may be wrong by."""
JOINED = 0.35
"""Fraction of the recordings that are joined from single letters."""
LETTER_LOSS = 0.3
"""Weight of the letters' cross-entropy."""

Parts = Sequence[tuple[int, int, int]]
"""Start, end (frames) and label of each letter or other word."""
Stretch = tuple[int, int, float, int]
"""Start, end (frames), how whole a letter or double it is, and its label."""


def how_whole(start: int, end: int, parts: Parts) -> tuple[float, int]:
    """Returns 1 for a part, less if the ends are a little off, 0 for anything else, and its label."""

    def near(distance: int) -> float:
        return min(1.0, max(0.0, 1 - (abs(distance) - 1) / 5))

    whole = [(near(start - first) * near(end - last), label) for first, last, label in parts]
    return max(whole, default=(0.0, OTHER))


def draw_stretches(parts: Parts, frames: int, generator: np.random.Generator) -> list[Stretch]:
    """Returns `STRETCHES` of a recording, about three in ten of them letters."""

    def some(low: int, high: int) -> int:
        return int(generator.integers(low, high + 1))

    drawn: list[Stretch] = []
    while len(drawn) < STRETCHES:
        kind = generator.random()
        if parts and kind < 0.85:
            place = some(0, len(parts) - 1)
            start, end = (edge + some(-NEAR, NEAR) for edge in parts[place][:2])
            if 0.32 <= kind < 0.47:  # starts as it does, ends anywhere
                end = start + some(SHORTEST, 80)
            elif 0.47 <= kind < 0.62:
                start = end - some(SHORTEST, 80)
            elif 0.62 <= kind < 0.72:  # shifted
                start, end = start + some(-12, 12), end + some(-12, 12)
            elif kind >= 0.72:  # several letters, or up to where another starts
                last = parts[min(len(parts) - 1, place + some(0, 2))]
                end = last[1 if generator.random() < 0.7 else 0] + some(-3, 3)
        else:
            start = some(0, frames - SHORTEST - 1)
            end = start + some(SHORTEST, 80)
        start, end = max(0, start), min(frames - 1, end)
        if SHORTEST <= end - start <= LONGEST:
            drawn.append((start, end, *how_whole(start, end, parts)))
    return drawn


def _window(
    samples: NDArray[np.float32], parts: Parts, generator: np.random.Generator
) -> tuple[NDArray[np.float32], list[tuple[int, int, int]]]:
    """Returns `FRAMES` from somewhere in a recording, or around it, and the parts that are in it."""
    length = (FRAMES - 1) * HOP
    room = len(samples) - length
    first = int(generator.integers(min(0, room) // HOP, max(0, room) // HOP + 1))  # frames
    part = samples[max(0, first * HOP) : first * HOP + length]
    row = np.zeros(length, np.float32)
    before = max(0, -first * HOP)
    row[before : before + len(part)] = part[: length - before]
    moved = [(start - first, end - first, label) for start, end, label in parts]
    return row, [one for one in moved if one[0] >= -NEAR and one[1] < FRAMES + NEAR]


def loss_of(scores: Tensor, whole: Tensor, label: Tensor) -> Tensor:
    """Returns the loss, in nats, of scores [S, 28] of stretches that are a part of some label to some degree, [S]."""
    is_letter, is_double = (label >= 0) & (label < NUM_LETTERS), label == DOUBLE
    odds = F.binary_cross_entropy_with_logits(scores[:, SegmentScorer.ODDS], whole * is_letter)
    double = F.binary_cross_entropy_with_logits(scores[:, SegmentScorer.DOUBLE], whole * is_double)
    sure = (is_letter & (whole > 0.5)).nonzero()[:, 0]
    letters = F.cross_entropy(scores[sure, :NUM_LETTERS], label[sure], label_smoothing=0.05, reduction="sum")
    return odds + double + LETTER_LOSS * letters / max(1, len(sure))


def train_scorer(
    scorer: SegmentScorer, spoken: Sequence[Spoken], pool: Pool, augment: Augment, steps: int, lr: float, seed: int
) -> None:
    """Trains a scorer in place; the same seed gives the same weights.

    Args:
        scorer: the network.
        spoken: recordings of spelled words and others.
        pool: single letters, from which words are joined.
        augment: used for two thirds of the batches.
        steps: number of batches.
        lr: highest learning rate.
        seed: of everything that is drawn.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.15)
    chances = np.array([one.weight for one in spoken])
    which = torch.arange(RECORDINGS).repeat_interleave(STRETCHES)
    scorer.train()
    bar = tqdm(range(steps), "training", disable=None)
    for _ in bar:
        rows, stretches = [], []
        for index in generator.choice(len(spoken), RECORDINGS, p=chances / chances.sum()):
            if generator.random() < JOINED:
                samples, parts = pool.draw(FRAMES / 100, generator)
            else:
                samples, parts = spoken[index].samples.astype(np.float32) / FULL_SCALE, spoken[index].parts
            row, inside = _window(samples, parts, generator)
            rows.append(row)
            stretches += draw_stretches(inside, FRAMES, generator)
        waveforms = torch.from_numpy(np.stack(rows))
        with torch.no_grad():
            if generator.random() < CLEAN:
                features = scorer.features(waveforms)
            else:
                mel = augment.mel(waveforms - waveforms.mean(1, keepdim=True), scorer.front_end.spectrum)
                features = scorer.normalise(scorer.front_end.log_mel(mel))
        start, end, whole, label = (torch.tensor(column) for column in zip(*stretches, strict=True))
        loss = loss_of(scorer(features, which, start, end), whole.float(), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    scorer.eval()


@torch.inference_mode()
def accuracy(scorer: SegmentScorer, spoken: Sequence[Spoken]) -> tuple[float, float]:
    """Returns how often it is right on drawn stretches of recordings: whether they are letters, and which."""
    generator = np.random.default_rng(1)
    right: list[Tensor] = []
    named: list[Tensor] = []
    scorer.eval()
    for one in spoken:
        features = scorer.features(torch.from_numpy(one.samples.astype(np.float32) / FULL_SCALE)[None])
        drawn = draw_stretches(one.parts, features.shape[1], generator)
        start, end, whole, label = (torch.tensor(column) for column in zip(*drawn, strict=True))
        scores = scorer(features, torch.zeros(len(start), dtype=torch.int64), start, end)
        is_letter = (whole > 0.5) & (label >= 0)
        right.append((scores[:, SegmentScorer.ODDS] > 0) == is_letter)
        named.append((scores[:, :NUM_LETTERS].argmax(1) == label)[is_letter])
    return torch.cat(right).double().mean().item(), torch.cat(named).double().mean().item()
