"""Groups of utterances on which accuracy may differ: gender, duration, loudness.

Dimension key: `N` utterances, `T` samples.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.manifest import Utterance

DURATIONS = ((0.0, 0.25, "under 0.25 s"), (0.25, 0.4, "0.25 to 0.4 s"), (0.4, float("inf"), "0.4 s and longer"))
LOUDNESSES = (
    (-200.0, -40.0, "under -40 dBFS"),
    (-40.0, -25.0, "-40 to -25 dBFS"),
    (-25.0, 10.0, "-25 dBFS and louder"),
)


def _named(value: float, ranges: Sequence[tuple[float, float, str]]) -> str:
    return next(name for low, high, name in ranges if low <= value < high)


def find_groups(utterances: Sequence[Utterance], lengths: Tensor, power: Tensor) -> Mapping[str, Sequence[str | None]]:
    """Returns the group of each utterance, by kind.

    Args:
        utterances: N lines of a manifest, which may say the gender.
        lengths: int64 [N], recorded samples of each.
        power: [N], mean square of each one's recorded samples, full scale being 1.
    """
    found: dict[str, Sequence[str | None]] = {}
    genders = [utterance.gender for utterance in utterances]
    if any(genders):
        found["gender"] = genders
    found["duration"] = [_named(length / SAMPLE_RATE, DURATIONS) for length in lengths.tolist()]
    level = 10 * torch.log10(power.clamp_min(1e-15))
    found["loudness"] = [_named(decibels, LOUDNESSES) for decibels in level.tolist()]
    return found
