"""Band-limited resampling, as products of a few dense matrices.

Dimension key: `T` samples before, `R` samples after, `K` taps.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.environment import import_torchaudio

PHASES = 128
"""Samples that one row of products makes, at least: short rows would leave a processor waiting."""
BAND = 80
"""Neighbouring samples that are made from one stretch of input: the more, the more products are with zeros."""


@dataclass(frozen=True)
class _Band:
    """The kernel of some neighbouring output samples: `taps` [K, outputs] on input samples from `first`."""

    outputs: slice
    first: int
    taps: Tensor


class Resampler:
    """torchaudio's windowed-sinc interpolation (`torchaudio.transforms.Resample`) from one rate to another.

    The same kernel and the same numbers but for rounding. Torchaudio convolves with all phases of the kernel side by
    side, where nine of ten taps are zeros; here they are cut off.

    Args:
        before: rate of what comes, in any unit.
        after: rate of what leaves, in the same unit; not the same.
    """

    def __init__(self, before: int, after: int) -> None:
        transform = import_torchaudio().transforms.Resample(before, after)
        common = math.gcd(before, after)
        before, after = before // common, after // common
        phases = transform.kernel[:, 0]  # [after, K]
        periods = -(-PHASES // after)
        self._before, self._after = before, after
        self._hop, self._block = periods * before, periods * after
        self._width = transform.width
        kernel = torch.zeros(self._block, phases.shape[1] + (periods - 1) * before)
        for period in range(periods):
            place = period * before
            kernel[period * after : (period + 1) * after, place : place + phases.shape[1]] = phases
        self._bands = []
        for start in range(0, self._block, BAND):
            rows = kernel[start : start + BAND]
            used = rows.any(0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
            self._bands.append(_Band(slice(start, start + len(rows)), first, rows[:, first:last].T.contiguous()))
        self._reach = max(band.first + len(band.taps) for band in self._bands)

    def __call__(self, waveform: Tensor) -> Tensor:
        """Returns the waveform [T] as [R], R = T x after / before, rounded up; zeros lie before and behind it."""
        length = math.ceil(len(waveform) * self._after / self._before)
        rows = -(-length // self._block)
        reach = (rows - 1) * self._hop + self._reach
        padded = F.pad(waveform, (self._width, max(0, reach - self._width - len(waveform))))
        resampled = waveform.new_empty(rows, self._block)
        for band in self._bands:
            stretches = padded.as_strided((rows, len(band.taps)), (self._hop, 1), band.first)
            resampled[:, band.outputs] = stretches @ band.taps
        return resampled.view(-1)[:length]


@lru_cache(maxsize=16)
def _resampler(ratio: Fraction) -> Resampler:
    return Resampler(ratio.numerator, ratio.denominator)  # making a kernel costs more than using it


def resample(waveform: Tensor, before: int, after: int) -> Tensor:
    """Returns a waveform [T] of one rate in Hz at another: [R], R = T x after / before, rounded up.

    A kernel grows with the ratio's denominator, to gigabytes for rates such as 22051 Hz: those are taken for a
    neighbour less than a thousandth away. Every usual rate is exact.
    """
    ratio = Fraction(before, after)
    near = ratio.limit_denominator(640) or ratio
    return waveform if near == 1 else _resampler(near)(waveform)
