"""Groups of utterances that a classifier may serve differently: gender, duration, loudness.

Dimension key: `N` utterances, `T` samples.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.audio import SAMPLE_RATE

GENDERS = {"f": "female", "m": "male"}
_GENDER_FIRST = re.compile(r"[fm](\d{1,2}|[a-z]{2,3}\d?)")
"""Speakers of AN4 (fbbh), ISOLET (fcmc0) and TI46 (f1): the first character is the gender."""
DURATIONS = ((0.0, 0.25, "under 0.25 s"), (0.25, 0.4, "0.25 to 0.4 s"), (0.4, float("inf"), "0.4 s and longer"))
LOUDNESSES = (
    (-200.0, -40.0, "under -40 dBFS"),
    (-40.0, -25.0, "-40 to -25 dBFS"),
    (-25.0, 10.0, "-25 dBFS and louder"),
)


def _named(value: float, ranges: Sequence[tuple[float, float, str]]) -> str:
    return next(name for low, high, name in ranges if low <= value < high)


def genders(speakers: Sequence[str]) -> list[str | None] | None:
    """Returns each speaker's gender where all names are of corpora that tell it; None otherwise."""
    if not all(_GENDER_FIRST.fullmatch(speaker) for speaker in speakers):
        return None
    return [GENDERS[speaker[0]] for speaker in speakers]


def find_groups(speakers: Sequence[str], lengths: Tensor, power: Tensor) -> Mapping[str, Sequence[str | None]]:
    """Returns kind -> each utterance's group.

    Args:
        speakers: N names.
        lengths: int64 [N], recorded samples of each.
        power: [N], mean square of each one's recorded samples, full scale being 1.
    """
    found: dict[str, Sequence[str | None]] = {}
    if (by_gender := genders(speakers)) is not None:
        found["gender"] = by_gender
    found["duration"] = [_named(length / SAMPLE_RATE, DURATIONS) for length in lengths.tolist()]
    level = 10 * torch.log10(power.clamp_min(1e-15))
    found["loudness"] = [_named(decibels, LOUDNESSES) for decibels in level.tolist()]
    return found
