"""Resampling of a signal that arrives in pieces.

Dimension key: `T` samples.
"""

import torch
from torch import Tensor

from speechmlp.audio.resampling import resample, simple_ratio

REACH = 0.004
"""Seconds around a sample that its resampled value depends on; more than the kernel's width."""


class StreamResampler:
    """Resamples a signal in pieces, with the same result whatever their lengths.

    The result is that of `resample` of the whole signal, and follows the input by a few hundredths of a second.

    Args:
        before: input rate in Hz.
        after: output rate in Hz.
    """

    def __init__(self, before: int, after: int) -> None:
        self._ratio = simple_ratio(before, after)
        # Whole periods of the two rates, so that each block starts at a sample of both.
        self._context = -(-round(REACH * max(before, after)) // self._ratio.numerator)
        self._held = torch.zeros(self._context * self._ratio.numerator)

    def push(self, samples: Tensor) -> Tensor:
        """Returns the next resampled samples [T], of those that are complete.

        Args:
            samples: the next samples of the input, float32 [T].
        """
        if self._ratio == 1:
            return samples
        self._held = torch.cat([self._held, samples])
        period, of_output = self._ratio.numerator, self._ratio.denominator
        complete = len(self._held) // period - 2 * self._context
        if complete < 1:
            return samples[:0]
        block = self._held[: (complete + 2 * self._context) * period]
        self._held = self._held[complete * period :]
        first = self._context * of_output
        return resample(block, period, of_output)[first : first + complete * of_output]

    def finish(self) -> Tensor:
        """Returns the last samples, as if silence followed."""
        return self.push(torch.zeros((2 * self._context + 1) * self._ratio.numerator))
