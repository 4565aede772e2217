import math
import time

import numpy as np
import pytest
import scipy.stats
import torch

from speechmlp.evaluation.bootstrap import SpeakerBootstrap, t_quantile
from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.results import Estimate


def fraction(correct: torch.Tensor, speakers: list[str]) -> Estimate:
    estimate = SpeakerBootstrap(speakers).fraction(correct)
    assert estimate is not None
    return estimate


@pytest.mark.parametrize("freedom", [2, 5, 9, 30, 1000])
def test_t_quantiles_agree_with_scipy(freedom: int) -> None:
    tolerance = 0.05 if freedom == 2 else 2e-3
    assert math.isclose(t_quantile(0.025, freedom), scipy.stats.t.ppf(0.025, freedom), rel_tol=tolerance)


def test_one_speaker_gets_wilsons_interval() -> None:
    correct = torch.tensor([True] * 8 + [False] * 2)
    interval = fraction(correct, ["x"] * 10)
    expected = scipy.stats.binomtest(8, 10).proportion_ci(method="wilson")
    assert math.isclose(interval.low, expected.low, rel_tol=1e-9)
    assert math.isclose(interval.high, expected.high, rel_tol=1e-9)
    assert "Wilson" in interval.method


def test_all_right_is_not_certainty() -> None:
    interval = fraction(torch.ones(40, dtype=torch.bool), [f"s{number % 4}" for number in range(40)])
    assert interval.high == pytest.approx(1.0)
    assert 0.85 < interval.low < 0.95


def test_speakers_widen_the_interval() -> None:
    speakers = [f"s{number // 40}" for number in range(400)]
    by_speaker = torch.tensor([number // 40 < 5 for number in range(400)])  # half of the speakers always right
    mixed = torch.tensor([number % 2 == 0 for number in range(400)])
    wide, narrow = fraction(by_speaker, speakers), fraction(mixed, speakers)
    assert wide.high - wide.low > 0.5
    assert narrow.high - narrow.low < 0.02


def test_a_share_among_none_is_none() -> None:
    right = torch.tensor([True, False])
    assert SpeakerBootstrap(["x", "y"]).fraction(right, torch.zeros(2, dtype=torch.bool)) is None


def test_a_mean_agrees_with_scipys_bootstrap() -> None:
    values = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.0, 60))
    speakers = [f"s{number}" for number in range(60)]  # one utterance each: the plain bootstrap
    sums = torch.stack([values, torch.ones(60, dtype=torch.float64)], 1)
    estimate = SpeakerBootstrap(speakers).estimate(sums, lambda drawn: drawn[:, 0] / drawn[:, 1])
    tail = scipy.stats.norm.cdf(math.sqrt(60 / 59) * scipy.stats.t.ppf(0.025, 59))
    expected = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, method="percentile", confidence_level=1 - 2 * tail, n_resamples=20_000, rng=1
    ).confidence_interval
    assert estimate.value == pytest.approx(values.mean().item())
    assert estimate.low == pytest.approx(expected.low, abs=0.02)
    assert estimate.high == pytest.approx(expected.high, abs=0.02)


def test_intervals_cover_what_they_promise() -> None:
    """Ten speakers of 40 letters whose own accuracies vary, like AN4's test: about 95 % of intervals hold the truth."""
    random = np.random.default_rng(0)
    truth, hits, trials = 0.9, 0, 200
    for _ in range(trials):
        ability = random.beta(truth * 30, (1 - truth) * 30, size=10)
        correct = torch.from_numpy(random.random((10, 40)) < ability[:, None]).flatten()
        interval = fraction(correct, [f"s{number // 40}" for number in range(400)])
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / trials <= 0.985, hits / trials


@pytest.mark.slow
@pytest.mark.parametrize("num_speakers", [1, 4000])
def test_a_hundred_thousand_letters_take_seconds(num_speakers: int) -> None:
    labels = torch.randint(26, (100_000,))
    speakers = [f"s{number % num_speakers}" for number in range(100_000)]
    started = time.perf_counter()
    score(torch.randn(100_000, 26), labels, speakers)
    assert time.perf_counter() - started < 60
