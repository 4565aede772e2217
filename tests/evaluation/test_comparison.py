import pytest
import scipy.stats
import torch

from speechmlp.evaluation.comparison import compare, mcnemar


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (10, 1), (0, 8), (300, 250), (40, 41)])
def test_mcnemar_agrees_with_the_binomial_test(first: int, second: int) -> None:
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_two_classifiers_on_the_same_letters() -> None:
    labels = torch.tensor([0, 1, 2, 3] * 10)
    one, other = (torch.nn.functional.one_hot(labels, 26).float() for _ in range(2))
    other[0] = torch.nn.functional.one_hot(torch.tensor(7), 26).float()  # A taken for H
    one[5] = torch.nn.functional.one_hot(torch.tensor(3), 26).float()  # B taken for D
    other[6] = torch.nn.functional.one_hot(torch.tensor(25), 26).float()  # C taken for Z
    speakers = [f"s{number % 8}" for number in range(40)]
    found = compare("other.pt", one, other, labels, speakers, [f"u{number}" for number in range(40)])
    assert (found.only_first, found.only_second) == (2, 1)
    assert found.difference.value == pytest.approx(1 / 40)
    assert found.difference.low < 0 < found.difference.high
    assert found.p_value == pytest.approx(1.0)
    changed = [(item.id, item.spoken, item.recognised, item.recognised_by_other) for item in found.changed]
    assert changed == [("u0", "A", "A", "H"), ("u5", "B", "D", "B"), ("u6", "C", "C", "Z")]


def test_a_classifier_against_itself() -> None:
    logits = torch.randn(12, 26)
    found = compare("same.pt", logits, logits, torch.arange(12), ["x", "y"] * 6, ["u"] * 12)
    assert (found.difference.value, found.p_value, found.changed) == (0.0, 1.0, ())
