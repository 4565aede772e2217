"""Listening conditions for evaluation: the same waveforms through a telephone or in noise, reproducible to the bit.

Unlike augmentation these act on waveforms and are drawn once from a fixed seed: models are compared on equal terms.

Dimension key: `N` utterances, `T` samples (16000).
"""

from collections.abc import Callable

import torch
import torchaudio
from torch import Tensor

from speechmlp.audio import SAMPLE_RATE

TELEPHONE_RATE = 8000
"""Hz."""
TELEPHONE_BAND = (300.0, 3400.0)
"""Hz, of a telephone line (ITU-T G.712)."""
SNR = 10.0
"""dB, of the recorded part's power over the noise's."""
BABBLE_VOICES = 6


def telephone(waveforms: Tensor) -> Tensor:
    """Returns waveforms [N, T] after 8 kHz sampling and a band of 300 to 3400 Hz, Butterworth edges of order 4."""
    narrow: Tensor = torchaudio.functional.resample(waveforms, SAMPLE_RATE, TELEPHONE_RATE)
    for quality in (0.5412, 1.3066):  # of the two second-order sections of a Butterworth of order 4
        narrow = torchaudio.functional.highpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[0], quality)
        narrow = torchaudio.functional.lowpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[1], quality)
    wide: Tensor = torchaudio.functional.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE)
    return wide


def _at_snr(waveforms: Tensor, lengths: Tensor, noise: Tensor) -> Tensor:
    """Adds noise [N, T] 10 dB under the power of the recorded part of each waveform [N, T]."""
    speech = waveforms.square().sum(1) / lengths
    level = (speech / noise.square().mean(1).clamp_min(1e-20) / 10 ** (SNR / 10)).sqrt()
    return waveforms + level[:, None] * noise


def white_noise(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns waveforms [N, T] with white noise over the whole second."""
    noise = torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(1))
    return _at_snr(waveforms, lengths, noise)


def babble(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns waveforms [N, T] with six strings of other utterances of the set over the whole second."""
    generator = torch.Generator().manual_seed(2)
    count, samples = waveforms.shape
    starts = (samples - lengths) // 2
    noise = torch.zeros_like(waveforms)
    for target in range(count):
        for _ in range(BABBLE_VOICES):
            string: list[Tensor] = []
            while sum(map(len, string)) < samples:
                other = int(torch.randint(count, (), generator=generator))
                if other != target or count == 1:
                    string.append(waveforms[other, starts[other] : starts[other] + lengths[other]])
            voice = torch.cat(string)[:samples]
            noise[target] += voice / voice.square().mean().sqrt().clamp_min(1e-6)
    return _at_snr(waveforms, lengths, noise)


def apply_condition(name: str, waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns waveforms float32 [N, T] as they are heard in a condition.

    Args:
        name: one of `labels.CONDITIONS`.
        waveforms: on the CPU, centred.
        lengths: int64 [N], recorded samples of each.
    """
    heard: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: waveforms,
        "telephone": lambda: telephone(waveforms),
        "white_10db": lambda: white_noise(waveforms, lengths),
        "babble_10db": lambda: babble(waveforms, lengths),
    }
    return heard[name]()
