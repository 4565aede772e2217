"""Listening conditions for evaluation: the same waveforms through a telephone or in noise, reproducible to the bit.

Unlike augmentation these act on waveforms and are drawn once from a fixed seed: models are compared on equal terms.

Dimension key: `N` utterances, `T` samples (16000).
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
"""Hz, of a telephone line (ITU-T G.712)."""
BABBLE_VOICES = 6


def telephone(waveforms: Tensor) -> Tensor:
    """Returns waveforms [N, T] after 8 kHz sampling and a band of 300 to 3400 Hz, Butterworth edges of order 4."""
    functional = import_torchaudio().functional
    narrow: Tensor = functional.resample(waveforms, SAMPLE_RATE, TELEPHONE_RATE)
    for quality in (0.5412, 1.3066):  # of the two second-order sections of a Butterworth of order 4
        narrow = functional.highpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[0], quality)
        narrow = functional.lowpass_biquad(narrow, TELEPHONE_RATE, TELEPHONE_BAND[1], quality)
    wide: Tensor = functional.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE)
    return wide


def _at_snr(waveforms: Tensor, lengths: Tensor, noise: Tensor, snr: float) -> Tensor:
    """Adds noise [N, T] `snr` dB under the power of the recorded part of each waveform [N, T]."""
    speech = waveforms.square().sum(1) / lengths
    level = (speech / noise.square().mean(1).clamp_min(1e-20) / 10 ** (snr / 10)).sqrt()
    return waveforms + level[:, None] * noise


def white_noise(waveforms: Tensor) -> Tensor:
    """Returns white noise for waveforms [N, T], over the whole second."""
    return torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(1))


def babble(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns for each of waveforms [N, T] six strings of other utterances of the set, over the whole second."""
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
    return noise


def reverberate(waveforms: Tensor, milliseconds: int) -> Tensor:
    """Returns waveforms [N, T] in a room: an exponential tail of noise (Polack, 1988), as loud as the direct sound.

    The tail falls by 60 dB in the reverberation time and starts 5 ms after the direct sound.
    """
    count, samples = waveforms.shape
    time = torch.arange(samples) / SAMPLE_RATE
    tail = torch.randn(samples, generator=torch.Generator().manual_seed(3))
    tail = tail * 10 ** (-3 * time / (milliseconds / 1000)) * (time >= 0.005)
    response = tail / tail.square().sum().sqrt()
    response[0] = 1.0
    wet: Tensor = import_torchaudio().functional.fftconvolve(waveforms, response.expand(count, -1))
    return wet[:, :samples]


def change_speed(waveforms: Tensor, percent: int) -> Tensor:
    """Returns waveforms [N, T] played at a share of their speed, pitch too, about the middle of the second."""
    samples = waveforms.shape[1]
    time = (torch.arange(samples) - samples / 2) * (percent / 100) + samples / 2
    before = time.floor().long()
    inside = (before >= 0) & (before < samples)
    place, padded = before.clamp(0, samples - 1), F.pad(waveforms, (0, 1))
    return torch.lerp(padded[:, place], padded[:, place + 1], time - before) * inside


def shift(waveforms: Tensor, milliseconds: int) -> Tensor:
    """Returns waveforms [N, T] moved later, or earlier where negative; what leaves the second is lost."""
    by = milliseconds * SAMPLE_RATE // 1000
    moved = waveforms.roll(by, 1)
    moved[:, slice(by) if by >= 0 else slice(by, None)] = 0
    return moved


def apply_condition(name: str, waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Returns waveforms float32 [N, T] as they are heard in a condition.

    Args:
        name: as `audio.condition_names.parse_condition` reads it.
        waveforms: on the CPU, centred.
        lengths: int64 [N], recorded samples of each.

    Raises:
        UserError: there is no such condition.
    """
    kind, level = parse_condition(name)
    heard: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: waveforms,
        "telephone": lambda: telephone(waveforms),
        "white": lambda: _at_snr(waveforms, lengths, white_noise(waveforms), level),
        "babble": lambda: _at_snr(waveforms, lengths, babble(waveforms, lengths), level),
        "reverb": lambda: reverberate(waveforms, level),
        "gain": lambda: (waveforms * 10 ** (level / 20)).clamp(-1, 1),
        "shift": lambda: shift(waveforms, level),
        "speed": lambda: change_speed(waveforms, level),
    }
    return heard[kind]()
