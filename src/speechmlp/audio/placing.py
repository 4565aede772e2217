"""The one place that decides which second of a recording is a model's input, in training and in use.

The sounds of the recording (`speechmlp.audio.speech`) are joined to stretches that can be a letter: a voice, with the
noise and the voices close to it. The most likely one, judged with its surroundings, gets the middle of the second; in a
recording of up to a second it stays where it is. What else sounds in this second is replaced by the recording's own
background, and a strong offset or rumble is removed. It needs NumPy only.

Dimension key: `T` samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from speechmlp.audio.hum import without_hum
from speechmlp.audio.speech import Array, Sound, find_sounds
from speechmlp.audio_format import DEFAULT_INPUT, FULL_SCALE, SAMPLE_RATE, AudioInput

ROOM, NEAR = 0.3, 0.1
"""Seconds kept on a side of a letter, and where something disturbs it."""
FADE = 0.01
"""Seconds of the fade where something is cut off."""
BRIDGED = 0.22
"""Longest gap in s inside a letter: the closures of H, W and X. Longer in inputs of more than a second."""
FAINT = 50.0
"""dB below the loudest sound of a letter from which on another is no part of it: breath, or the room."""
TOUCHING = 0.04
"""Longest gap in s between a burst and its vowel."""
OTHER = 4.0
"""Log-odds from which on a sound is no part of a letter; three times as much if it touches the letter, or lasts."""
LASTING, TONAL = 5, 0.6
"""Fewest frames of lasting noise, and largest fraction of its energy in two lines."""
PERIODIC, STEADY = (0.8, 1.3), 3
"""Periodicity, and fewest frames, of a sound next to the letter that is no noise: a buzzer, if it is no voice.

The estimate is larger only if rumble leaks into it.
"""
LOUDER = 12.0
"""dB by which friction may be louder than the vowel; high bands are emphasised."""
LONGEST = 1.1
"""Seconds for each second of the input; longer stretches are probably more than one letter."""
ALIKE = 10.0
"""dB below the loudest sound of a stretch down to which a voice counts as one of its voices."""
SHORTEST = 0.12
"""Seconds; shorter stretches are probably none."""
APART = 0.5
"""Seconds of surrounding silence from which on a stretch is on its own."""
WEAK = 25.0
"""dB below the letter from which on other sounds do not disturb it."""
LOW = 100.0
"""Hz below which rumble is removed."""
STEEP = 12
"""Exponent of its removal."""
RUMBLE = -20.0
"""dB relative to the letter from which on it is removed: it leaks into the bands above."""
MASKING = 6.0
"""dB relative to the whole recording from which on it is removed before sounds are judged."""
QUIET = 0.06
"""Shortest pause in s whose noise replaces what disturbs the letter; otherwise it is zeros."""


@dataclass(frozen=True)
class Stretch:
    """A part of a recording that can be a letter.

    Attributes:
        start: in samples.
        end: in samples.
        level: in dB; comparable within a recording only.
        score: how likely it is the letter; log-odds of being a voice, less for what its surroundings speak against.
        long: whether it is too long for one letter.
        voices: number of its voices, except those much softer than its loudest sound; one for most letters.
    """

    start: int
    end: int
    level: float
    score: float
    long: bool
    voices: int


@dataclass(frozen=True)
class Placed:
    """The second of a recording that is a model's input.

    Attributes:
        samples: float32, as many as the input has.
        first: its start in the recording, in samples; negative if the recording is shorter.
        recorded: number of samples that are recorded, between zeros.
    """

    samples: Array
    first: int
    recorded: int


Span = TypeVar("Span", Sound, Stretch)


def _joined(sounds: Sequence[Sound], bridged: float) -> list[list[Sound]]:
    """Returns groups of sounds that may be one letter each, or longer speech.

    They hold a voice, or are apart from all that do and may still be speech: whispered, or a fricative's noise.
    """
    voiced = _close([sound for sound in sounds if sound.voice > 0], sounds, bridged)
    taken = {sound for group in voiced for sound in group}
    rest = [sound for sound in sounds if sound not in taken]
    return voiced + _close([sound for sound in rest if sound.other < OTHER], rest, bridged)


def _close(seeds: Sequence[Sound], sounds: Sequence[Sound], bridged: float) -> list[list[Sound]]:
    """Returns groups of seeds that are close to each other, with what is between them and belongs to them."""
    groups: list[list[Sound]] = []
    for seed in seeds:
        gap = (seed.start - groups[-1][-1].end) / SAMPLE_RATE if groups else np.inf
        louder = seed.level - max(one.level for one in groups[-1]) if groups else 0.0
        if gap <= bridged and louder > FAINT:
            groups[-1] = [seed]
        elif gap <= bridged and louder >= -FAINT:
            groups[-1] += [one for one in sounds if groups[-1][-1].end < one.start < seed.start]
            groups[-1].append(seed)
        elif gap > bridged:
            groups.append([seed])
    for group in groups:
        for direction in (-1, 1):
            _grow(group, sounds, direction, bridged)
    return groups


def _grow(group: list[Sound], sounds: Sequence[Sound], direction: int, bridged: float) -> None:
    """Adds friction and bursts that are close before, or after, a group."""
    level = max(sound.level for sound in group)
    beyond = [sound for sound in sounds if (sound.start - group[0].start) * direction > 0 and sound not in group]
    for sound in sorted(beyond, key=lambda one: direction * one.start):
        edge = group[-1] if direction > 0 else group[0]
        gap = max(0, sound.start - edge.end if direction > 0 else edge.start - sound.end) / SAMPLE_RATE
        lasting = sound.core >= LASTING and sound.lines < TONAL
        certain = OTHER if gap > TOUCHING and not lasting else 3 * OTHER
        if gap > TOUCHING and PERIODIC[0] < sound.periodic < PERIODIC[1] and sound.core >= STEADY:
            certain = 0.0
        if gap > bridged or sound.other > certain or not level - FAINT < sound.level < level + LOUDER:
            return
        group.insert(len(group) if direction > 0 else 0, sound)


def _stretches(sounds: Sequence[Sound], seconds: float) -> list[Stretch]:
    """Returns what can be a letter, or another label of an input of some seconds, the most likely one first."""
    longest, groups = LONGEST * seconds, _joined(sounds, BRIDGED * max(1.0, seconds))
    spans = [(min(one.start for one in group), max(one.end for one in group)) for group in groups]
    levels = [max(one.level for one in group) for group in groups]
    voices = [max(one.voice for one in group) for group in groups]
    loudest = max(levels, default=0.0)
    voiced = [number for number, voice in enumerate(voices) if voice > 0]
    found = []
    for number, ((start, end), level, voice) in enumerate(zip(spans, levels, voices, strict=True)):
        if voice <= 0 and level < loudest - WEAK:
            continue
        # Speech around it is against a stretch; noises, which may be anything, are not.
        around = [spans[other] for other in voiced if other != number and levels[other] > level - WEAK]
        gaps = [max(start - last, first - end) / SAMPLE_RATE for first, last in around]
        apart = min([APART, *gaps])
        length = (end - start) / SAMPLE_RATE
        score = min(8.0, voice)
        score -= 12 * max(0.0, length - longest) + 10 * (APART - apart) + 0.2 * (loudest - level)
        score -= 20 * max(0.0, SHORTEST - length)
        loud = sum(sound.voice > 0 and sound.level > level - ALIKE for sound in groups[number])
        found.append(Stretch(start, end, level, score, length > longest, loud))
    return sorted(found, key=lambda one: -one.score)


def _loudest(samples: Array, length: int) -> int:
    """Returns the start of the `length` samples with the most energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return int((energy[length:] - energy[:-length]).argmax())


def _without_rumble(samples: Array, start: int, end: int, rate: int = SAMPLE_RATE, strong: float = RUMBLE) -> Array:
    """Returns a waveform without offset and rumble if these are strong compared with the part from start to end.

    `strong` is their level relative to that part in dB. Otherwise returns the same array.
    """
    size = len(samples)
    if size < rate // 10:
        return samples
    room = min(size - 1, rate // 4)
    padded = np.pad(samples, (room, room + -(size + 2 * room) % 2048), mode="reflect")  # such lengths transform quickly
    frequency = np.fft.rfftfreq(len(padded), 1 / rate)
    gain = (1 / (1 + (LOW / np.maximum(frequency, 1.0)) ** STEEP)).astype(np.float32)
    filtered = np.fft.irfft(np.fft.rfft(padded) * gain, len(padded))[room : room + size].astype(np.float32)
    low = float(np.square(samples - filtered).mean())
    letter = float(np.square(filtered[start:end]).mean())
    return filtered if low > 10 ** (strong / 10) * letter else samples


class Placing:
    """The stretches of a recording that can be a letter, and the second of each of them.

    Args:
        samples: float32 [T] at the input's rate, not empty.
        audio: the input of the model.
        judged: the same at 16 kHz, where sounds are found; None if the input has that rate.

    Attributes:
        stretches: the most likely one first, in samples of the input; none in silence, in noise, or if there are only
            other sounds.
    """

    def __init__(self, samples: Array, audio: AudioInput = DEFAULT_INPUT, judged: Array | None = None) -> None:
        self._rate, self._size = audio.sample_rate, audio.num_samples
        self._samples = without_hum(samples, self._rate)
        heard = self._samples if judged is None else without_hum(judged)
        self._sounds = find_sounds(_without_rumble(heard, 0, len(heard), strong=MASKING))
        self.stretches = _stretches(self._sounds, audio.seconds)
        if audio.sample_rate != SAMPLE_RATE:
            self._sounds = [self._scaled(sound) for sound in self._sounds]
            self.stretches = [self._scaled(stretch) for stretch in self.stretches]

    def _scaled(self, span: Span) -> Span:
        """Returns a sound or stretch with its samples at 16 kHz as samples of the input."""
        start, end = (
            min(len(self._samples), round(edge * self._rate / SAMPLE_RATE)) for edge in (span.start, span.end)
        )
        return replace(span, start=start, end=end)

    def second(self, number: int = 0) -> Placed:
        """Returns the second of the stretch with this number, or the loudest second if there are no stretches."""
        length = len(self._samples)
        if not self.stretches:
            first = -((self._size - length) // 2)
            if length > self._size:
                first = _loudest(_without_rumble(self._samples, 0, length, self._rate), self._size)
            return self._cut(first, 0, length, 0, length)
        best = self.stretches[number]
        first = (best.start + best.end - self._size) // 2
        if best.end - best.start > self._size:
            first = best.start - round(NEAR * self._rate)
        first = min(max(0, first), length - self._size)
        left, right = self._undisturbed(best)
        if length <= self._size:
            first = -((self._size - length) // 2)
        else:
            left = max(left, best.start - round(ROOM * self._rate))
            right = min(right, best.end + round(ROOM * self._rate))
        return self._cut(first, left, right, best.start, best.end)

    def _undisturbed(self, best: Stretch) -> tuple[int, int]:
        """Returns start and end of a stretch with its surroundings, up to what disturbs it."""
        before, after = 0, len(self._samples)
        for sound in self._sounds:
            if sound.level < best.level - WEAK or -2 < sound.voice < 2:
                continue
            if sound.end <= best.start:
                before = max(before, sound.end)
            elif sound.start >= best.end:
                after = min(after, sound.start)
        room = round(NEAR * self._rate)
        left = best.start - min(room, (best.start - before) // 2) if before else 0
        right = best.end + min(room, (after - best.end) // 2) if after < len(self._samples) else after
        return left, right

    def _background(self, clean: Array, origin: int) -> Array:
        """Returns noise of a pause of the recording, from its part `clean` that begins at `origin`, or a zero."""
        edges = [origin, *(edge for sound in self._sounds for edge in (sound.start, sound.end)), origin + len(clean)]
        guard = round(QUIET / 2 * self._rate)
        pauses = []
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            pause = clean[max(0, start + guard - origin) : max(0, end - guard - origin)]
            if len(pause) >= 2 * guard:
                pauses.append(pause[: self._rate // 4])
        if not pauses:
            return np.zeros(1, np.float32)
        quietest = min(pauses, key=lambda pause: float(np.square(pause).mean()))
        return np.concatenate([quietest, quietest[::-1]])

    def _cut(self, first: int, left: int, right: int, start: int, end: int) -> Placed:
        """Returns the second from `first` on, with background outside `left` to `right`; the letter is start to end."""
        samples, length = self._samples, len(self._samples)
        origin = max(0, first - self._rate // 2)
        clean = samples[origin : first + self._size + self._rate // 2]
        clean = _without_rumble(clean, max(0, start - origin), max(1, end - origin), self._rate)
        here, stop = max(0, first), min(length, first + self._size)
        part = clean[here - origin : stop - origin]
        if left > here or right < stop:
            time = np.arange(here, stop)
            kept = np.ones(stop - here, np.float32)
            if left > here:
                kept *= np.clip((time - left) / (FADE * self._rate), 0, 1)
            if right < stop:
                kept *= np.clip((right - time) / (FADE * self._rate), 0, 1)
            part = kept * part + (1 - kept) * np.resize(self._background(clean, origin), len(part))
        second = np.zeros(self._size, np.float32)
        second[here - first : stop - first] = part
        return Placed(second, first, stop - here)


def place(samples: Array, audio: AudioInput = DEFAULT_INPUT, judged: Array | None = None) -> Placed:
    """Returns the part of a waveform [T] that is a model's input: one second at 16 kHz, if not configured otherwise.

    Args:
        samples: float32 [T] at the input's rate, not empty.
        audio: the input.
        judged: the same at 16 kHz; None if it has that rate.
    """
    return Placing(samples, audio, judged).second()


def rounded(samples: Array) -> Array:
    """Returns samples rounded to 16 bits as in a packed corpus, which models are trained on."""
    scaled: Array = np.clip(np.round(samples * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE - 1)
    return scaled / np.float32(FULL_SCALE)
