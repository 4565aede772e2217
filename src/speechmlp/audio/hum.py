"""Removes steady hum from a recording: tones of the mains and of machines, with their harmonics, up to 2 kHz.

Hum is found in the quiet part of a recording, which it fills: lines of the spectrum far above the noise around them.
Sines are fitted to the quiet part and subtracted everywhere, so that a voice at the same frequencies stays. If hum is
weak compared with the loudest sound, or none is found, nothing changes. It needs NumPy only.

Dimension key: `T` samples, `Q` samples at about 4 kHz, `L` lines, `K` bins.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio_format import SAMPLE_RATE

Array = NDArray[np.float32]
Double = NDArray[np.float64]

RATE = 4000
"""Approximate sample rate in Hz at which hum is analysed."""
BLOCK = 4.0
"""Seconds in which hum is taken to be steady."""
SPAN = 0.05
"""Seconds of the stretches whose level is measured: half periods of 50, 60, 100 and 120 Hz."""
QUIETEST, QUIET = 0.2, 1.6
"""Quantile of the power of stretches that counts as quiet; so do stretches with up to this many times its power."""
LEAST = 10
"""Fewest quiet stretches of a block: 0.5 s."""
CLEAR = 17.0
"""dB above the noise around it from which on a line is a tone; bins of a few seconds of noise hardly reach it."""
AROUND = 20.0
"""Hz on both sides of a line in which the noise is measured."""
APART = 8.0
"""Smallest distance of two lines in Hz."""
RANGE = 15.0
"""dB below the strongest line of a search down to which it finds others."""
ROUNDS, MOST = 3, 40
"""Number of searches for lines, because strong ones hide weak ones, and largest number of lines."""
NOISE = 0.75
"""Quantile of the power there that counts as noise: rumble may end in the middle."""
RUMBLE = 65.0
"""Hz; a filter removes strong sounds below it."""
LOW, HIGH = 45.0, 1900.0
"""Hz; lower tones are rumble, and hum has no higher ones."""
STRONG = -30.0
"""dB relative to the loudest stretch of the recording from which on hum is removed."""

LEFT = 10.0
"""dB by which the loudest stretch must exceed the median one after the hum is removed."""


def without_hum(samples: Array, rate: int = SAMPLE_RATE) -> Array:
    """Returns a waveform [T] at `rate` Hz without its hum if that is strong; otherwise the same array."""
    if len(samples) < LEAST * SPAN * rate:
        return samples
    power = _powers(samples, rate)
    strong = 10 ** (STRONG / 10) * float(power.max())
    if _quietest(power) < strong:
        return samples
    size = round(BLOCK * rate)
    edges = [*range(0, max(1, len(samples) - size // 2), size), len(samples)]
    blocks = [samples[first:last] for first, last in pairwise(edges)]
    found = [_hum(block, rate) for block in blocks]
    if not any(tones.power() > strong for tones in found):
        return samples
    rest = samples - np.concatenate([tones(len(block), rate) for tones, block in zip(found, blocks, strict=True)])
    power = _powers(rest, rate)
    # If nothing stands out from the rest, the tone was not hum but the recorded sound.
    return rest if power.max() > 10 ** (LEFT / 10) * np.median(power) else samples


@dataclass(frozen=True)
class _Tones:
    """Sines whose amplitudes may grow: the real part of (steady + growing * time) * exp(i * line * time).

    Attributes:
        lines: frequencies [L] in radians per second.
        steady: complex amplitudes [L].
        growing: complex [L], per second.
    """

    lines: Double
    steady: NDArray[np.complex128]
    growing: NDArray[np.complex128]

    def power(self) -> float:
        """Returns the power of the tones above the rumble."""
        return float(np.square(np.abs(self.steady[self.lines > 2 * np.pi * RUMBLE])).sum() / 2)

    def __call__(self, count: int, rate: int) -> Array:
        """Returns the first samples."""
        time = np.arange(count) / rate
        sound = np.zeros(count)
        for line, steady, growing in zip(self.lines, self.steady, self.growing, strict=True):
            sound += ((steady + growing * time) * _turning(line, count, rate)).real
        return sound.astype(np.float32)


def _powers(samples: Array | Double, rate: float) -> Double:
    """Returns the variance of each stretch of `SPAN` seconds."""
    size = round(SPAN * rate)
    return np.asarray(samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64).var(1))


def _quietest(power: Double) -> float:
    """Returns the power of a quiet stretch."""
    return float(np.sort(power)[int(QUIETEST * len(power))])


def _turning(line: float, count: int, rate: float) -> NDArray[np.complex128]:
    """Returns exp(i * line * time) of the first samples; a product of a few exponentials, which are slow."""
    far, near = np.arange(-(-count // 256)) * 256 / rate, np.arange(256) / rate
    return np.outer(np.exp(1j * line * far), np.exp(1j * line * near)).reshape(-1)[:count]


def _hum(block: Array, rate: int) -> _Tones:
    """Returns the hum of a block [T]."""
    nothing = np.zeros(0)
    tones = _Tones(nothing, nothing.astype(complex), nothing.astype(complex))
    slower = 2 ** max(0, round(math.log2(rate / RATE)))
    padded = np.pad(block, (0, -len(block) % 2048))  # such lengths transform quickly
    size = len(padded) // slower
    slow = np.fft.irfft(np.fft.rfft(padded)[: size // 2], size)[: len(block) // slower] / slower  # [Q]
    rest = slow = slow - slow.mean()
    slow_rate = rate / slower
    for _ in range(ROUNDS):
        kept = _quiet(rest, slow_rate)
        if kept.sum() < LEAST * round(SPAN * slow_rate):
            break
        more = _lines(rest, kept, tones, slow_rate)
        if not len(more):
            break
        tones, rest = _fitted(slow, kept, np.concatenate([tones.lines, more]), slow_rate)
    return tones


def _quiet(slow: Double, rate: float) -> NDArray[np.bool_]:
    """Returns which samples [Q] are in the quiet part."""
    power = _powers(slow, rate)
    kept = np.zeros(len(slow), bool)
    if len(power) >= LEAST:
        quiet = power <= QUIET * _quietest(power)
        quiet[[0, -1]] = False  # the ends of a block ring after the change of rate
        size = round(SPAN * rate)
        kept[: len(quiet) * size] = np.repeat(quiet, size)
    return kept


def _lines(rest: Double, kept: NDArray[np.bool_], known: _Tones, rate: float) -> Double:
    """Returns frequencies [L] of tones in radians per second, those near known ones excluded."""
    size = 4 * 2 ** int(np.ceil(np.log2(len(rest))))
    spectrum = np.fft.rfft(rest * kept * np.hanning(len(rest) + 2)[1:-1], size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    width = round(AROUND * size / rate)
    steps = np.arange(0, len(power), width)
    noise = [float(np.quantile(power[max(0, step - width) : step + width], NOISE)) for step in steps]
    above = power > 10 ** (CLEAR / 10) * (np.interp(np.arange(len(power)), steps, noise) + 1e-20)
    above[: round(LOW * size / rate)] = False
    above[min(round(HIGH * size / rate), len(power) - 1) :] = False
    apart = round(APART * size / rate)
    for line in known.lines:
        middle = round(line / (2 * np.pi) * size / rate)
        above[max(0, middle - apart) : middle + apart + 1] = False
    strongest = float(power[above].max(initial=0.0))
    found: list[float] = []
    while len(found) + len(known.lines) < MOST and above.any():
        peak = int(np.where(above, power, 0).argmax())
        if power[peak] < 10 ** (-RANGE / 10) * strongest:
            break
        near = np.log(power[peak - 1 : peak + 2] + 1e-30)
        shift = 0.5 * (near[0] - near[2]) / min(-1e-9, near[0] - 2 * near[1] + near[2])
        found.append(2 * np.pi * (peak + float(np.clip(shift, -0.5, 0.5))) * rate / size)
        above[max(0, peak - apart) : peak + apart + 1] = False
    return np.array(found)


def _fitted(slow: Double, kept: NDArray[np.bool_], lines: Double, rate: float) -> tuple[_Tones, Double]:
    """Returns sines of about the given frequencies that are fitted to what is kept of a waveform [Q], and the rest."""
    time = np.arange(len(slow)) / rate
    for _ in range(3):
        turning = np.stack([_turning(line, len(slow), rate) for line in lines], 1)
        basis = np.concatenate([turning.real, -turning.imag], 1)
        basis = np.concatenate([basis, basis * time[:, None]], 1)  # [Q, 4 L]
        part = basis[kept]
        gram = part.T @ part
        gram[np.diag_indices_from(gram)] += 1e-9 * len(part)
        found = np.linalg.solve(gram, part.T @ slow[kept])
        parts = found.reshape(4, -1)
        tones = _Tones(lines, parts[0] + 1j * parts[1], parts[2] + 1j * parts[3])
        # A wrong frequency looks like an amplitude that turns while it grows.
        middle = tones.steady + tones.growing * time[-1] / 2
        turned = (tones.growing / np.where(middle == 0, 1, middle)).imag
        lines = lines + np.clip(turned, -1 / time[-1], 1 / time[-1])
    return tones, slow - basis @ found
