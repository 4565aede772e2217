"""Temperature and threshold of a model, fitted on letters that it was not trained on, and what they lead to there.

Dimension key: `N` letters, `M` non-letters.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.runs.history import Calibration

REJECTED = 0.05
"""Fraction of letters that the fitted threshold rejects."""
BOUNDS = (math.exp(-3), math.exp(3))
"""Smallest and largest temperature that is tried."""


def fit_reject_below(logits: Tensor) -> float:
    """Returns the threshold on the probability of the most probable letter under which `REJECTED` of the letters are.

    Args:
        logits: float32 [N, 26] on utterances not trained on, divided by the temperature.
    """
    return logits.double().softmax(1).amax(1).quantile(REJECTED).item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Returns the temperature within `BOUNDS` with the lowest cross-entropy (Guo et al., 2017).

    The loss has one minimum over the logarithm of the temperature, which golden-section search finds.

    Args:
        logits: float32 [N, 26] on utterances not trained on.
        labels: int64 [N].
    """
    logits, labels = logits.double(), labels.to(logits.device)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    low, high, ratio = *map(math.log, BOUNDS), (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def at_bound(temperature: float) -> str:
    """Returns what to say about a temperature at the end of the range that is tried; an empty text otherwise."""
    if temperature > 0.99 * BOUNDS[1]:
        return "the largest that is tried: the probabilities are hardly informative"
    if temperature < 1.01 * BOUNDS[0]:
        return "the smallest that is tried: every one of these letters is recognised"
    return ""


def calibrate(logits: Tensor, labels: Tensor, others: Tensor | None, on: str) -> tuple[float, float, Calibration]:
    """Returns temperature and threshold, and what they lead to.

    Args:
        logits: float32 [N, 26] on letters not trained on.
        labels: int64 [N].
        others: logits [M, 26] on non-letters; None if there are none.
        on: what these letters are, as reports name them.
    """
    temperature = fit_temperature(logits, labels)
    reject_below = fit_reject_below(logits / temperature)
    return temperature, reject_below, measure(logits, labels, others, on, temperature, reject_below)


def measure(
    logits: Tensor, labels: Tensor, others: Tensor | None, on: str, temperature: float, reject_below: float
) -> Calibration:
    """Returns what a temperature and a threshold lead to; arguments as for `calibrate`."""
    probability, recognised = (logits.double() / temperature).softmax(1).max(1)
    right, rejected = recognised == labels, probability < reject_below
    of_others = None
    if others is not None and len(others):
        of_others = _mean((others.double() / temperature).softmax(1).amax(1) < reject_below)
    return Calibration(
        on=on,
        letters=len(labels),
        right=_mean(right & ~rejected),
        wrong=_mean(~right & ~rejected),
        rejected=_mean(rejected),
        rejected_right=_mean(rejected & right),
        others=0 if others is None else len(others),
        others_rejected=of_others,
    )


def _mean(chosen: Tensor) -> float:
    return torch.mean(chosen.double()).item()
