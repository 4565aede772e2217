"""Comparison of two classifiers on the same utterances.

Dimension key: `N` utterances.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.results import ChangedUtterance, Comparison
from speechmlp.labels import LETTERS


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test (1947).

    Args:
        only_first: utterances that only the first classifier recognises.
        only_second: utterances that only the second one recognises.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(count, hits) for hits in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**count))


def compare(
    name: str,
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    speakers: Sequence[str],
    ids: Sequence[str],
) -> Comparison:
    """Compares a classifier with another one on the same utterances.

    Args:
        name: of the second classifier.
        first: logits float32 [N, 26] of the first.
        second: logits float32 [N, 26] of the second.
        labels: int64 [N].
        speakers: N names.
        ids: N names of utterances.
    """
    recognised, recognised_by_other = first.argmax(1), second.argmax(1)
    right, right_of_other = recognised == labels, recognised_by_other == labels
    sums = torch.stack([right.double() - right_of_other.double(), torch.ones(len(labels))], 1)
    changed = (recognised != recognised_by_other).nonzero()[:, 0].tolist()
    only_first, only_second = int((right & ~right_of_other).sum()), int((~right & right_of_other).sum())
    return Comparison(
        other=name,
        difference=SpeakerBootstrap(speakers).estimate(sums, lambda drawn: drawn[:, 0] / drawn[:, 1]),
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
        changed=tuple(
            ChangedUtterance(
                id=ids[position],
                spoken=LETTERS[labels[position]],
                recognised=LETTERS[recognised[position]],
                recognised_by_other=LETTERS[recognised_by_other[position]],
            )
            for position in changed
        ),
    )
