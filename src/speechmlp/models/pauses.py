"""Speech and pauses of a recording, by energy.

Dimension key: `F` frames (10 ms), `C` mel bands.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

QUANTILE = 0.1
"""Fraction of the quietest frames, whose level is that of the pauses."""
RANGE = 45.0
"""dB below the loudest frame of a band under which there is no speech."""
ABOVE = 0.22
"""Level of speech: the fraction of the way from the pauses to the loudest frames, both in dB."""
LEAST = 6.0
"""dB by which speech is above the pauses at least."""
SHORTEST = 4
"""Frames of the shortest part that is speech: a click is shorter."""

Parts = list[tuple[int, int]]
"""First frame and last frame, exclusive, of each part."""


def activity(mel: Tensor) -> Tensor:
    """Returns the level above the pauses in dB, [F], of mel energies [F, C]; C is a multiple of 4.

    Half the mean and half the maximum of four bands, so that a fricative counts as much as a vowel.
    """
    frames, bands = mel.shape
    level = 10 * torch.log10(mel.reshape(frames, 4, bands // 4).mean(2) + 1e-12)
    level = F.avg_pool1d(level.T[:, None], 3, 1, 1, count_include_pad=False)[:, 0].T
    floor = torch.maximum(level.quantile(QUANTILE, dim=0), level.amax() - RANGE)
    above = (level - floor).clamp_min(0)
    return 0.5 * above.mean(1) + 0.5 * above.amax(1)


def speech_parts(mel: Tensor, pause: int) -> Parts:
    """Returns the parts of mel energies [F, C] that are speech, between pauses of at least so many frames."""
    level = activity(mel)
    top = level.quantile(0.95).item()
    speech = (level > max(LEAST, ABOVE * top)).tolist()
    parts: Parts = []
    for frame, one in enumerate(speech):
        if not one:
            continue
        if parts and frame - parts[-1][1] < pause:
            parts[-1] = (parts[-1][0], frame + 1)
        else:
            parts.append((frame, frame + 1))
    return [(first, last) for first, last in parts if last - first >= SHORTEST]
