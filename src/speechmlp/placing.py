"""A recording as the input of an exported model. It needs NumPy only, neither torch nor torchaudio.

    waveforms = place(samples, sample_rate)[None]
    (probabilities,) = onnxruntime.InferenceSession("letters.onnx").run(None, {"waveforms": waveforms})

Dimension key: `C` channels, `T` samples before, `R` samples after, `K` taps.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio.channel_choice import choose_channel
from speechmlp.audio.placing import Placing, rounded
from speechmlp.audio.waveforms import as_channels, whole_rate
from speechmlp.audio_format import DEFAULT_INPUT, SAMPLE_RATE, AudioInput

Array = NDArray[np.float32]

ZEROS = 6
"""Zero crossings of the sinc on each side."""
ROLLOFF = 0.99
"""Cut-off frequency as a fraction of the lower Nyquist frequency."""
LARGEST_DENOMINATOR = 640
"""Largest denominator of a ratio of rates; another ratio is replaced by a simpler one less than a thousandth away."""
BLOCK = 1 << 16
"""Output samples that are computed together."""


def place(samples: Any, sample_rate: Any, audio: AudioInput = DEFAULT_INPUT) -> Array:
    """Returns the second of a recording that holds the letter, float32 [16000] at 16 kHz, or another model's input.

    It is the second that `Recognizer` reads first: channels are mixed, the recording is resampled, the sound that is
    most likely a letter is moved to the middle, other sounds are silenced, and the samples are rounded to 16 bits.

    Args:
        samples: an array or a list [T] or [C, T] of any length, of floats between -1 and 1 or of integers in the full
            range of their type; integers in lists and 64-bit types are 16-bit samples.
        sample_rate: in Hz.
        audio: the input of the model: `AudioInput(sample_rate, num_samples)` of the metadata.

    Raises:
        UserError: the samples are empty, of another shape, not finite or not scaled, or the rate is invalid.
    """
    rate = whole_rate(sample_rate)
    channels = as_channels(samples, rate)
    channel = choose_channel(channels, rate)[0] if len(channels) > 1 else 0
    mono = channels.mean(0) if channel is None else channels[channel]
    mono = resample(mono, rate, audio.sample_rate)
    judged = None if audio.sample_rate == SAMPLE_RATE else resample(mono, audio.sample_rate)
    return rounded(Placing(mono, audio, judged).second().samples)


def resample(samples: Array, sample_rate: int, wanted: int = SAMPLE_RATE) -> Array:
    """Returns samples [T] at `sample_rate` Hz as samples [R] at `wanted` Hz, R = T x wanted / sample_rate, rounded up.

    The kernel is that of `torchaudio.transforms.Resample`, and so are the results except for rounding.
    """
    ratio = Fraction(sample_rate, wanted)
    near = ratio.limit_denominator(LARGEST_DENOMINATOR) or ratio
    if near == 1:
        return samples
    before, after = near.numerator, near.denominator
    firsts, kernel = _kernel(before, after)
    taps = kernel.shape[1]
    length = math.ceil(len(samples) * after / before)
    reach = -int(firsts.min())
    padded = np.pad(samples, (reach, taps + before))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    resampled = np.empty(length, np.float32)
    for start in range(0, length, BLOCK):
        period, phase = np.divmod(np.arange(start, min(start + BLOCK, length)), after)
        stretches = windows[reach + period * before + firsts[phase]]
        resampled[start : start + BLOCK] = np.einsum("rk,rk->r", stretches, kernel[phase])
    return resampled


@lru_cache(maxsize=4)
def _kernel(before: int, after: int) -> tuple[NDArray[np.int64], Array]:
    """Returns the taps [after, K] of each output sample of a period, and the index of the first sample they weigh.

    A sinc with a cosine-squared window (J. O. Smith, Digital Audio Resampling Home Page).
    """
    cutoff = ROLLOFF * min(before, after)
    width = math.ceil(ZEROS * before / cutoff)
    phase = np.arange(after)
    firsts = np.ceil(phase * before / after - ZEROS * before / cutoff).astype(np.int64)
    index = firsts[:, None] + np.arange(2 * width + 1)
    delay = (phase / after).astype(np.float32)[:, None]  # torchaudio has float32 here
    time = np.clip((index / before - delay) * cutoff, -ZEROS, ZEROS)
    window = np.cos(np.pi * time / ZEROS / 2) ** 2
    return firsts, (np.sinc(time) * window * cutoff / before).astype(np.float32)
