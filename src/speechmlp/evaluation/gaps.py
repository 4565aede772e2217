"""The gap between the best and the worst group, with an interval over speakers.

Dimension key: `N` utterances.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.results import Estimate, Gap, Group, Scores

SPEAKER = "speaker"
"""The kind whose groups have one speaker each: an interval over speakers means nothing for it."""
ENOUGH_LETTERS, ENOUGH_SPEAKERS = 10, 2
"""Smaller groups are shown, but not compared: a few letters or one person would decide."""


def is_enough(group: Group, num_speakers: int) -> bool:
    """Returns whether a group is large enough to be compared with others.

    Args:
        group: the group; a speaker needs enough letters only.
        num_speakers: of all utterances; if there is a single one, groups need no second one.
    """
    needed = 1 if group.kind == SPEAKER else min(ENOUGH_SPEAKERS, num_speakers)
    return group.count >= ENOUGH_LETTERS and group.num_speakers >= needed


def of_kind(scores: Scores, kind: str) -> tuple[list[Group], list[Group]]:
    """Returns the groups of a kind in order: those that are large enough to be compared, and the others."""
    groups = [group for group in scores.groups if group.kind == kind]
    enough = [group for group in groups if is_enough(group, scores.num_speakers)]
    return enough, [group for group in groups if group not in enough]


def by_accuracy(groups: Sequence[Group]) -> list[Group]:
    """Returns groups, the worst first."""
    return sorted(groups, key=lambda group: group.accuracy.value)


def find_gaps(
    groups: Sequence[Group], right: Tensor, speakers: Sequence[str], members: Mapping[str, Sequence[str | None]]
) -> tuple[Gap, ...]:
    """Returns the gap of each kind that has two groups of enough letters and speakers.

    Args:
        groups: of all kinds.
        right: bool [N], which utterances are recognised.
        speakers: N names.
        members: kind -> name of each utterance's group, N, None if it has none.
    """
    found = []
    for kind, names in members.items():
        enough = [group for group in groups if group.kind == kind and is_enough(group, len(set(speakers)))]
        if len(enough) > 1:
            worst, *_, best = by_accuracy(enough)
            low, high = (torch.tensor([name == group.name for name in names]) for group in (worst, best))
            found.append(
                Gap(kind=kind, worst=worst, best=best, difference=_difference(worst, best, low, high, right, speakers))
            )
    return tuple(found)


def _difference(
    worst: Group, best: Group, low: Tensor, high: Tensor, right: Tensor, speakers: Sequence[str]
) -> Estimate:
    """Returns the accuracy of the utterances `high`, bool [N], minus that of the utterances `low`.

    Speakers of both groups are drawn together, because a speaker may be in both, such as with short and long letters.
    If a group is all right or all wrong, resampling would leave out its uncertainty: then the intervals of both groups
    are squared and added (Newcombe, 1998, method 10).
    """
    one, other = best.accuracy, worst.accuracy
    if {one.value, other.value} & {0.0, 1.0}:
        value = one.value - other.value
        below = math.hypot(one.value - one.low, other.high - other.value)
        above = math.hypot(one.high - one.value, other.value - other.low)
        method = "of the intervals of both groups (Newcombe, 1998)"
        return Estimate(value=value, low=max(-1.0, value - below), high=min(1.0, value + above), method=method)
    both = (low | high).nonzero()[:, 0].tolist()
    bootstrap = SpeakerBootstrap([speakers[position] for position in both])
    sums = torch.stack([high & right, high, low & right, low], 1)[both]
    return bootstrap.estimate(
        sums,
        lambda total: total[:, 0] / total[:, 1] - total[:, 2] / total[:, 3],
        fewest=min(worst.num_speakers, best.num_speakers) if bootstrap.by_speaker else None,
    )
