from pathlib import Path

import pytest
import scipy.stats

from speechmlp.data.manifest import Utterance
from speechmlp.evaluation.comparison import compare, mcnemar
from speechmlp.evaluation.text import format_comparison


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (10, 1), (0, 8), (300, 250), (40, 41)])
def test_mcnemar_agrees_with_the_binomial_test(first: int, second: int) -> None:
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_two_classifiers_on_the_same_letters() -> None:
    spoken = ["A", "B", "C", "D"] * 10
    one, other = list(spoken), list(spoken)
    other[0], one[5], other[6] = "H", "D", "Z"
    utterances = [
        Utterance(Path(f"s{number % 8}/u{number}.wav"), letter, f"s{number % 8}")
        for number, letter in enumerate(spoken)
    ]
    found = compare("other.pt", one, other, utterances)
    assert (found.only_first, found.only_second) == (2, 1)
    assert found.difference.value == pytest.approx(1 / 40)
    assert found.difference.low < 0 < found.difference.high
    assert found.p_value == pytest.approx(1.0)
    changed = [
        (item.speaker, item.recording, item.spoken, item.recognised, item.recognised_by_other) for item in found.changed
    ]
    assert changed == [
        ("s0", "s0/u0.wav", "A", "A", "H"),
        ("s5", "s5/u5.wav", "B", "D", "B"),
        ("s6", "s6/u6.wav", "C", "C", "Z"),
    ]
    assert "With 3 letters that only one gets right, no p smaller than 0.2500 is possible." in format_comparison(found)
    enough = found.model_copy(update={"only_first": 5, "only_second": 1})
    assert "no p smaller" not in format_comparison(enough)


def test_a_classifier_against_itself() -> None:
    recognised = ["A", "B", "C"] * 4
    utterances = [Utterance(Path("u.wav"), "A", name) for name in "xy" * 6]
    found = compare("same.pt", recognised, recognised, utterances)
    assert (found.difference.value, found.p_value, found.changed) == (0.0, 1.0, ())
