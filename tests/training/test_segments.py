"""Training of the segment scorer, on tones that stand for letters."""

from itertools import pairwise

import numpy as np
import torch

from speechmlp.config.schema import AugmentConfig
from speechmlp.evaluation.joined_words import Letter
from speechmlp.models.augmentation import Augment
from speechmlp.models.segments import LONGEST, SHORTEST, SegmentScorer
from speechmlp.training.segments import STRETCHES, accuracy, draw_stretches, how_whole, loss_of, train_scorer
from speechmlp.training.spelled_rows import DOUBLE, HOP, OTHER, Pool, Spoken

RATE = 16_000
PARTS = [(20, 50, 3), (52, 80, OTHER), (120, 150, DOUBLE)]


def tone(hertz: float, seconds: float = 0.3) -> Letter:
    time = np.arange(round(seconds * RATE)) / RATE
    samples = (0.3 * np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)) ** 0.3).astype(np.float32)
    return Letter(samples, 0, len(samples))


def a_pool() -> Pool:
    voices = {f"s{voice}": [(label, tone(400 + 500 * label + 20 * voice)) for label in range(4)] for voice in range(3)}
    return Pool([voices], [tone(4_000, 0.4)], [tone(6_000)])


def test_only_the_part_itself_is_whole() -> None:
    assert how_whole(20, 50, PARTS) == (1.0, 3)
    assert how_whole(21, 49, PARTS) == (1.0, 3)
    assert 0 < how_whole(24, 50, PARTS)[0] < 1
    for start, end in ((20, 80), (35, 50), (20, 36), (90, 110)):
        assert how_whole(start, end, PARTS)[0] == 0
    assert how_whole(120, 150, PARTS) == (1.0, DOUBLE)
    assert how_whole(3, 9, []) == (0.0, OTHER)


def test_stretches_are_inside_and_some_are_whole() -> None:
    generator = np.random.default_rng(0)
    drawn = [one for _ in range(50) for one in draw_stretches(PARTS, 200, generator)]
    assert len(drawn) == 50 * STRETCHES
    assert all(start >= 0 and end < 200 and SHORTEST <= end - start <= LONGEST for start, end, _, _ in drawn)
    assert 0.2 < np.mean([whole > 0.5 for _, _, whole, _ in drawn]) < 0.6
    assert len(draw_stretches([], 200, generator)) == STRETCHES


def test_joined_rows_have_their_parts_where_they_say() -> None:
    pool, generator = a_pool(), np.random.default_rng(1)
    labels = set()
    for _ in range(40):
        samples, parts = pool.draw(2.0, generator)
        assert len(samples) >= 2.0 * RATE
        for start, end, label in parts:
            labels.add(label)
            assert np.abs(samples[start * HOP : end * HOP]).max() > 0.05
        for (_, end, _), (start, _, _) in pairwise(parts):
            assert start >= end - 1
            if start - end > 5:  # what is left of the noise
                assert np.abs(samples[(end + 1) * HOP : (start - 1) * HOP]).mean() < 0.04
    assert labels == {0, 1, 2, 3, OTHER, DOUBLE}


def test_the_loss_rewards_right_scores() -> None:
    whole, label = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([3, 3, DOUBLE, OTHER])
    scores = torch.full((4, 28), -6.0)
    scores[0, 3], scores[0, SegmentScorer.ODDS], scores[2, SegmentScorer.DOUBLE] = 6.0, 6.0, 6.0
    right = loss_of(scores, whole, label).item()
    for row, column in ((0, 3), (0, SegmentScorer.ODDS), (1, SegmentScorer.ODDS), (2, SegmentScorer.DOUBLE)):
        wrong = scores.clone()
        wrong[row, column] *= -1
        assert loss_of(wrong, whole, label).item() > right + 0.3


def test_training_learns_tones_and_repeats() -> None:
    def trained(steps: int) -> tuple[SegmentScorer, list[Spoken]]:
        pool, generator = a_pool(), np.random.default_rng(2)
        rows = [pool.draw(2.5, generator) for _ in range(6)]
        spoken = [Spoken((samples.clip(-1, 1) * 32_767).astype(np.int16), parts, 1.0) for samples, parts in rows]
        torch.manual_seed(0)
        scorer = SegmentScorer(width=8, hidden=32)
        train_scorer(scorer, spoken, pool, Augment(AugmentConfig()), steps=steps, lr=5e-3, seed=0)
        return scorer, spoken

    whole, named = accuracy(*trained(60))
    assert whole > 0.75
    assert named > 0.7
    for one, other in zip(trained(2)[0].parameters(), trained(2)[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
