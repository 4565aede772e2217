"""What is said of labels: nothing where judges are weak, and about as many wrong ones as there are."""

import pytest
import torch
from torch import Tensor

from speechmlp.audit.judgement import judge, pool
from speechmlp.audit.label_errors import doubt

COUNT = 600
SPEAKERS = [f"s{index % 20}" for index in range(COUNT)]


def judged(sure: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns right labels, and the probabilities of a calibrated judge of that sureness."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = (sure * torch.randn(COUNT, 26, generator=generator, dtype=torch.float64)).softmax(1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0], probabilities


def with_errors(labels: Tensor, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    changed = labels.clone()
    chosen = torch.randperm(COUNT, generator=generator)[:count]
    changed[chosen] = (labels[chosen] + torch.randint(1, 26, (count,), generator=generator)) % 26
    return changed


@pytest.mark.parametrize("sure", [1.0, 4.0, 20.0])
def test_nothing_is_claimed_of_right_labels(sure: float) -> None:
    for seed in range(5):
        labels, probabilities = judged(sure, seed)
        found = judge(pool({"model": probabilities}, labels).exp(), labels, SPEAKERS, ["x"])
        assert not found.certain
        assert found.wrong_low == 0
        assert found.expected_false_low <= found.counted <= found.expected_false_high + 3


@pytest.mark.parametrize("wrong", [18, 60])
def test_the_number_of_wrong_labels_is_in_the_interval_if_the_judge_is_good(wrong: int) -> None:
    labels, probabilities = judged(20.0)
    given = with_errors(labels, wrong)
    together = pool({"model": probabilities}, given).exp()
    found = judge(together, given, SPEAKERS, ["x"])
    assert found.certain
    assert found.wrong_low <= wrong <= found.wrong_high + 4  # a few do not stand out
    assert doubt(together, given).confident[given != labels].double().mean() > 0.8


def test_a_weak_judge_claims_nothing_of_wrong_labels_either() -> None:
    labels, probabilities = judged(2.0)
    given = with_errors(labels, 18)
    assert not judge(pool({"network": probabilities}, given).exp(), given, SPEAKERS, ["x"]).certain


def test_a_useless_judge_gets_little_weight_and_a_good_one_decides() -> None:
    labels, good = judged(20.0)
    noise = judged(20.0, seed=5)[1]
    together = pool({"network": noise, "model": good}, labels)
    assert (together.argmax(1) == good.argmax(1)).double().mean() > 0.95
    other = pool({"network": good, "model": noise}, labels)
    assert (other.argmax(1) == good.argmax(1)).double().mean() > 0.95


@pytest.mark.parametrize("count", [1, 2, 26])
def test_few_labels_of_one_speaker_are_judged_by_the_model_as_it_is(count: int) -> None:
    labels, good = judged(20.0)
    together = pool({"network": torch.full((count, 26), 1 / 26), "model": good[:count]}, labels[:count])
    torch.testing.assert_close(together.exp(), good[:count], atol=0.1, rtol=0)
    found = judge(together.exp(), labels[:count], ["one"] * count, ["x"])
    assert not found.certain
    assert found.counted <= count
