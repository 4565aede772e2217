"""Choose between the mean of a recording's channels and one of them, so that speech survives. It needs NumPy only.

Dimension key: `C` channels, `T` samples, `F` frames, `K` frequencies.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WINDOW = 0.032
"""Seconds of a frame."""
MAX_FRAMES = 4000
"""Frames that are compared, spread over the recording."""
BAND = (200.0, 5000.0)
"""Hz; the band of speech in which channels are compared."""
BANDS = 24
"""Adjacent bands in which speech is separated from stationary sounds."""
FLOOR, ABOVE = 0.1, 4.0
"""Speech is the power over `ABOVE` times this quantile of a band's frames; hum and noise stay below."""
LOUD = 0.01
"""Frames with less speech, relative to the loudest one, are not compared."""
FAINT = 0.01
"""Less speech than this, relative to stationary sounds, is a fluctuation of theirs."""
RARE = 1e-3
"""Speech in a channel that is weaker than this, relative to the other channels, counts as crosstalk."""
COHERENT = -1.5
"""dB; the mean is used if it has at least this power relative to the channels, as an average over frequencies."""
NOISIER = 4.0
"""The mean is not used either if its ratio of speech to noise is this factor below that of the best channel."""
CANCELLED = 0.01
"""... or if its power is less than this fraction of the strongest channel's."""
CLIPPED, CLEAN = 5e-3, 5e-4
"""Fractions of samples on plateaus at the peak: a channel with more than the first is not used if one has less than the
second."""
SAME = 0.8
"""The first channel is taken whose ratio of speech to noise is at least this fraction of the best."""
MIN_CLIPPED = 8
"""Samples on plateaus; fewer occur by chance."""

_MEAN: tuple[None, str] = (None, "")


def clipped_fraction(samples: Array) -> float:
    """Returns the fraction of samples [T] in runs of three or more at the highest or lowest value; 0 for a few."""
    if len(samples) < 3 or float(np.abs(samples - samples.mean()).max()) < 0.02:
        return 0.0  # too few quantisation steps: neighbours are often equal
    magnitude = np.abs(samples)
    at_peak = magnitude >= min(float(magnitude.max()) - 3e-5, 0.9999)
    three = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
    held = np.zeros(len(samples), bool)
    for shift in range(3):
        held[shift : len(samples) - 2 + shift] |= three
    count = int(held.sum())
    return count / len(samples) if count >= MIN_CLIPPED else 0.0


def choose_channel(waveform: Array, rate: int) -> tuple[int | None, str]:
    """Returns the channel with the clearest speech and why it is chosen; None and no reason if the mean keeps speech.

    The mean loses speech if channels have opposite polarity, a delay or different content, if few of many have speech,
    or if one of them is noisy or clipped.

    Args:
        waveform: [C, T].
        rate: Hz.
    """
    if bool((waveform == waveform[0]).all()):
        return None, ""
    signals = [*waveform, waveform.mean(0)]
    frames = [_Frames(signal, rate) for signal in signals]
    speech, noise = np.array([_speech_and_noise(one.bands()) for one in frames]).T
    speech = np.where(speech > FAINT * noise, speech, 0.0)
    largest = float(speech[:-1].max())
    if largest <= 0:  # no speech: silence, tones, noise
        power = np.array([np.square(signal - signal.mean(dtype=np.float64)).mean() for signal in signals])
        best = int(power[:-1].argmax())
        return (best, _reason(waveform, best, "cancel each other")) if power[-1] < CANCELLED * power[best] else _MEAN
    clarity = speech / (noise + RARE * largest)
    plateaus = np.array([clipped_fraction(signal) for signal in waveform])
    distorted = bool((plateaus > CLIPPED).any()) and bool((plateaus[speech[:-1] > RARE * largest] < CLEAN).any())
    if distorted:
        clarity[:-1] = np.where(plateaus < CLEAN, speech[:-1], 0.0)
    best = int(np.flatnonzero(clarity[:-1] >= SAME * clarity[:-1].max())[0])
    loud = frames[best].bands().sum(1)
    middle = np.partition(loud, (len(loud) - 1) // 2)[(len(loud) - 1) // 2]
    spectra = np.stack([one.spectrum(loud >= max(LOUD * loud.max(), middle)) for one in frames])  # [C + 1, K]
    coherence = _coherence(spectra, frames[0].frequencies)
    if distorted:
        return best, _reason(waveform, best, "are not all clean: some are clipped")
    if coherence < COHERENT:
        return best, _reason(waveform, best, f"cancel each other: their mean is {-coherence:.1f} dB weaker")
    if clarity[-1] * NOISIER < clarity[best]:
        return best, _reason(waveform, best, "are not all clean: some are noisy")
    return _MEAN


def _reason(waveform: Array, channel: int, reason: str) -> str:
    return f"the channels {reason}; only channel {channel + 1} of {len(waveform)} is used"


def _coherence(spectra: NDArray[np.float64], frequencies: NDArray[Any]) -> float:
    """Returns the power of the mean (last row of [C + 1, K]) relative to the channels' in dB, averaged over log f."""
    channels = spectra[:-1].mean(0)
    audible = channels > 1e-6 * channels.max()
    ratio = np.clip(spectra[-1] / np.maximum(channels, 1e-30), 1e-2, 1.0)
    weight = audible / frequencies
    return float((10 * np.log10(ratio) * weight).sum() / max(1e-30, weight.sum()))


def _speech_and_noise(bands: Array) -> tuple[float, float]:
    """Returns the power of speech, and of stationary sounds, in frames [F, bands]."""
    floor = np.quantile(bands, FLOOR, axis=0)
    return float(np.maximum(bands - ABOVE * floor, 0).sum(1).mean()), float(floor.sum())


class _Frames:
    """Frames of a signal [T], and their powers in the band of speech."""

    def __init__(self, signal: Array, rate: int) -> None:
        size = max(16, round(WINDOW * rate))
        signal = np.pad(signal - signal.mean(), (0, max(0, size - len(signal))))
        hop = max(1, size // 2, -(-(len(signal) - size) // MAX_FRAMES))
        self._frames = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop]
        self._parts = -(-len(self._frames) // 256)
        self._window = np.hanning(size + 1)[:-1].astype(np.float32)
        bins = np.fft.rfftfreq(size, 1 / rate)
        kept = np.flatnonzero((bins >= BAND[0]) & (bins <= min(BAND[1], 0.45 * rate)))
        self._bins = kept if len(kept) else np.arange(1, len(bins))
        self.frequencies = bins[self._bins]
        self._bands: Array | None = None

    def _powers(self, frames: Array) -> Array:
        spectrum = np.fft.rfft(frames * self._window)[:, self._bins]
        return (spectrum.real**2 + spectrum.imag**2).astype(np.float32)

    def bands(self) -> Array:
        """Returns powers [F, bands]."""
        if self._bands is None:
            edges = [part[0] for part in np.array_split(np.arange(len(self._bins)), min(BANDS, len(self._bins)))]
            parts = [self._powers(some) for some in np.array_split(self._frames, self._parts)]
            self._bands = np.concatenate([np.add.reduceat(part, edges, axis=1) for part in parts])
        return self._bands

    def spectrum(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Returns the power [K] over the chosen frames, a bool [F]."""
        total = np.zeros(len(self._bins))
        for frames, wanted in zip(
            np.array_split(self._frames, self._parts), np.array_split(chosen, self._parts), strict=True
        ):
            if wanted.any():
                total += self._powers(frames[wanted]).sum(0, dtype=np.float64)
        return total
