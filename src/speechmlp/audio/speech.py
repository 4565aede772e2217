"""Find the sounds of a recording, and judge which of them are voices: offsets, clicks, knocks, tones and noise are not.

Levels are those above the recording's steady noise, in each of 20 bands from 150 Hz up, so that offsets, rumble and hum
do not count. A sound is a stretch around a local maximum of the level, down to 30 dB below it; a dip of 10 dB separates
two sounds. A small MLP decides from measurements of a sound whether it is a voice (a vowel with what is next to it),
noise that may be the friction of a consonant, or something else. It needs NumPy only.

Dimension key: `T` samples at 16 kHz, `F` frames (10 ms), `K` bins, `C` bands, `S` sounds.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio_format import SAMPLE_RATE

Array = NDArray[np.float32]

WEIGHTS = Path(__file__).parents[1] / "weights" / "speech.npz"
"""The MLP in the package; scripts/release/train_speech.py writes it."""
HOP = 160
SIZE = 512
"""Samples from one frame to the next, and in a frame."""
BLOCK = 4096
"""Frames that are transformed together."""
QUIET = 0.15
"""Fraction of the frames that are taken to be the steady noise."""
ABOVE = 3.0
"""dB above the steady noise from which on a frame belongs to a sound."""
BELOW = 30.0
"""dB below a sound's loudest frame at which it ends."""
DIP = 10.0
"""dB by which the level falls between two sounds."""
MOST = 200
"""Sounds that are judged, the loudest ones; a recording of a letter has a few."""
PITCH = 4000 // 500, 4000 // 70
"""Shortest and longest period of a voice, in samples at 4 kHz."""
CLASSES = ("voice", "noise", "other")


@dataclass(frozen=True)
class Sound:
    """A sound of a recording.

    Attributes:
        start: in samples.
        end: in samples.
        level: of its loudest frame, in dB; comparable within a recording only.
        core: frames within 10 dB of the loudest one.
        lines: fraction of its energy in two lines of the spectrum; that of tones is near 1.
        periodic: mean periodicity; 1 for a steady voice or tone, about 0.3 for noise.
        log_odds: natural logarithms of the odds of each of `CLASSES`.
    """

    start: int
    end: int
    level: float
    core: int
    lines: float
    periodic: float
    log_odds: tuple[float, ...]

    @property
    def voice(self) -> float:
        """The log-odds of being a voice."""
        return self.log_odds[0]

    @property
    def other(self) -> float:
        """The log-odds of being neither voice nor friction."""
        return self.log_odds[2]


@dataclass(frozen=True)
class Tables:
    """Constants of the analysis."""

    window: Array  # [SIZE]
    bands: Array  # [K, C]
    centres: Array  # natural logarithms of the bands' frequencies, [C]
    emphasis: Array  # of bands, [C]
    rise: Array  # of bins, [K]: energies grow with frequency, because those of speech fall
    lags: Array  # the window's own autocorrelation at 4 kHz


@lru_cache(maxsize=1)
def analysis_tables() -> Tables:
    """Returns the constants of the analysis."""
    window = np.hanning(SIZE + 1)[:-1].astype(np.float32)
    frequency = np.fft.rfftfreq(SIZE, 1 / SAMPLE_RATE)
    edges = np.geomspace(150, 7200, 21)
    inside = (frequency[:, None] >= edges[:-1]) & (frequency[:, None] < edges[1:])  # [K, C]
    centres = np.sqrt(edges[:-1] * edges[1:])
    empty = ~inside.any(0)
    inside[np.abs(frequency[:, None] - centres[empty]).argmin(0), empty] = True
    rise = frequency / 1000
    rise[frequency < 100] = 0
    lags = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * SIZE)) ** 2)[: SIZE // 2 : 4]
    single = [inside, np.log(centres), centres / 1000, rise, lags / lags[0]]
    return Tables(window, *(each.astype(np.float32) for each in single))


class Analysis:
    """Powers of a waveform's frames, and its level above the steady noise.

    Args:
        samples: float32 [T].
    """

    def __init__(self, samples: Array) -> None:
        tables = analysis_tables()
        centred = samples - samples.mean(dtype=np.float64).astype(np.float32)
        centred = np.pad(centred, (0, max(0, SIZE - len(centred))))
        frames = np.lib.stride_tricks.sliding_window_view(centred, SIZE)[::HOP]
        self.power = np.empty((len(frames), SIZE // 2 + 1), np.float32)  # [F, K]
        for first in range(0, len(frames), BLOCK):  # all at once, an hour's recording would take gigabytes
            spectrum = np.fft.rfft(frames[first : first + BLOCK] * tables.window, axis=1)
            self.power[first : first + BLOCK] = spectrum.real**2 + spectrum.imag**2
        energy = self.power @ tables.bands  # [F, C]
        quiet = int(QUIET * len(energy))
        noise = np.partition(energy, quiet, axis=0)[quiet] + 1e-7  # [C]
        self.noise = float(10 * np.log10(noise @ tables.emphasis))
        self.excess = np.maximum(energy - 2 * noise, 1e-9)
        self.level = 10 * np.log10(self.excess @ tables.emphasis)  # dB, [F]
        padded = np.pad(self.level, 1, mode="edge")
        self.smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3

    def stretches(self) -> list[tuple[int, int]]:
        """Returns first and last frame (not included) of each sound, in order."""
        level = self.smooth
        count = len(level)
        owner = np.full(count, -1)
        above: dict[int, int] = {}  # the sound that took in another one

        def of(frame: int) -> int:
            sound = int(owner[frame])
            while above[sound] != sound:
                sound = above[sound]
            return sound

        for frame in np.argsort(-level, kind="stable").tolist():
            if level[frame] < self.noise + ABOVE:
                break
            near = [of(side) for side in (frame - 1, frame + 1) if 0 <= side < count and owner[side] >= 0]
            if not near:
                above[frame] = frame
                owner[frame] = frame
                continue
            higher, lower = max(near, key=level.__getitem__), min(near, key=level.__getitem__)
            owner[frame] = higher
            if higher != lower and level[lower] - level[frame] < DIP:
                above[lower] = higher
        peaks = {sound for sound in above if above[sound] == sound}
        found = []
        for peak in sorted(peaks, key=lambda sound: -level[sound])[:MOST]:
            first = last = peak
            least = level[peak] - BELOW
            while first > 0 and owner[first - 1] >= 0 and of(first - 1) == peak and level[first - 1] > least:
                first -= 1
            while last + 1 < count and owner[last + 1] >= 0 and of(last + 1) == peak and level[last + 1] > least:
                last += 1
            found.append((first, last + 1))
        return sorted(found)

    def measurements(self, stretches: list[tuple[int, int]]) -> Array:
        """Returns measurements [S, 18] of sounds that distinguish voices from others."""
        frames = np.concatenate([np.arange(first, last) for first, last in stretches])
        position = dict(zip(frames.tolist(), range(len(frames)), strict=True))
        each = _FrameMeasures(self.power[frames], self.excess[frames])
        return np.stack([self._measure(each, position[first], first, last) for first, last in stretches])

    def _measure(self, each: "_FrameMeasures", at: int, first: int, last: int) -> Array:
        """Returns the measurements [18] of one sound."""
        here = slice(at, at + last - first)
        count = last - first
        smooth = self.smooth[first:last]
        peak = int(smooth.argmax())
        weight = 10 ** (self.level[first:last] / 10)
        weight = weight / weight.sum()
        later = min(4, count - 1)
        both = np.minimum(weight[later:], weight[: count - later])
        alike = (each.shape[here][later:] * each.shape[here][: count - later]).sum(1)
        energy = each.energy[here]
        bands = 10 * np.log10(energy.mean(0))
        cells = 10 * np.log10(energy)
        cells = np.maximum(cells, cells.max() - 40)
        moving = cells - cells.mean(0)
        centre = each.centre[here]
        mean_centre = (weight * centre).sum()
        tail = smooth[peak:]
        return np.array(
            [
                np.log(count),
                np.log((smooth > smooth[peak] - 10).sum()),
                (weight * each.periodic[here]).sum(),
                each.periodic[here].max(),
                (weight * each.line[here]).sum(),
                (weight * each.lines[here]).sum(),
                (bands > bands.max() - 20).sum(),
                (bands > bands.max() - 35).sum(),
                (alike * both).sum() / both.sum(),
                weight[:3].sum(),
                (peak + 0.5) / count,
                (tail[0] - tail[-1]) / max(1, len(tail) - 1),
                mean_centre,
                np.sqrt((weight * (centre - mean_centre) ** 2).sum()),
                smooth[peak] - self.noise,
                smooth.std(),
                10 * np.log10(energy.mean()) - cells.mean(),
                np.sqrt(((moving - moving.mean(1, keepdims=True)) ** 2).mean()),
            ],
            np.float32,
        )


class _FrameMeasures:
    """Measurements of frames that belong to sounds: powers [F, K] and band energies above the noise [F, C]."""

    def __init__(self, power: Array, excess: Array) -> None:
        tables = analysis_tables()
        low = power[:, :65].copy()
        low[:, :3] = 0
        correlation = np.fft.irfft(low, 128, axis=1)[:, :64]
        correlation = correlation / np.maximum(correlation[:, :1], 1e-12) / tables.lags
        self.periodic = correlation[:, PITCH[0] : PITCH[1]].max(1)
        risen = power * tables.rise
        total = risen.sum(1) + 1e-12
        self.shape = np.sqrt(risen)
        self.shape /= np.sqrt((self.shape**2).sum(1, keepdims=True)) + 1e-12
        peaks = []
        rest = risen.copy()
        for _ in range(2):
            bins = np.clip(rest.argmax(1)[:, None] + np.arange(-2, 3), 0, rest.shape[1] - 1)
            peaks.append(np.take_along_axis(rest, bins, 1).sum(1) / total)
            np.put_along_axis(rest, bins, 0, 1)
        self.line = peaks[0]  # fraction of the energy in the strongest line, and in the two strongest ones
        self.lines = peaks[0] + peaks[1]
        self.energy = excess * tables.emphasis
        self.centre = (self.energy * tables.centres).sum(1) / self.energy.sum(1)


@lru_cache(maxsize=1)
def packaged_weights() -> dict[str, Array]:
    """Returns the weights of the MLP in the package."""
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def judge(measurements: Array, weights: dict[str, Array] | None = None) -> Array:
    """Returns log-odds [S, 3] of `CLASSES` from measurements [S, 18], by the MLP in the package or other weights."""
    weights = packaged_weights() if weights is None else weights
    scaled = np.clip((measurements - weights["mean"]) / weights["deviation"], -4, 4)
    hidden = np.tanh(scaled @ weights["inner"] + weights["inner_bias"])
    logits = hidden @ weights["outer"] + weights["outer_bias"]
    others = [np.logaddexp(logits[:, (k + 1) % 3], logits[:, (k + 2) % 3]) for k in range(3)]
    return logits - np.stack(others, 1)  # type: ignore[no-any-return]


def find_sounds(samples: Array) -> list[Sound]:
    """Returns the sounds of a waveform [T] at 16 kHz in order; none in silence or steady noise."""
    analysis = Analysis(samples)
    stretches = analysis.stretches()
    if not stretches:
        return []
    measurements = analysis.measurements(stretches)
    odds = judge(measurements)
    half = SIZE // 2
    sounds = []
    for (first, last), row, measured in zip(stretches, odds.tolist(), measurements, strict=True):
        # A sound at the edge of the recording reaches up to it: there are no frames around the first half frame.
        start = 0 if first == 0 else first * HOP + half
        end = len(samples) if last == len(analysis.level) else (last - 1) * HOP + half
        level = float(analysis.smooth[first:last].max())
        core = round(float(np.exp(measured[1])))
        sounds.append(
            Sound(start, max(end, start + HOP), level, core, float(measured[5]), float(measured[2]), tuple(row))
        )
    return sounds
