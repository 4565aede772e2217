"""Waveforms that a user gives as arrays or lists: checked, and as float32 samples. It needs NumPy only.

Dimension key: `C` channels, `T` samples.
"""

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechmlp.errors import UserError

MAX_SAMPLE_RATE = 768_000
"""Hz; a header with a higher rate is broken."""
MAX_SECONDS = 3600.0
"""Longest part of a recording that is decoded for one letter."""
MAX_PEAK = 16.0
"""Largest float sample: decoders exceed 1 a little; more means that integers were not scaled."""
MAX_CHANNELS = 64
SHORT = 1 << 15
"""Full scale of 16-bit samples."""


def whole_rate(rate: Any) -> int:
    """Returns a sample rate as an integer.

    Raises:
        UserError: it is no whole number of Hz, or not a possible one.
    """
    if isinstance(rate, np.ndarray) and rate.ndim == 0:
        rate = rate.item()
    real = isinstance(rate, numbers.Real) and not isinstance(rate, bool | np.bool_)
    if not real or not 0 < rate <= MAX_SAMPLE_RATE or rate != int(rate):
        raise UserError(f"sample_rate: expected 1 to {MAX_SAMPLE_RATE} Hz, a whole number, found {rate!r}")
    return int(rate)


def as_channels(waveform: Any, rate: int) -> NDArray[np.float32]:
    """Returns a waveform as samples float32 [C, T].

    Args:
        waveform: an array or a list [T] or [C, T] of floats between -1 and 1, or of integers in the full range of their
            type. Unsigned ones are around the middle of their range. In lists and in types of 64 bits, integers are
            16-bit samples.
        rate: in Hz.

    Raises:
        UserError: the samples are no real numbers, empty, of another shape, too many, not finite or not scaled.
    """
    samples = _scaled(_array(waveform))
    if samples.ndim == 1:
        samples = samples[None]
    shape = list(samples.shape)
    if samples.ndim != 2 or not 0 < shape[0] <= MAX_CHANNELS:
        raise UserError(f"waveform: expected samples [T] or [C, T], found shape {shape}; [T, C] has to be transposed")
    if not shape[1]:
        raise UserError("waveform: expected samples, found none")
    if shape[1] > MAX_SECONDS * rate:
        raise UserError(
            f"waveform: expected at most {MAX_SECONDS:g} s, found {shape[1]} samples at {rate} Hz; cut it, or check "
            "the sample rate"
        )
    peak = float(np.abs(samples).max())
    if not math.isfinite(peak):
        raise UserError("waveform: holds NaN or infinite samples; expected finite ones")
    if peak > MAX_PEAK:
        raise UserError(f"waveform: expected samples between -1 and 1, found {peak:g}; divide by the full scale")
    return samples


def _array(waveform: Any) -> NDArray[Any]:
    """Returns the samples as an array of their type, in the order of the machine.

    Raises:
        UserError: they are no numbers, or rows of different lengths.
    """
    try:
        array = np.asarray(waveform)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # rows of different lengths, among others
        raise UserError("waveform: expected numbers, in rows of the same length") from error
    if array.dtype.kind not in "iuf" or np.ma.is_masked(waveform):
        raise UserError(f"waveform: expected real samples, found {_name(waveform, array)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def _name(waveform: Any, array: NDArray[Any]) -> str:
    return f"values of type {array.dtype}" if array.ndim else f"one value of type {type(waveform).__name__}"


def _scaled(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Returns samples as float32, integers divided by their full scale.

    Raises:
        UserError: 64-bit integers are larger than samples of 16 bits, so that their scale is unknown.
    """
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is reported
            return samples.astype(np.float32)
    bits = 8 * samples.dtype.itemsize
    if bits == 64:  # of lists, and of arrays that name no type
        if samples.size and not -SHORT <= int(samples.min()) <= int(samples.max()) < SHORT:
            raise UserError(
                f"waveform: expected 64-bit integers to be 16-bit samples, found {int(samples.min())} to "
                f"{int(samples.max())}; give them as floats between -1 and 1, or in the type of their samples"
            )
        full, middle = SHORT, 0
    else:
        full = 1 << (bits - 1)
        middle = full if samples.dtype.kind == "u" else 0
    return np.asarray((samples.astype(np.float64) - middle) / full, np.float32)
