"""What a poor accuracy means, and when nothing is said."""

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.evaluation.advice import advise
from speechmlp.evaluation.calibration import at_bound, fit_temperature
from speechmlp.evaluation.metrics import find_baseline, score
from speechmlp.evaluation.results import Baseline
from speechmlp.evaluation.text import format_baseline, format_scores

LETTERS_OF_AN4 = Baseline(chance=1 / 26, letter="E", majority=0.088, num_letters=26, num_labels=26)


@pytest.mark.parametrize(
    ("config", "accuracy", "train", "valid", "expected"),
    [
        (
            "seed",
            0.123,
            0.995,
            0.134,
            ["memorised", "99.5 %", "hardly better than always answering E (8.8 %)", "log_mel"],
        ),
        ("seed", 0.123, None, 0.134, ["The model is hardly better than always answering E", "log_mel"]),
        ("seed", 0.06, 0.12, 0.07, ["has not fitted its training letters", "training.optimizer.lr=0.001"]),
        ("an4_log_mel", 0.1, 0.1, 0.1, ["has not fitted its training letters", "epochs"]),
        ("an4_log_mel", 0.43, 0.999, 0.87, ["although 87.0 % of the validation letters are right", "augmentation"]),
        ("an4_log_mel", 0.6, 0.999, 0.62, ["memorised", "only 60.0 %", "augmentation"]),
        ("an4_only", 0.6, 0.999, None, ["memorised", "more speakers"]),
        ("letters", 0.3, None, 0.95, ["these recordings differ", "corpus.mix"]),
        ("an4_log_mel", 0.866, 0.999, 0.87, None),
        ("letters", 0.5, None, None, None),
        ("letters", 0.19, None, None, None),
    ],
)
def test_the_advice_fits_figures_and_configuration(
    config: str, accuracy: float, train: float | None, valid: float | None, expected: list[str] | None
) -> None:
    found = advise(load_config(config), LETTERS_OF_AN4, accuracy, train, valid)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert all(part in found for part in expected), found


def test_few_of_the_letters_are_no_measure() -> None:
    one = Baseline(chance=1 / 26, letter="A", majority=1.0, num_letters=1, num_labels=26)
    assert advise(load_config("letters"), one, 0.9, None, None) is None
    two = Baseline(chance=0.5, letter="yes", majority=0.5, num_letters=2, num_labels=2)
    assert "hardly better than always answering yes" in (advise(load_config("letters"), two, 0.55, None, None) or "")


def test_the_baseline_is_that_of_the_letters() -> None:
    baseline = find_baseline(torch.tensor([4, 4, 4, 0, 25]))
    assert (baseline.letter, baseline.majority, baseline.num_letters) == ("E", 0.6, 3)
    assert format_baseline(baseline) == "For comparison: always E 60.00%, chance 3.85%"
    assert format_baseline(baseline, 0.995, 0.1).endswith(", training letters 99.50%, validation letters 10.00%")
    assert find_baseline(torch.tensor([1, 1]), ("no", "yes")).chance == 0.5


def test_a_temperature_at_its_bound_is_said() -> None:
    labels = torch.arange(520) % 26
    noise = 1000 * torch.randn(520, 26, generator=torch.Generator().manual_seed(0))
    assert "hardly informative" in at_bound(fit_temperature(noise, labels))
    assert "every one of these" in at_bound(fit_temperature(torch.nn.functional.one_hot(labels, 26) * 1.0, labels))
    assert at_bound(8.8) == at_bound(1.0) == at_bound(0.1) == ""


def test_letters_are_answered_right_or_wrong_or_rejected() -> None:
    logits = 10.0 * torch.eye(26)
    logits[1, 2], logits[1, 1] = 10.0, 0.0  # B is answered as C
    logits[3:6] = 0.1 * torch.eye(26)[3:6]  # D, E and F are rejected, though right
    logits[6] = 0.1 * torch.eye(26)[7]  # G is rejected, as H
    speakers = ["x", "y"] * 13
    groups = {"half": ["first"] * 13 + ["second"] * 13}
    scores = score(logits, torch.arange(26), speakers, reject_below=0.5, groups=groups)
    assert scores.answers is not None
    assert scores.answers.counts == (21, 1, 4, 3)
    assert scores.answers.right.value == pytest.approx(21 / 26)
    assert scores.accuracy.value == pytest.approx(24 / 26)
    halves = [group.answers for group in scores.groups if group.kind == "half"]
    assert [half.counts for half in halves if half is not None] == [(8, 1, 4, 3), (13, 0, 0, 0)]
    text = format_scores(scores)
    assert "Answers: 21 right, 1 wrong, 4 rejected below a probability of 0.500, 3 of them ranked right" in text
    assert "Answered right: 80.77% (95% interval " in text
    none = score(logits, torch.arange(26), speakers, reject_below=0.0).answers
    assert none is not None
    assert none.counts == (24, 2, 0, 0)
    assert score(logits, torch.arange(26), speakers, reject_below=0.5, ranked=False).answers is None
