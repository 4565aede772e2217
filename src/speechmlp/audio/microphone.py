"""Record speech from a microphone, from the first sound to the pause after it, and show its level.

Dimension key: `T` samples.
"""

import math
from collections import deque
from typing import Any, Protocol, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.errors import UserError

BLOCK = 0.02
"""Seconds per read."""
BEFORE = 0.3
"""Seconds kept before the first sound: consonants start softly."""
LOUDER = 12.0
"""Level of speech above the quietest blocks, in dB."""
LOWEST = -60.0
"""Lowest level of speech, in dBFS."""
SHORTEST = 0.06
"""Shortest speech in seconds; a click is shorter."""
WAIT = 15.0
"""Longest wait for the first sound, in seconds."""
LONGEST = 60.0
"""Longest recording in seconds, including the silence before it."""
WIDTH = 30


class Stream(Protocol):
    """The part of `sounddevice.InputStream` that is used."""

    samplerate: float

    def read(self, frames: int) -> tuple[NDArray[Any], bool]:
        """Returns int16 [T, 1], and whether samples were lost before it."""


def _level(block: NDArray[Any]) -> float:
    """Returns the level of samples between -1 and 1 in dBFS; a full-scale square wave has 0."""
    return 10 * math.log10(float(np.mean(np.square(block))) + 1e-12)


def _meter(level: float) -> str:
    filled = round(WIDTH * min(1.0, max(0.0, 1 - level / LOWEST)))
    return f"\r[{'#' * filled}{' ' * (WIDTH - filled)}] {level:4.0f} dBFS "


def record(stream: Stream, pause: float, screen: TextIO | None = None) -> Tensor:
    """Returns one spoken utterance, float32 [T] at the stream's rate, with a little before it and the pause after it.

    Args:
        stream: a started stream.
        pause: seconds of silence that end the utterance.
        screen: stream on which the level is shown.

    Raises:
        UserError: nothing is said, or the utterance does not end.
    """
    size = round(BLOCK * stream.samplerate)
    before: deque[NDArray[Any]] = deque(maxlen=round(BEFORE / BLOCK))
    kept: list[NDArray[Any]] = []
    levels: list[float] = []
    spoken = quiet = 0
    for number in range(round(LONGEST / BLOCK)):
        block = stream.read(size)[0][:, 0].astype(np.float32) / FULL_SCALE
        level = _level(block)
        levels.append(level)
        if screen is not None and number % 3 == 0:
            screen.write(_meter(level))
            screen.flush()
        floor = sorted(levels)[len(levels) // 10]
        if level > max(LOWEST, floor + LOUDER):
            spoken, quiet = spoken + 1, 0
        else:
            quiet += 1
        if spoken:
            kept.append(block)
        else:
            before.append(block)
        if quiet * BLOCK >= pause and spoken:
            if spoken * BLOCK >= SHORTEST:
                break
            before.extend(kept)  # a click
            kept, spoken = [], 0
        if not spoken and len(levels) * BLOCK >= WAIT:
            raise UserError(f"microphone: no sound in {WAIT:g} s; check that the right one is connected and not muted")
    else:
        raise UserError(f"microphone: no pause in {LONGEST:g} s; expected silence after the speech")
    if screen is not None:
        screen.write("\r" + " " * (WIDTH + 14) + "\r")
        screen.flush()
    return torch.from_numpy(np.concatenate([*before, *kept]))


def record_seconds(stream: Stream, seconds: float) -> Tensor:
    """Returns the next seconds of a started stream, float32 [T] at its rate."""
    samples = stream.read(round(seconds * stream.samplerate))[0][:, 0]
    return torch.from_numpy(samples.astype(np.float32) / FULL_SCALE)


def load_sounddevice() -> Any:
    """Returns the module `sounddevice`.

    Raises:
        UserError: sounddevice or PortAudio is missing.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise UserError("recording needs sounddevice: python -m pip install 'speechmlp[record]'") from error
    except OSError as error:
        raise UserError(f"recording needs PortAudio ({error}); Debian: apt install libportaudio2") from error
    return sounddevice


def open_microphone(device: str | int | None = None) -> Any:
    """Returns a microphone as a `sounddevice.InputStream`, at 16 kHz if possible, otherwise at its own rate.

    Args:
        device: number or name of the device; None for the system's default.

    Raises:
        UserError: sounddevice, PortAudio or a microphone is missing.
    """
    sounddevice = load_sounddevice()
    try:
        try:
            return sounddevice.InputStream(SAMPLE_RATE, device=device, channels=1, dtype="int16")
        except sounddevice.PortAudioError:
            rate = sounddevice.query_devices(device, "input")["default_samplerate"]
            return sounddevice.InputStream(rate, device=device, channels=1, dtype="int16")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(
            f"microphone: cannot be opened ({' '.join(str(error).split())}); is one connected? "
            "speechmlp record --list-devices lists them"
        ) from error
