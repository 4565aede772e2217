"""Measure the quality of an unprocessed recording of a letter, and find its faults.

Dimension key: `C` channels, `T` samples at the recording's own rate, `F` frames.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.channel_choice import clipped_fraction
from speechmlp.audio.channels import mix
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE

Array = NDArray[np.floating]

SILENT = -60.0
"""dBFS; a recording has no speech if its loudest frame is below."""
MIN_SECONDS = 0.08
"""Shorter than any letter that people say."""
MAX_SECONDS = 5.0
"""Much longer than a letter; only one second would be used."""
CLIPPED = 0.0005
"""Fraction of samples on plateaus at the peak; clean speech has none."""
OFFSET = 0.5
"""Largest constant offset, relative to the RMS of the sound; real recordings stay far below."""
MIN_OFFSET = 0.003
"""Smallest offset that is reported, relative to full scale."""
NOISY = 12.0
"""dB between the sound and the floor of its quietest cells: that of white noise at 5 dB SNR; AN4's lowest is 15."""
DROPOUT = 0.015
"""Seconds of equal samples directly between sound, as a gap in a stream leaves."""
TELEPHONE = 4000.0
"""Hz; the upper band edge of recordings made at 8 kHz."""
CANCELLED = -20.0
"""Level of the mean of the channels relative to the channels, in dB: they have opposite polarity."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Measurements of a recording.

    Attributes:
        rate: sample rate in Hz.
        seconds: duration.
        level: RMS of the loudest 10 ms, in dBFS.
        clipped: fraction of samples on plateaus at the peak; 0 if they are few.
        offset: mean of all samples, relative to full scale.
        offset_share: offset relative to the RMS of the rest.
        range: dB between the mean power and the quietest tenth of time-frequency cells, in the telephone band.
        narrow: whether there is nothing above 4 kHz although the rate allows it.
        start: level of the first 10 ms relative to the loudest, in dB.
        end: level of the last 10 ms relative to the loudest, in dB.
        dropout: seconds of the longest run of equal samples with sound on both sides.
        cancelled: level of the mean of the channels relative to the channels, in dB; 0 for one channel.
        mixed: why only one of the channels is used; empty if it is their mean.
        digest: hash of the samples as 16 bits, independent of the file format; empty for silence.
    """

    rate: int
    seconds: float
    level: float
    clipped: float
    offset: float
    offset_share: float
    range: float
    narrow: bool
    start: float
    end: float
    dropout: float
    cancelled: float
    mixed: str
    digest: str


def _decibels(power: float | Array) -> Array:
    return 10 * np.log10(np.asarray(power) + 1e-14)


def _frame_levels(samples: Array, size: int, from_end: bool = False) -> Array:
    """Returns the level in dBFS of each whole frame, counted from the beginning or from the end."""
    whole = max(1, len(samples) // size) * size
    part = samples[-whole:] if from_end else samples[:whole]
    return _decibels(np.square(part).reshape(-1, min(size, len(part))).mean(1))


def _longest_gap(samples: Array, rate: int, peak: float) -> float:
    """Returns the duration in seconds of the longest run of equal samples with loud neighbours."""
    changes = np.flatnonzero(np.diff(samples) != 0)
    if len(changes) < 2:
        return 0.0
    near = max(2, rate // 500)
    longest = 0.0
    for index in np.flatnonzero(np.diff(changes) >= DROPOUT * rate):
        first, last = changes[index] + 1, changes[index + 1]
        sides = (samples[max(0, first - near) : first], samples[last + 1 : last + 1 + near])
        if all(len(side) and np.abs(side - samples[first]).max() > 0.1 * peak for side in sides):
            longest = max(longest, (last + 1 - first) / rate)
    return longest


def _spectrum(samples: Array, rate: int) -> tuple[Array, Array]:
    """Returns powers [F, bins] of 32 ms frames every 10 ms, without the edges, and the bins' frequencies in Hz."""
    size = max(16, round(0.032 * rate))
    inner = samples[rate // 100 : -(rate // 100)] if len(samples) > size + rate // 50 else samples
    inner = np.pad(inner, (0, max(0, size - len(inner))))
    window = np.blackman(size)  # side lobes below the noise of 16 bits
    frames = np.lib.stride_tricks.sliding_window_view(inner, size)[:: max(1, rate // 100)] * window
    power = np.square(np.abs(np.fft.rfft(frames))) / np.square(window).sum()
    return power, np.fft.rfftfreq(size, 1 / rate)


def _range(power: Array, frequency: Array) -> float:
    band = power[:, (frequency > 100) & (frequency < 0.9 * TELEPHONE)]
    width = 8 if band.shape[1] >= 16 else 1
    cells = band[:, : band.shape[1] // width * width].reshape(len(band), -1, width).mean(2)
    return float(_decibels(cells.mean()) - _decibels(np.percentile(cells, 10)))


def _is_narrow(power: Array, frequency: Array, rate: int) -> bool:
    """Returns whether the spectrum drops at 4 kHz to little more than the rounding noise of 16 bits."""
    if rate < 2.8 * TELEPHONE:
        return False
    cells = _decibels(power)
    above = cells[:, (frequency >= 1.35 * TELEPHONE) & (frequency < min(2 * TELEPHONE, 0.97 * rate / 2))]
    edge = cells[:, (frequency >= 0.7 * TELEPHONE) & (frequency < 0.95 * TELEPHONE)]
    below = power[:, (frequency > 200) & (frequency < 0.9 * TELEPHONE)].mean()
    strong = float(np.percentile(above, 90))
    cliff = float(np.percentile(edge, 90)) - strong
    return bool(strong - _decibels(below) < -50 and cliff > 25 and np.median(above) < -86)


def measure(waveform: Tensor, rate: int) -> Sound:
    """Returns the measurements of a recording, float32 [C, T] at `rate` Hz."""
    channels = waveform.numpy().astype(np.float64)
    mixed = mix(waveform, rate)
    mean = channels.mean(0)
    mono = mean if mixed.channel is None else channels[mixed.channel]
    offset = float(mono.mean())
    centred = mono - offset
    size = max(1, rate // 100)
    levels = _frame_levels(centred, size)
    level = float(levels.max())
    effective = float(np.sqrt(np.square(centred).mean()))
    power, frequency = _spectrum(centred, rate)
    loudest_channel = float(np.square(channels - channels.mean(1, keepdims=True)).mean(1).max())
    sounding = level >= SILENT
    cancelled = _decibels(mean.var()) - _decibels(loudest_channel) if len(channels) > 1 else 0.0
    return Sound(
        rate=rate,
        seconds=len(mono) / rate,
        level=level,
        clipped=max(map(clipped_fraction, waveform.numpy())) if sounding else 0.0,
        offset=offset,
        offset_share=abs(offset) / max(effective, 1e-9),
        range=_range(power, frequency),
        narrow=sounding and _is_narrow(power, frequency, rate),
        start=float(levels[0]) - level,
        end=float(_frame_levels(centred, size, from_end=True)[-1]) - level,
        dropout=_longest_gap(mono, rate, float(np.abs(mono).max())) if sounding else 0.0,
        cancelled=float(cancelled),
        mixed=mixed.note,
        digest=hashlib.sha1((mono * FULL_SCALE).round().astype(np.int32).tobytes()).hexdigest() if sounding else "",
    )


def faults(sound: Sound) -> Iterator[tuple[str, str]]:
    """Yields the faults of a single recording: the kind of fault and its figures."""
    if sound.cancelled < CANCELLED:
        yield "cancelled", f"the mean of the channels is {-sound.cancelled:.0f} dB below them"
    elif sound.mixed:
        yield "one_channel", sound.mixed
    if sound.level < SILENT:
        yield "silent", f"loudest 10 ms: {sound.level:.0f} dBFS"
        return
    if sound.clipped >= CLIPPED:
        yield "clipped", f"{100 * sound.clipped:.1f} % of the samples"
    if abs(sound.offset) > MIN_OFFSET and sound.offset_share > OFFSET:
        yield "offset", f"a constant offset of {sound.offset:+.3f}, {sound.offset_share:.1f} times the RMS of the sound"
    if sound.rate < SAMPLE_RATE:
        yield "low_rate", f"{sound.rate} Hz"
    elif sound.narrow:
        yield "narrow", f"{sound.rate} Hz, but nothing above {TELEPHONE / 1000:g} kHz"
    if sound.seconds < MIN_SECONDS:
        yield "short", f"{sound.seconds:.3f} s"
        return
    if sound.seconds > MAX_SECONDS:
        yield "long", f"{sound.seconds:.1f} s"
    if sound.dropout:
        yield "dropout", f"{1000 * sound.dropout:.0f} ms of equal samples inside the sound"
    if sound.range < NOISY:
        yield "noisy", f"{sound.range:.0f} dB between the sound and the noise floor"
