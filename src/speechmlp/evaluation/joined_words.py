"""Words joined from recordings of single letters, with pauses between them: a test of spelling for any corpus.

Dimension key: `T` samples.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.config.schema import AlignedConfig
from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.models.pauses import speech_parts
from speechmlp.models.spectrum import MelSpectrum

SHORTEST, LONGEST = 3, 8
"""Letters of a word."""
TAIL = 0.1
"""Seconds of the recording that are kept before and after a letter if the pause is long enough."""
FADE = 0.005
"""Seconds of the shortest fade."""
BRIDGED = 20
"""Frames without sound that may be inside a letter."""
BETWEEN = 0.25
"""Seconds before the first letter and after the last."""
CONTEXT = 0.3
"""Seconds read around the start and the end that a manifest says."""


@dataclass(frozen=True)
class Letter:
    """A recording of a letter: float32 [T] at 16 kHz, and where in it the letter starts and ends, in samples."""

    samples: NDArray[np.float32]
    start: int
    end: int


@dataclass(frozen=True)
class JoinedWord:
    """A word: its letters, speaker and samples, float32 [T] at 16 kHz, with the letters' starts and ends in samples."""

    text: str
    speaker: str
    samples: Tensor
    ends: tuple[tuple[int, int], ...]


@lru_cache(maxsize=1)
def _spectrum() -> MelSpectrum:
    return MelSpectrum(AlignedConfig(), padding="constant", mean_power=True)


def tight(mono: Tensor) -> tuple[int, int]:
    """Returns start and end, in samples, of the speech around the loudest frame of a waveform [T]."""
    mel = _spectrum()((mono - mono.mean())[None])[0]
    parts = speech_parts(mel, BRIDGED) or [(0, len(mel))]
    peak = int(mel.sum(1).argmax())
    first, last = min(parts, key=lambda part: max(part[0] - peak, peak - part[1] + 1, 0))
    hop = _spectrum().hop_length
    return min(first * hop, len(mono)), min(last * hop, len(mono))


def read_letter(utterance: Utterance) -> Letter:
    """Returns a letter of a manifest, with its ends: those of the manifest, or those of the speech in the recording.

    Raises:
        UserError: it cannot be read.
    """
    if utterance.start is None or utterance.end is None:
        mono = to_mono_16k(*load(utterance.path))
        start, end = tight(mono)
    else:
        begin = max(0.0, utterance.start - CONTEXT)
        mono = to_mono_16k(*load(utterance.path, begin, utterance.end + CONTEXT))
        start = round((utterance.start - begin) * SAMPLE_RATE)
        end = min(len(mono), round((utterance.end - begin) * SAMPLE_RATE))
    if end <= start:
        raise UserError(f"{utterance.path}: expected a letter, found no sound")
    return Letter(mono.numpy(), start, end)


def join(letters: Sequence[Letter], pauses: Sequence[float]) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """Returns letters in a row, float32 [T], and their starts and ends in samples.

    What was recorded before and after a letter is kept, up to `TAIL` and half of the pause, and faded.

    Args:
        letters: at least one.
        pauses: seconds after each letter but the last.
    """
    gaps = [BETWEEN, *pauses, BETWEEN]
    total = sum(one.end - one.start for one in letters) + sum(round(gap * SAMPLE_RATE) for gap in gaps)
    row = np.zeros(total, np.float32)
    ends = []
    position = 0
    for letter, before, after in zip(letters, gaps[:-1], gaps[1:], strict=True):
        position += round(before * SAMPLE_RATE)
        head, tail = (round(min(TAIL, gap / 2) * SAMPLE_RATE) for gap in (before, after))
        first, last = max(0, letter.start - head), min(len(letter.samples), letter.end + tail)
        part = letter.samples[first:last].copy()
        for inside, edge in ((letter.start - first, part), (last - letter.end, part[::-1])):
            fade = max(inside, round(FADE * SAMPLE_RATE))
            edge[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)[: len(edge)]
        row[position + first - letter.start : position + last - letter.start] += part
        ends.append((position, position + letter.end - letter.start))
        position = ends[-1][1]
    return row, ends


def joined_words(utterances: Sequence[Utterance], pause: float, skipped: list[str]) -> Iterator[JoinedWord]:
    """Yields words joined from the letters of each speaker, in an order that depends only on the names.

    Each letter of a speaker is in one word; the last word is filled up with earlier letters.

    Args:
        utterances: letters of a manifest.
        pause: seconds between the letters of a word.
        skipped: gets a line for each recording that cannot be read.
    """
    by_speaker = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance)
    for speaker, spoken in by_speaker.items():
        letters = []
        for utterance in sorted(spoken, key=lambda one: hashlib.sha256(f"{speaker} {one.id}".encode()).digest()):
            try:
                letters.append((utterance.letter, read_letter(utterance)))
            except UserError as error:
                skipped.append(str(error))
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:8], "big"))
        first = 0
        while first < len(letters):
            size = int(random.integers(SHORTEST, LONGEST + 1))
            chosen = letters[first : first + size]
            chosen += letters[: max(0, SHORTEST - len(chosen))]
            first += size
            row, ends = join([letter for _, letter in chosen], [pause] * (len(chosen) - 1))
            yield JoinedWord("".join(name for name, _ in chosen), speaker, torch.from_numpy(row), tuple(ends))
