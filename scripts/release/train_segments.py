#!/usr/bin/env python3
"""Trains the network that finds whole letters in running speech, for `predict --spell`, on AN4's training speakers.

Utterances are aligned with their transcripts; the network is trained on stretches that are one whole
letter, and on others: shifted, cut, joined, other words, and pauses. The last line reports how it does on
validation speakers. The same seed gives the same weights.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.config.loading import load_config
from speechmlp.config.schema import AugmentConfig
from speechmlp.corpora.an4 import Recording, read_samples, read_tree
from speechmlp.corpora.forced_alignment import Alignment, align_all
from speechmlp.errors import UserError, run_command
from speechmlp.labels import LETTERS
from speechmlp.models.augmentation import Augment
from speechmlp.models.segments import WEIGHTS, SegmentScorer, save_scorer
from speechmlp.recognition.speller import LONGEST, SHORTEST

ROOT = Path(__file__).resolve().parents[2]
HOP = 160
"""Samples between frames."""
FRAMES = 201
"""Of the two seconds that are cut from each recording."""
RECORDINGS, STRETCHES = 24, 20
"""Of a batch, and of each recording in it."""
CLEAN = 0.33
"""Fraction of batches that are used as they were recorded."""
NEAR = 2
"""Frames that alignment may be wrong by."""

Ends = list[tuple[int, int]]
"""Start and end, in frames, of each letter."""


@dataclass(frozen=True)
class Speech:
    """A recording, int16 [T] at 16 kHz, its letters, and how often it is drawn."""

    samples: NDArray[np.int16]
    letters: Ends
    weight: float


def _speech(recording: Recording, found: Alignment) -> Speech:
    letters = [(round(first / HOP), round(last / HOP)) for word, first, last in found.segments if word in LETTERS]
    has_letters = any(word in LETTERS for word in recording.words)
    return Speech(found.samples, letters, len(found.samples) / SAMPLE_RATE * (1.5 if has_letters else 0.5))


def how_whole(start: int, end: int, letters: Ends) -> float:
    """Returns 1 for a letter, less if the ends are a little off, 0 for anything else."""

    def near(distance: int) -> float:
        return min(1.0, max(0.0, 1 - (abs(distance) - 1) / 5))

    return max((near(start - first) * near(end - last) for first, last in letters), default=0.0)


def draw_stretches(letters: Ends, frames: int, generator: np.random.Generator) -> list[tuple[int, int, float]]:
    """Returns `STRETCHES` of a recording as (start, end, how whole a letter), three in ten of them letters."""

    def some(low: int, high: int) -> int:
        return int(generator.integers(low, high + 1))

    drawn: list[tuple[int, int, float]] = []
    while len(drawn) < STRETCHES:
        kind = generator.random()
        if letters and kind < 0.8:
            place = some(0, len(letters) - 1)
            start, end = (edge + some(-NEAR, NEAR) for edge in letters[place])
            if 0.3 <= kind < 0.45:  # starts as it does, ends anywhere
                end = start + some(SHORTEST, 80)
            elif 0.45 <= kind < 0.6:
                start = end - some(SHORTEST, 80)
            elif 0.6 <= kind < 0.7:  # shifted
                start, end = start + some(-12, 12), end + some(-12, 12)
            elif kind >= 0.7:  # several letters, or up to where another starts
                last = letters[min(len(letters) - 1, place + some(0, 2))]
                end = last[1 if generator.random() < 0.7 else 0] + some(-3, 3)
        else:
            start = some(0, frames - SHORTEST - 1)
            end = start + some(SHORTEST, 80)
        start, end = max(0, start), min(frames - 1, end)
        if SHORTEST <= end - start <= LONGEST:
            drawn.append((start, end, how_whole(start, end, letters)))
    return drawn


def _cut(speech: Speech, generator: np.random.Generator) -> tuple[NDArray[np.float32], Ends]:
    """Returns two seconds from somewhere in a recording, or around it, and the letters that are in it."""
    length = (FRAMES - 1) * HOP
    room = len(speech.samples) - length
    first = int(generator.integers(min(0, room) // HOP, max(0, room) // HOP + 1))  # frames
    part = speech.samples[max(0, first * HOP) : first * HOP + length]
    samples = np.zeros(length, np.float32)
    before = max(0, -first * HOP)
    samples[before : before + len(part)] = part[: length - before] / FULL_SCALE
    letters = [(start - first, end - first) for start, end in speech.letters]
    return samples, [(start, end) for start, end in letters if start >= -NEAR and end < FRAMES + NEAR]


def _accuracy(scorer: SegmentScorer, speeches: Sequence[Speech]) -> float:
    """Returns the share of drawn stretches of whole recordings for which it is right whether they are letters."""
    generator = np.random.default_rng(1)
    right: list[Tensor] = []
    scorer.eval()
    with torch.inference_mode():
        for speech in speeches:
            features = scorer.features(torch.from_numpy(speech.samples.astype(np.float32) / FULL_SCALE)[None])
            start, end, whole = zip(*draw_stretches(speech.letters, features.shape[1], generator), strict=True)
            which = torch.zeros(len(start), dtype=torch.int64)
            odds = scorer(features, which, torch.tensor(start), torch.tensor(end))
            right.append((odds > 0) == (torch.tensor(whole) > 0.5))
    return torch.cat(right).double().mean().item()


def _train(arguments: argparse.Namespace) -> int:
    if arguments.steps < 1:
        raise UserError(f"--steps: expected 1 or more, found {arguments.steps}")
    config = load_config(arguments.config, [])
    recordings, dictionary = read_tree(arguments.source)
    trained_on: list[Speech] = []
    held_out: list[Speech] = []
    chosen = [recording for recording in recordings if not recording.test]
    texts = [(recording.path, recording.words) for recording in chosen]
    for recording, found in zip(chosen, align_all(texts, read_samples, dictionary, arguments.workers), strict=True):
        if not isinstance(found, str):
            (held_out if recording.split == "valid" else trained_on).append(_speech(recording, found))
    torch.manual_seed(arguments.seed)
    generator = np.random.default_rng(arguments.seed)
    scorer = SegmentScorer()
    augment = Augment(config.augment or AugmentConfig())
    optimizer = torch.optim.AdamW(scorer.parameters(), arguments.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, total_steps=arguments.steps, pct_start=0.15)
    chances = np.array([speech.weight for speech in trained_on])
    which = torch.arange(RECORDINGS).repeat_interleave(STRETCHES)
    for _ in tqdm(range(arguments.steps), "training", disable=None):
        drawn = generator.choice(len(trained_on), RECORDINGS, p=chances / chances.sum())
        samples, letters = zip(*(_cut(trained_on[index], generator) for index in drawn), strict=True)
        waveforms = torch.from_numpy(np.stack(samples))
        with torch.no_grad():
            if generator.random() < CLEAN:
                features = scorer.features(waveforms)
            else:
                mel = augment.mel(waveforms - waveforms.mean(1, keepdim=True), scorer.front_end.spectrum)
                features = scorer.normalise(scorer.front_end.log_mel(mel))
        stretches = [stretch for ends in letters for stretch in draw_stretches(ends, FRAMES, generator)]
        start, end, whole = (torch.tensor(column) for column in zip(*stretches, strict=True))
        loss = F.binary_cross_entropy_with_logits(scorer(features, which, start, end), whole.float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    save_scorer(Path(arguments.output), scorer)
    print(f"Trained on: {len(trained_on)} utterances; {sum(one.numel() for one in scorer.parameters()):,} parameters")
    print(
        f"Whole letter or not: {100 * _accuracy(scorer, held_out):.2f}% right on {len(held_out)} validation utterances"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", metavar="PATH", required=True, help="the AN4 folder")
    parser.add_argument("--output", metavar="FILE", default=str(WEIGHTS), help="(%(default)s)")
    parser.add_argument(
        "--config", metavar="FILE", default=str(ROOT / "configs" / "letters.yaml"), help="whose augmentation is used"
    )
    parser.add_argument("--steps", type=int, default=5000, metavar="N", help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, metavar="RATE", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="aligning processes; one a core by default")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _train, None))
