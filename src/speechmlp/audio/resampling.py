"""Band-limited resampling by a few dense matrix products.

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
"""Fewest output samples per row of a product; shorter rows would be slow."""
BAND = 80
"""Adjacent output samples computed from the same stretch of input; with more, more products are with zeros."""


@dataclass(frozen=True)
class _Band:
    """The kernel of some adjacent output samples: `taps` [K, outputs] on input samples from `first` on."""

    outputs: slice
    first: int
    taps: Tensor


class Resampler:
    """torchaudio's windowed-sinc interpolation (`torchaudio.transforms.Resample`) from one rate to another.

    The kernel is the same, and so are the results except for rounding. Torchaudio convolves with all phases of the
    kernel stacked, in which nine of ten taps are zeros; here the zeros are cut off.

    Args:
        before: input rate, in any unit.
        after: output rate, in the same unit; different from `before`.
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
        kernel = phases.new_zeros(self._block, phases.shape[1] + (periods - 1) * before)
        for period in range(periods):
            first = period * before
            kernel[period * after : (period + 1) * after, first : first + phases.shape[1]] = phases
        self._bands = []
        for start in range(0, self._block, BAND):
            rows = kernel[start : start + BAND]
            used = rows.any(0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
            self._bands.append(_Band(slice(start, start + len(rows)), first, rows[:, first:last].T.contiguous()))
        self._reach = max(band.first + len(band.taps) for band in self._bands)

    def __call__(self, waveform: Tensor) -> Tensor:
        """Returns the waveform [T] as [R], R = T x after / before, rounded up; it is padded with zeros."""
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
    # Kept, as building a kernel takes longer than using it; so it must not depend on the modes of the first caller.
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # torchaudio computes a part of the kernel in it
    try:
        with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
            return Resampler(ratio.numerator, ratio.denominator)
    finally:
        torch.set_default_dtype(usual)


def simple_ratio(before: int, after: int) -> Fraction:
    """Returns the ratio of two rates by which `resample` computes: equal to theirs, or less than a thousandth away.

    Kernels grow with the denominator of the ratio, to gigabytes for rates such as 22051 Hz. All common rates are exact.
    """
    ratio = Fraction(before, after)
    return ratio.limit_denominator(640) or ratio


def resample(waveform: Tensor, before: int, after: int) -> Tensor:
    """Returns a waveform [T] resampled from one rate in Hz to another: [R], R = T x after / before, rounded up.

    The ratio of the rates is that of `simple_ratio`.
    """
    near = simple_ratio(before, after)
    if near == 1:
        return waveform
    with torch.autocast(waveform.device.type, enabled=False):
        return _resampler(near)(waveform)
