import json
import math

import numpy as np
import pytest
import scipy.stats
import torch

from speechmlp.labels import LETTERS, label_of
from speechmlp.metrics import _t_quantile, accuracy_interval, score


def logits_for(recognised: str) -> torch.Tensor:
    return 5.0 * torch.nn.functional.one_hot(torch.tensor([label_of(letter) for letter in recognised]), 26).float()


def labels_for(spoken: str) -> torch.Tensor:
    return torch.tensor([label_of(letter) for letter in spoken])


def test_scores_of_a_small_example() -> None:
    scores = score(logits_for("ABDDX"), labels_for("ABBDA"), ["s1", "s1", "s2", "s2", "s2"])
    assert scores.accuracy == 3 / 5
    assert scores.e_set_accuracy == 2 / 3
    assert (scores.num_utterances, scores.num_speakers) == (5, 2)
    assert scores.letter_accuracy() == {"A": (1, 2), "B": (1, 2), "D": (1, 1)}
    assert set(scores.confusions()) == {("B", "D", 1), ("A", "X", 1)}
    assert int(scores.confusion.sum()) == 5
    right, wrong = math.log(1 + 25 * math.exp(-5)), 5 + math.log(1 + 25 * math.exp(-5))
    assert math.isclose(scores.loss, (3 * right + 2 * wrong) / 5, rel_tol=1e-6)
    assert json.loads(json.dumps(scores.to_json()))["letters"]["A"] == {"recognised": 1, "spoken": 2}


def test_no_letter_of_the_e_set() -> None:
    assert score(logits_for("AF"), labels_for("AF"), ["x", "y"]).e_set_accuracy is None


def test_chance_is_one_in_26() -> None:
    labels = torch.arange(26).repeat(100)
    scores = score(torch.zeros(2600, 26), labels, ["x"] * 2600)
    assert math.isclose(scores.accuracy, 1 / 26)
    assert math.isclose(scores.loss, math.log(26), rel_tol=1e-6)
    assert len(scores.letter_accuracy()) == len(LETTERS)


@pytest.mark.parametrize("freedom", [2, 5, 9, 30, 1000])
def test_t_quantiles_agree_with_scipy(freedom: int) -> None:
    tolerance = 0.05 if freedom == 2 else 2e-3
    assert math.isclose(_t_quantile(0.025, freedom), scipy.stats.t.ppf(0.025, freedom), rel_tol=tolerance)


def test_one_speaker_gets_wilsons_interval() -> None:
    correct = torch.tensor([True] * 8 + [False] * 2)
    interval = accuracy_interval(correct, ["x"] * 10)
    expected = scipy.stats.binomtest(8, 10).proportion_ci(method="wilson")
    assert math.isclose(interval.low, expected.low, rel_tol=1e-9)
    assert math.isclose(interval.high, expected.high, rel_tol=1e-9)
    assert "Wilson" in interval.method


def test_all_right_is_not_certainty() -> None:
    interval = accuracy_interval(torch.ones(40, dtype=torch.bool), [f"s{number % 4}" for number in range(40)])
    assert interval.high == pytest.approx(1.0)
    assert 0.85 < interval.low < 0.95


def test_speakers_widen_the_interval() -> None:
    speakers = [f"s{number // 40}" for number in range(400)]
    by_speaker = torch.tensor([number // 40 < 5 for number in range(400)])  # half of the speakers always right
    mixed = torch.tensor([number % 2 == 0 for number in range(400)])
    wide, narrow = accuracy_interval(by_speaker, speakers), accuracy_interval(mixed, speakers)
    assert wide.high - wide.low > 0.5
    assert narrow.high - narrow.low < 0.02


def test_intervals_cover_what_they_promise() -> None:
    """Ten speakers of 40 letters whose own accuracies vary, like AN4's test: about 95 % of intervals hold the truth."""
    random = np.random.default_rng(0)
    truth, hits, trials = 0.9, 0, 200
    for _ in range(trials):
        ability = random.beta(truth * 30, (1 - truth) * 30, size=10)
        correct = torch.from_numpy(random.random((10, 40)) < ability[:, None]).flatten()
        interval = accuracy_interval(correct, [f"s{number // 40}" for number in range(400)])
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / trials <= 0.985, hits / trials
