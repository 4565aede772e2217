"""Record speech from a microphone, from the first sound to the pause after it, and show its level.

Dimension key: `T` samples.
"""

import math
import queue
import threading
from collections import deque
from collections.abc import Generator
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
LISTENER = "speechmlp microphone"
"""Name of the thread that reads a stream."""


class Stream(Protocol):
    """The part of `sounddevice.InputStream` that is used."""

    samplerate: float

    def read(self, frames: int) -> tuple[NDArray[Any], bool]:
        """Returns int16 [T, 1], and whether samples were lost before it."""


def level_of(block: NDArray[Any]) -> float:
    """Returns the level of samples between -1 and 1 in dBFS, without a constant or drifting offset."""
    time = np.linspace(-1, 1, len(block))
    drift = block.mean() + time * float(time @ block) / float(time @ time)
    return 10 * math.log10(float(np.mean(np.square(block - drift))) + 1e-12)


def meter(level: float) -> str:
    """Returns a level in dBFS as a bar of characters that replaces the line before."""
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
        level = level_of(block)
        levels.append(level)
        if screen is not None and number % 3 == 0:
            screen.write(meter(level))
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


def listen(stream: Stream) -> Generator[NDArray[np.int16], None, None]:
    """Yields what a started stream has recorded since the last time, int16 [T], without an end.

    A thread reads the stream, so that nothing is lost while the caller computes.

    Raises:
        UserError: the microphone is taken away.
    """
    heard: queue.SimpleQueue[NDArray[np.int16] | Exception] = queue.SimpleQueue()
    size = round(BLOCK * stream.samplerate)
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                heard.put(stream.read(size)[0][:, 0].astype(np.int16))
        except Exception as error:  # PortAudio's error has no type without PortAudio
            heard.put(error)

    reader = threading.Thread(target=read, name=LISTENER, daemon=True)
    reader.start()
    try:
        while True:
            blocks = [heard.get()]
            while not heard.empty():
                blocks.append(heard.get())
            samples = [block for block in blocks if not isinstance(block, Exception)]
            if samples:
                yield np.concatenate(samples)
            for error in blocks:
                if isinstance(error, Exception):
                    raise UserError(f"microphone: it was taken away ({' '.join(str(error).split())})") from error
    finally:
        ended.set()
        reader.join(1)


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
