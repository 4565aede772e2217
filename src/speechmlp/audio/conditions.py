"""Listening conditions for evaluation: telephone, noise, reverberation and others, reproducible to the bit.

Unlike augmentation, they act on waveforms and have a fixed seed, so that all models get the same input.

Dimension key: `N` utterances, `T` samples.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.audio.condition_names import parse_condition
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.environment import import_torchaudio

TELEPHONE_RATE = 8000
"""Hz."""
TELEPHONE_BAND = (300.0, 3400.0)
"""Band of a telephone line, in Hz (ITU-T G.712)."""
BABBLE_VOICES = 6


def telephone(waveforms: Tensor, rate: int = SAMPLE_RATE) -> Tensor:
    """Returns waveforms [N, T] sampled at 8 kHz and limited to 300 - 3400 Hz by Butterworth filters of order 4."""
    functional = import_torchaudio().functional
    narrow: Tensor = functional.resample(waveforms, rate, TELEPHONE_RATE)
    for quality in (0.5412, 1.3066):  # of the two second-order sections of a Butterworth filter of order 4
        narrow = functional.highpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[0], quality)
        narrow = functional.lowpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[1], quality)
    wide: Tensor = functional.resample(narrow, TELEPHONE_RATE, rate)
    return F.pad(wide, (0, waveforms.shape[1] - wide.shape[1]))  # rounding may add or lose a sample


def _at_snr(waveforms: Tensor, lengths: Tensor, noise: Tensor, snr: float) -> Tensor:
    """Adds noise [N, T], `snr` dB below the power of the recorded part of each waveform [N, T]."""
    speech = waveforms.square().sum(1) / lengths
    level = (speech / noise.square().mean(1).clamp_min(1e-20) / 10 ** (snr / 10)).sqrt()
    return waveforms + level[:, None] * noise


def white_noise(waveforms: Tensor) -> Tensor:
    """Returns white noise for waveforms [N, T], over the whole second."""
    return torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(1))


def babble(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns babble for waveforms [N, T]: the sum of six sequences of other utterances, over the whole second."""
    generator = torch.Generator().manual_seed(2)
    count, samples = waveforms.shape
    starts = (samples - lengths) // 2
    noise = torch.zeros_like(waveforms)
    for target in range(count):
        for _ in range(BABBLE_VOICES):
            sequence: list[Tensor] = []
            while sum(map(len, sequence)) < samples:
                other = int(torch.randint(count, (), generator=generator))
                if other != target or count == 1:
                    sequence.append(waveforms[other, starts[other] : starts[other] + lengths[other]])
            voice = torch.cat(sequence)[:samples]
            noise[target] += voice / voice.square().mean().sqrt().clamp_min(1e-6)
    return noise


def reverberate(waveforms: Tensor, milliseconds: int, rate: int = SAMPLE_RATE) -> Tensor:
    """Returns waveforms [N, T] with reverberation: an exponentially decaying noise tail (Polack, 1988).

    The tail has the energy of the direct sound, starts 5 ms after it and decays by 60 dB in the reverberation time.
    """
    count, samples = waveforms.shape
    time = torch.arange(samples) / rate
    tail = torch.randn(samples, generator=torch.Generator().manual_seed(3))
    tail = tail * 10 ** (-3 * time / (milliseconds / 1000)) * (time >= 0.005)
    response = tail / tail.square().sum().sqrt()
    response[0] = 1.0
    wet: Tensor = import_torchaudio().functional.fftconvolve(waveforms, response.expand(count, -1))
    return wet[:, :samples]


def change_speed(waveforms: Tensor, percent: int) -> Tensor:
    """Returns waveforms [N, T] at a percentage of their speed and pitch, relative to the middle of the second."""
    samples = waveforms.shape[1]
    time = (torch.arange(samples) - samples / 2) * (percent / 100) + samples / 2
    before = time.floor().long()
    inside = (before >= 0) & (before < samples)
    index, padded = before.clamp(0, samples - 1), F.pad(waveforms, (0, 1))
    return torch.lerp(padded[:, index], padded[:, index + 1], time - before) * inside


def shift(waveforms: Tensor, milliseconds: int, rate: int = SAMPLE_RATE) -> Tensor:
    """Returns waveforms [N, T] shifted later, or earlier if negative; samples beyond the second are lost."""
    by = milliseconds * rate // 1000
    moved = waveforms.roll(by, 1)
    moved[:, slice(by) if by >= 0 else slice(by, None)] = 0
    return moved


def apply_condition(name: str, waveforms: Tensor, lengths: Tensor, rate: int = SAMPLE_RATE) -> Tensor:
    """Returns waveforms float32 [N, T] under a listening condition.

    Args:
        name: as for `audio.condition_names.parse_condition`.
        waveforms: on the CPU, centred.
        lengths: int64 [N], number of recorded samples of each.
        rate: of the samples, in Hz.

    Raises:
        UserError: there is no such condition.
    """
    kind, level = parse_condition(name)
    apply: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: waveforms,
        "telephone": lambda: telephone(waveforms, rate),
        "white": lambda: _at_snr(waveforms, lengths, white_noise(waveforms), level),
        "babble": lambda: _at_snr(waveforms, lengths, babble(waveforms, lengths), level),
        "reverb": lambda: reverberate(waveforms, level, rate),
        "gain": lambda: (waveforms * 10 ** (level / 20)).clamp(-1, 1),
        "shift": lambda: shift(waveforms, level, rate),
        "speed": lambda: change_speed(waveforms, level),
    }
    return apply[kind]()
