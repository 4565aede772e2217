"""Mix the channels of a recording so that speech survives: their mean, or one of them if the mean would lose speech.

Dimension key: `C` channels, `T` samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechmlp.audio.channel_choice import choose_channel
from speechmlp.audio_format import SAMPLE_RATE


@dataclass(frozen=True)
class Mix:
    """One waveform from all channels.

    Attributes:
        waveform: float32 [T].
        channel: the channel that was taken, from 0; None for the mean of all.
        note: why the mean was not taken; empty for the mean.
        sample_rate: in Hz.
    """

    waveform: Tensor
    channel: int | None = None
    note: str = ""
    sample_rate: int = SAMPLE_RATE


def mix(waveform: Tensor, rate: int) -> Mix:
    """Returns the mean of the channels, or the channel with the clearest speech: see `choose_channel`.

    Args:
        waveform: float32 [C, T].
        rate: Hz.
    """
    samples = waveform.numpy()
    if len(samples) == 1:
        return Mix(waveform[0], sample_rate=rate)
    channel, note = choose_channel(samples, rate)
    return Mix(torch.from_numpy(samples.mean(0)) if channel is None else waveform[channel], channel, note, rate)
