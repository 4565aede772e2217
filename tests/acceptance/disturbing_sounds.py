"""Sounds that disturb the recording of a letter: offsets, rumble, clicks, knocks, beeps, speech, breath.

Every function draws one sound with a peak or level of 1, float64 at 16 kHz; `CONDITIONS` puts them into recordings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio_format import SAMPLE_RATE

Samples = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Samples]


def _time(seconds: float) -> Samples:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _band(rng: np.random.Generator, seconds: float, low: float, high: float) -> Samples:
    """Returns noise between two frequencies in Hz, with an RMS of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * SAMPLE_RATE)))
    frequency = np.fft.rfftfreq(round(seconds * SAMPLE_RATE), 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)), round(seconds * SAMPLE_RATE))
    return noise / max(1e-9, float(np.sqrt(np.mean(noise**2))))


def _ramps(samples: Samples, seconds: float) -> Samples:
    size = min(len(samples) // 2, max(1, round(seconds * SAMPLE_RATE)))
    shape = np.ones(len(samples))
    shape[:size] = np.linspace(0, 1, size)
    shape[-size:] = np.linspace(1, 0, size)
    return samples * shape


def _peak(samples: Samples) -> Samples:
    return samples / max(1e-9, float(np.abs(samples).max()))


def click(rng: np.random.Generator) -> Samples:
    """Returns a mouse click or a switch: one to three very short pulses."""
    size = round(0.03 * SAMPLE_RATE)
    sound = np.zeros(size)
    for start in np.sort(rng.uniform(0, 0.02, rng.integers(1, 4))):
        at = round(start * SAMPLE_RATE)
        rest = _time((size - at) / SAMPLE_RATE)
        decay = rng.uniform(0.0003, 0.003)
        sound[at:] += rng.uniform(0.4, 1) * rng.standard_normal(len(rest)) * np.exp(-rest / decay)
    return _peak(sound)


def double_click(rng: np.random.Generator) -> Samples:
    """Returns two clicks 80 to 200 ms apart."""
    first, second = click(rng), click(rng)
    return np.concatenate([first, np.zeros(round(rng.uniform(0.08, 0.2) * SAMPLE_RATE)), 0.8 * second])


def key_press(rng: np.random.Generator) -> Samples:
    """Returns a key going down and up: two bursts of noise, the second one softer."""
    time = _time(0.2)
    sound = np.zeros(len(time))
    for start, level in ((0.0, 1.0), (rng.uniform(0.07, 0.15), rng.uniform(0.3, 0.8))):
        at = round(start * SAMPLE_RATE)
        burst = _band(rng, 0.05, rng.uniform(200, 1500), rng.uniform(3000, 7500)) * np.exp(-_time(0.05) / 0.006)
        sound[at : at + len(burst)] += level * burst[: len(sound) - at]
    return _peak(sound)


def knock(rng: np.random.Generator) -> Samples:
    """Returns a knock on wood or a table: a few damped modes with a hard attack."""
    time = _time(0.3)
    sound = 0.2 * rng.standard_normal(len(time)) * np.exp(-time / 0.002)
    for _ in range(rng.integers(2, 5)):
        frequency, decay = np.exp(rng.uniform(np.log(80), np.log(1200))), rng.uniform(0.01, 0.045)
        sound += rng.uniform(0.3, 1) * np.sin(2 * np.pi * frequency * time) * np.exp(-time / decay)
    return _peak(sound)


def pop(rng: np.random.Generator) -> Samples:
    """Returns a pop, as when a microphone is switched on: one low pulse with a sharp edge."""
    time = _time(0.15)
    decay = rng.uniform(0.005, 0.04)
    return _peak(np.cos(2 * np.pi * rng.uniform(20, 150) * time) * np.exp(-time / decay))


def thump(rng: np.random.Generator, low: float = 40.0, high: float = 80.0) -> Samples:
    """Returns a thump: a damped low tone."""
    time = _time(0.6)
    tone = np.sin(2 * np.pi * rng.uniform(low, high) * time + rng.uniform(0, 6))
    return _peak(tone * np.exp(-time / rng.uniform(0.05, 0.2)))


def beep(rng: np.random.Generator, low: float = 300.0, high: float = 4000.0) -> Samples:
    """Returns a pure tone of 0.1 to 1 s."""
    time = _time(rng.uniform(0.1, 1.0))
    return _ramps(np.sin(2 * np.pi * np.exp(rng.uniform(np.log(low), np.log(high))) * time), rng.uniform(0.001, 0.02))


def dual_tone(rng: np.random.Generator) -> Samples:
    """Returns a telephone's key: one of four low and one of four high tones."""
    time = _time(rng.uniform(0.1, 0.6))
    pair = rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477, 1633])
    return _ramps(sum(np.sin(2 * np.pi * tone * time) for tone in pair) / 2, 0.005)


def chirp(rng: np.random.Generator) -> Samples:
    """Returns a tone that glides from one frequency to another."""
    time = _time(rng.uniform(0.15, 0.8))
    first, last = np.exp(rng.uniform(np.log(300), np.log(3500), 2))
    frequency = first * (last / first) ** (time / time[-1])
    return _ramps(np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE), 0.01)


def melody(rng: np.random.Generator) -> Samples:
    """Returns two to five notes, with or without harmonics."""
    notes = []
    harmonics = rng.integers(1, 4)
    for _ in range(rng.integers(2, 6)):
        time = _time(rng.uniform(0.08, 0.25))
        base = 440 * 2 ** (rng.integers(-5, 15) / 12)
        tone = sum(np.sin(2 * np.pi * n * base * time) / n**1.5 for n in range(1, harmonics + 1))
        notes.append(_ramps(np.asarray(tone), 0.005))
    return _peak(np.concatenate(notes))


def breath(rng: np.random.Generator) -> Samples:
    """Returns a breath: noise that swells and fades, with weak resonances."""
    seconds = rng.uniform(0.3, 0.9)
    noise = _band(rng, seconds, 200, 6000) + _band(rng, seconds, rng.uniform(500, 1500), rng.uniform(1800, 3500))
    return _peak(noise * np.sin(np.pi * _time(seconds) / seconds) ** 1.5)


# Shapes that nothing was tuned on.


def glass(rng: np.random.Generator) -> Samples:
    """Returns a struck glass, bell or notification: high inharmonic partials that ring."""
    time = _time(1.2)
    base = rng.uniform(600, 2500)
    sound = np.zeros(len(time))
    for ratio in (1.0, 2.32, 4.25):
        if base * ratio < 7500:
            sound += (
                rng.uniform(0.3, 1) * np.sin(2 * np.pi * base * ratio * time) * np.exp(-time / rng.uniform(0.08, 0.4))
            )
    return _peak(sound)


def buzzer(rng: np.random.Generator) -> Samples:
    """Returns a square wave of 0.15 to 0.7 s, as from a cheap loudspeaker."""
    time = _time(rng.uniform(0.15, 0.7))
    phase = rng.uniform(250, 1200) * time % 1
    return _ramps(np.where(phase < rng.uniform(0.3, 0.5), 1.0, -1.0), 0.003)


def horn(rng: np.random.Generator) -> Samples:
    """Returns a horn or an alarm: a saw tooth whose pitch drifts, and which may tremble."""
    time = _time(rng.uniform(0.2, 0.9))
    drift = np.exp(rng.uniform(-0.2, 0.2) * time / time[-1])
    tremble = 1 + rng.choice([0.0, 0.02]) * np.sin(2 * np.pi * rng.uniform(5, 15) * time)
    phase = np.cumsum(rng.uniform(140, 700) * drift * tremble) / SAMPLE_RATE
    wave = np.sum([np.sin(2 * np.pi * n * phase) / n for n in range(1, 12)], axis=0)
    return _peak(_ramps(wave, rng.uniform(0.005, 0.08)))


def ringing(rng: np.random.Generator) -> Samples:
    """Returns an electronic telephone: two tones in turn, 10 to 25 times a second."""
    time = _time(rng.uniform(0.3, 1.0))
    low = rng.uniform(600, 1400)
    high = low * rng.uniform(1.15, 1.6)
    frequency = np.where(time * rng.uniform(10, 25) % 1 < 0.5, low, high)
    return _ramps(np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE), 0.01)


def clap(rng: np.random.Generator) -> Samples:
    """Returns a clap or a slammed door in a room: a burst of noise with a decaying tail."""
    time = _time(0.5)
    noise = _band(rng, 0.5, rng.uniform(60, 400), rng.uniform(2500, 7000))
    return _peak(noise * np.exp(-time / rng.uniform(0.01, 0.06)))


def rustle(rng: np.random.Generator) -> Samples:
    """Returns paper or clothes: many small clicks of high noise."""
    seconds = rng.uniform(0.2, 0.8)
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    for _ in range(int(60 * seconds)):
        at = rng.integers(0, len(sound))
        burst = rng.exponential(1.0) * rng.standard_normal(320) * np.exp(-np.arange(320) / rng.uniform(20, 120))
        sound[at : at + 320] += burst[: len(sound) - at]
    return _peak(sound)


def taps(rng: np.random.Generator) -> Samples:
    """Returns three to six knocks in a row."""
    gap = round(rng.uniform(0.09, 0.25) * SAMPLE_RATE)
    sound = np.zeros(6 * gap + round(0.3 * SAMPLE_RATE))
    for number in range(rng.integers(3, 7)):
        one = knock(rng)
        sound[number * gap : number * gap + len(one)] += rng.uniform(0.5, 1) * one
    return _peak(sound)


@dataclass(frozen=True)
class Scene:
    """A recording of a letter that is to be disturbed.

    Attributes:
        samples: the letter in near silence.
        start: of the letter, in samples.
        end: of the letter.
        peak: of the letter.
        speech: returns other speech of the same kind: `sentence` or `word`, and noises: `cough`.
    """

    samples: Samples
    start: int
    end: int
    peak: float
    speech: Callable[[str, np.random.Generator], Samples] = field(repr=False)


Disturb = Callable[[Scene, np.random.Generator], Samples]


def _place(scene: Scene, sound: Samples, where: str, gap: float, rng: np.random.Generator) -> Samples:
    """Returns the recording with a sound that ends, or begins, `gap` seconds before, or after, the letter."""
    if where == "either":
        where = str(rng.choice(["before", "after"]))
    distance = round(gap * SAMPLE_RATE)
    first = scene.start - distance - len(sound) if where == "before" else scene.end + distance
    lead, total = max(0, -first), max(len(scene.samples), first + len(sound))
    mixed = np.zeros(lead + total)
    floor = scene.samples[: min(scene.start, 4000)]
    mixed += np.resize(floor, len(mixed)) if len(floor) else 0.0
    mixed[lead : lead + len(scene.samples)] = scene.samples
    mixed[lead + first : lead + first + len(sound)] += sound
    return mixed


def _beside(
    draw: Draw,
    where: str = "either",
    gap: tuple[float, float] = (0.1, 0.8),
    level: tuple[float, float] = (0.0, 0.0),
    scene: Scene | None = None,
    rng: np.random.Generator | None = None,
) -> Samples:
    assert scene is not None
    assert rng is not None
    loud = scene.peak * 10 ** (rng.uniform(*level) / 20)
    return _place(scene, loud * draw(rng), where, rng.uniform(*gap), rng)


def beside(draw: Draw, where: str, gap: tuple[float, float], level: tuple[float, float]) -> Disturb:
    """Returns a disturbance: a sound before or after the letter, at a distance in s and a level in dB."""
    return lambda scene, rng: _beside(draw, where, gap, level, scene, rng)


def _speech(kind: str, where: str, gap: tuple[float, float], level: tuple[float, float]) -> Disturb:
    return lambda scene, rng: _beside(partial(scene.speech, kind), where, gap, level, scene, rng)


def at_start(draw: Draw, level: float) -> Disturb:
    """Returns a disturbance: a sound at the very start of the recording."""

    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        sound = scene.peak * 10 ** (level / 20) * draw(rng)
        sound = sound[: max(0, scene.start - 1600)]
        mixed = scene.samples.copy()
        mixed[: len(sound)] += sound
        return mixed

    return disturb


def _offset(size: float) -> Disturb:
    return lambda scene, rng: scene.samples + size * float(rng.choice([-1, 1]))


def _settling(size: float, seconds: float) -> Disturb:
    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        time = np.arange(len(scene.samples)) / SAMPLE_RATE
        return scene.samples + size * float(rng.choice([-1, 1])) * np.exp(-time / seconds)

    return disturb


def _step(size: float) -> Disturb:
    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        time = np.arange(len(scene.samples))
        return scene.samples + size * float(rng.choice([-1, 1])) * (time >= int(rng.integers(0, len(time))))

    return disturb


def _drift(scene: Scene, rng: np.random.Generator) -> Samples:
    """A baseline that wanders: a ramp, a settling with undershoot, and slow noise."""
    time = np.arange(len(scene.samples)) / SAMPLE_RATE
    settling = 0.3 * np.exp(-time / 0.1) * np.cos(2 * np.pi * rng.uniform(1, 6) * time)
    return scene.samples + rng.uniform(-0.1, 0.1) * time + settling


def _rumble(low: float, high: float, level: float) -> Disturb:
    """Noise between two low frequencies over the whole recording; its RMS relative to the letter's peak."""

    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        noise = _band(rng, len(scene.samples) / SAMPLE_RATE, low, high)
        return scene.samples + scene.peak * 10 ** (level / 20) * noise[: len(scene.samples)]

    return disturb


def _hum(base: float, level: float, harmonics: int, slope: float = 1.5, wander: float = 0.0) -> Disturb:
    """A tone with harmonics over the whole recording; its frequency may wander by a fraction."""

    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        time = np.arange(len(scene.samples)) / SAMPLE_RATE
        bend = 1 + wander * np.sin(2 * np.pi * (rng.uniform(0.05, 0.2) * time + rng.random()))
        phase = 2 * np.pi * base * (1 + wander * rng.uniform(-2, 2)) * np.cumsum(bend) / SAMPLE_RATE
        tones = sum(np.sin(n * phase + rng.uniform(0, 6)) / n**slope for n in range(1, harmonics + 1))
        return np.asarray(scene.samples + scene.peak * 10 ** (level / 20) * tones)

    return disturb


def _noise(snr: float) -> Disturb:
    """White and low noise; `snr` in dB relative to the letter's peak."""

    def disturb(scene: Scene, rng: np.random.Generator) -> Samples:
        noise = rng.standard_normal(len(scene.samples)) + 2 * _band(rng, len(scene.samples) / SAMPLE_RATE, 50, 500)
        return scene.samples + scene.peak * 10 ** (-snr / 20) * noise / 2.2

    return disturb


def _bump(scene: Scene, rng: np.random.Generator) -> Samples:
    """A touched microphone: low noise and an offset for a moment, then the offset settles."""
    sound = _ramps(_band(rng, 0.5, 5, 60), 0.1) + 2 * np.exp(-_time(0.5) / 0.15)
    return _place(scene, 3 * scene.peak * sound, "either", rng.uniform(0.1, 0.6), rng)


FAR, NEAR, ANY = (0.4, 1.2), (0.06, 0.2), (0.06, 0.9)

CONDITIONS: dict[str, Disturb] = {
    "plain": lambda scene, rng: scene.samples,
    "offset 1 %": _offset(0.01),
    "offset 6 %": _offset(0.06),
    "offset 20 %": _offset(0.2),
    "offset 50 %": _offset(0.5),
    "settling 0.05, 0.03 s": _settling(0.05, 0.03),
    "settling 0.2, 0.03 s": _settling(0.2, 0.03),
    "settling 0.2, 0.12 s": _settling(0.2, 0.12),
    "settling 0.5, 0.12 s": _settling(0.5, 0.12),
    "settling 0.5, 0.5 s": _settling(0.5, 0.5),
    "step 0.05": _step(0.05),
    "step 0.3": _step(0.3),
    "rumble 20 to 60 Hz, 0 dB": _rumble(20, 60, 0),
    "rumble 40 to 90 Hz, -10 dB": _rumble(40, 90, -10),
    "rumble 5 to 25 Hz, 6 dB": _rumble(5, 25, 6),
    "hum 50 Hz, -6 dB": _hum(50, -6, 1),
    "hum 60 Hz, 0 dB": _hum(60, 0, 1),
    "hum 50 Hz with harmonics, -20 dB": _hum(50, -20, 6),
    "hum 50 Hz with many harmonics, -10 dB": _hum(50, -10, 30, 1.0),
    "hum 60 Hz with harmonics, 0 dB": _hum(60, 0, 12),
    "hum 100 Hz with harmonics, -10 dB": _hum(100, -10, 10),
    "hum 120 Hz with harmonics, 0 dB": _hum(120, 0, 12, 1.2),
    "hum about 50 Hz with harmonics, wandering, -10 dB": _hum(50, -10, 8, 1.5, 0.001),
    "whine 400 Hz, -10 dB": _hum(400, -10, 3),
    "noise, 30 dB": _noise(30),
    "noise, 15 dB": _noise(15),
    "thump before, 10 dB": beside(thump, "before", ANY, (0, 10)),
    "thump after, 20 dB": beside(thump, "after", ANY, (10, 20)),
    "pop at the start, 10 dB": at_start(pop, 10),
    "click near, 0 to 20 dB": beside(click, "either", NEAR, (0, 20)),
    "click far, 0 to 20 dB": beside(click, "either", FAR, (0, 20)),
    "double click, 10 dB": beside(double_click, "either", ANY, (0, 10)),
    "key press before, 0 to 20 dB": beside(key_press, "before", ANY, (0, 20)),
    "key press after, 0 to 10 dB": beside(key_press, "after", ANY, (0, 10)),
    "knock before, 0 to 20 dB": beside(knock, "before", ANY, (0, 20)),
    "knock after, 0 to 20 dB": beside(knock, "after", ANY, (0, 20)),
    "knock near, 0 dB": beside(knock, "either", NEAR, (-10, 3)),
    "beep before, 0 to 10 dB": beside(beep, "before", ANY, (0, 10)),
    "beep after, 0 to 10 dB": beside(beep, "after", ANY, (0, 10)),
    "beep near, -20 to 0 dB": beside(beep, "either", NEAR, (-20, 0)),
    "dual tone, 0 to 10 dB": beside(dual_tone, "either", ANY, (0, 10)),
    "chirp, 0 to 10 dB": beside(chirp, "either", ANY, (0, 10)),
    "melody, 0 to 10 dB": beside(melody, "either", ANY, (0, 10)),
    "horn, 0 to 10 dB": beside(horn, "either", ANY, (0, 10)),
    "two horns, -10 to 5 dB": beside(
        lambda rng: np.concatenate([horn(rng), np.zeros(2400), horn(rng)]), "either", ANY, (-10, 5)
    ),
    "sentence after": _speech("sentence", "after", FAR, (-6, 6)),
    "sentence before": _speech("sentence", "before", FAR, (-6, 6)),
    "word after": _speech("word", "after", FAR, (-6, 6)),
    "word before": _speech("word", "before", FAR, (-6, 6)),
    "breath, -10 to 0 dB": beside(breath, "either", (0.2, 0.9), (-10, 0)),
    "cough, 0 to 10 dB": _speech("cough", "either", (0.25, 0.9), (0, 10)),
}
"""Conditions by name; levels are peaks relative to the letter's peak."""

KEPT_BACK: dict[str, Disturb] = {
    "drifting baseline": _drift,
    "touched microphone": _bump,
    "hum 60 Hz with harmonics, -10 dB": _hum(60, -10, 12),
    "glass or bell, 0 to 10 dB": beside(glass, "either", ANY, (0, 10)),
    "buzzer, 0 to 10 dB": beside(buzzer, "either", ANY, (0, 10)),
    "ringing, 0 to 10 dB": beside(ringing, "either", ANY, (0, 10)),
    "clap, 0 to 20 dB": beside(clap, "either", ANY, (0, 20)),
    "rustle, -6 to 6 dB": beside(rustle, "either", (0.15, 0.9), (-6, 6)),
    "taps, 0 to 10 dB": beside(taps, "either", ANY, (0, 10)),
    "sniff, 0 dB": _speech("sniff", "either", (0.25, 0.9), (-6, 6)),
}
"""Conditions that nothing was tuned on."""


def names(wanted: Sequence[str]) -> dict[str, Disturb]:
    """Returns the conditions whose names contain one of the given texts, or all of them."""
    every = CONDITIONS | KEPT_BACK
    return {name: one for name, one in every.items() if not wanted or any(text in name for text in wanted)}
