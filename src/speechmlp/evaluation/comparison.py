"""Comparison of two classifiers on the same utterances.

Dimension key: `N` utterances.
"""

import math
from collections.abc import Sequence

import torch

from speechmlp.data.manifest import Utterance
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.results import Answers, ChangedUtterance, Comparison

SIGNIFICANT = 0.05
"""The p-value under which a difference is usually called significant."""


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test (1947).

    Args:
        only_first: utterances that only the first classifier recognises.
        only_second: utterances that only the second one recognises.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(count, hits) for hits in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**count))


def few_differences(comparison: Comparison) -> str:
    """Returns a sentence if too few letters tell the classifiers apart for a small p-value, otherwise nothing."""
    count = comparison.only_first + comparison.only_second
    smallest = mcnemar(count, 0)
    if smallest <= SIGNIFICANT:
        return ""
    letters = f"{count} letter{'' if count == 1 else 's'}"
    return f"With {letters} that only one gets right, no p smaller than {smallest:.4f} is possible."


def compare(
    name: str,
    first: Sequence[str],
    second: Sequence[str],
    utterances: Sequence[Utterance],
    answers_of_other: Answers | None = None,
) -> Comparison:
    """Compares a classifier with another one on the same utterances.

    Args:
        name: of the second classifier.
        first: N labels, recognised by the first.
        second: N labels, recognised by the second.
        utterances: N lines of a manifest, with the labels that were spoken.
        answers_of_other: at the second's threshold.
    """
    right, right_of_other = (
        torch.tensor([one == said.letter for one, said in zip(each, utterances, strict=True)])
        for each in (first, second)
    )
    changed = [position for position, one in enumerate(first) if one != second[position]]
    only_first, only_second = int((right & ~right_of_other).sum()), int((~right & right_of_other).sum())
    return Comparison(
        other=name,
        answers_of_other=answers_of_other,
        difference=SpeakerBootstrap([utterance.speaker for utterance in utterances]).mean(
            right.double() - right_of_other.double()
        ),
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
        changed=tuple(
            ChangedUtterance(
                id=utterances[position].id,
                speaker=utterances[position].speaker,
                recording=utterances[position].recording,
                spoken=utterances[position].letter,
                recognised=first[position],
                recognised_by_other=second[position],
            )
            for position in changed
        ),
    )
