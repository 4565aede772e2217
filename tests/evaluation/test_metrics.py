import json
import math

import pytest
import torch

from speechmlp.evaluation.calibration import fit_temperature
from speechmlp.evaluation.metrics import COVERAGES, coverage_curve, reliability_bins, score
from speechmlp.evaluation.results import Scores
from speechmlp.labels import LETTERS, label_of


def logits_for(recognised: str) -> torch.Tensor:
    return 5.0 * torch.nn.functional.one_hot(torch.tensor([label_of(letter) for letter in recognised]), 26).float()


def labels_for(spoken: str) -> torch.Tensor:
    return torch.tensor([label_of(letter) for letter in spoken])


def test_scores_of_a_small_example() -> None:
    scores = score(logits_for("ABDDX"), labels_for("ABBDA"), ["s1", "s1", "s2", "s2", "s2"])
    assert scores.accuracy.value == 3 / 5
    assert scores.e_set is not None
    assert scores.e_set.value == 2 / 3
    assert (scores.num_utterances, scores.num_speakers) == (5, 2)
    a, b, x = (scores.letters[label_of(letter)] for letter in "ABX")
    assert (a.right, a.spoken, a.recognised) == (1, 2, 1)
    assert a.recall is not None
    assert a.recall.value == 1 / 2
    assert a.precision is not None
    assert a.precision.value == 1.0
    assert (b.right, b.spoken, b.recognised) == (1, 2, 1)
    assert x.recall is None
    assert x.precision is not None
    assert x.precision.value == 0.0
    assert scores.macro_recall.value == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert set(scores.confusions()) == {("B", "D", 1), ("A", "X", 1)}
    assert sum(map(sum, scores.confusion)) == 5
    right, wrong = math.log(1 + 25 * math.exp(-5)), 5 + math.log(1 + 25 * math.exp(-5))
    assert scores.loss is not None
    assert math.isclose(scores.loss.value, (3 * right + 2 * wrong) / 5, rel_tol=1e-6)
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    assert json.loads(scores.model_dump_json())["letters"][0]["letter"] == "A"


def test_groups_of_letters_that_do_not_occur() -> None:
    scores = score(logits_for("AF"), labels_for("AF"), ["x", "y"])
    assert scores.e_set is None
    assert scores.m_n is None


def test_chance_is_one_in_26() -> None:
    labels = torch.arange(26).repeat(100)
    scores = score(torch.zeros(2600, 26), labels, ["x"] * 2600)
    assert math.isclose(scores.accuracy.value, 1 / 26)
    assert math.isclose(scores.macro_recall.value, 1 / 26)
    assert scores.loss is not None
    assert math.isclose(scores.loss.value, math.log(26), rel_tol=1e-6)
    assert [letter.spoken for letter in scores.letters] == [100] * len(LETTERS)


def test_the_third_letter_counts_for_top_3_only() -> None:
    logits = torch.zeros(4, 26)
    logits[:, 3], logits[:, 2], logits[:, 1] = 3.0, 2.0, 1.0
    scores = score(logits, torch.tensor([3, 2, 1, 0]), ["x", "y", "x", "y"])
    assert scores.accuracy.value == 1 / 4
    assert scores.top3 is not None
    assert scores.top3.value == 3 / 4


def test_a_classifier_of_letters_only_has_no_probabilities() -> None:
    scores = score(logits_for("AB"), labels_for("AB"), ["x", "y"], ranked=False)
    assert (scores.top3, scores.loss, scores.calibration_error) == (None, None, None)
    assert (scores.reliability, scores.coverage) == ((), ())
    assert scores.accuracy.value == 1.0


def overconfident(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose true temperature is 2.5: labels are drawn from their softmax at that temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(count, 26, generator=generator)
    return logits, torch.multinomial((logits / 2.5).softmax(1), 1, generator=generator)[:, 0]


def test_the_fitted_temperature_is_the_true_one() -> None:
    assert fit_temperature(*overconfident(20_000)) == pytest.approx(2.5, rel=0.03)


def test_calibration_error_is_what_temperature_cures() -> None:
    logits, labels = overconfident(4000)
    speakers = [f"s{number % 20}" for number in range(4000)]
    before, after = (score(logits, labels, speakers, temperature=t) for t in (1.0, 2.5))
    assert before.calibration_error is not None
    assert after.calibration_error is not None
    assert before.calibration_error.value > 0.1
    assert after.calibration_error.value < 0.03
    assert before.accuracy == after.accuracy


def test_calibration_error_by_hand() -> None:
    logits = torch.full((10, 26), -50.0)
    logits[:, 0] = math.log(0.8)
    logits[:, 1] = math.log(0.2)
    labels = torch.tensor([0] * 6 + [1] * 4)  # says 80 %, is right in 60 %
    scores = score(logits, labels, ["x"] * 5 + ["y"] * 5)
    assert scores.calibration_error is not None
    assert scores.calibration_error.value == pytest.approx(0.2)
    (filled,) = [place for place in scores.reliability if place.count]
    assert (filled.count, filled.accuracy) == (10, 0.6)
    assert filled.probability == pytest.approx(0.8)
    assert filled.low <= 0.8 < filled.high


def test_bins_cover_zero_to_one() -> None:
    bins = reliability_bins(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([True, True, False]))
    assert (bins[0].count, bins[-1].count, len(bins)) == (1, 1, 15)
    assert bins[-1].high == 1.0


def test_declining_the_least_certain() -> None:
    probability = torch.arange(1, 101) / 100
    right = torch.arange(1, 101) > 10  # the ten least certain are wrong
    points = coverage_curve(probability, right)
    assert [point.coverage for point in points] == list(COVERAGES)
    assert points[0].accuracy == pytest.approx(0.9)
    ninety = points[COVERAGES.index(0.9)]
    assert ninety.accuracy == 1.0
    assert ninety.reject_below == pytest.approx(0.11)


def test_groups_are_scored_on_their_own() -> None:
    labels = labels_for("AABBAABB")
    scores = score(
        logits_for("AABBCCBB"),
        labels,
        ["f1", "f1", "f1", "f1", "m1", "m1", "m2", "m2"],
        groups={"gender": ["female"] * 4 + ["male"] * 4, "duration": [None] * 8},
    )
    found = {group.name: group.accuracy.value for group in scores.groups if group.kind == "gender"}
    assert found == {"female": 1.0, "male": 0.5}
    assert scores.gaps == ()  # of too few letters
    assert {group.name: group.count for group in scores.groups if group.kind == "speaker"} == {
        "f1": 4,
        "m1": 2,
        "m2": 2,
    }
    assert "duration" not in {group.kind for group in scores.groups}
