"""Decode recordings of any format, rate, channel count and length to the input of a model: a second at 16 kHz, say.

Dimension key: `C` channels, `T` samples.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.channels import Mix, mix
from speechmlp.audio.containers import Container, lacks_length, recognise, repaired
from speechmlp.audio.placing import place
from speechmlp.audio.readers import DamagedError, Samples, has_ffmpeg, read_with_ffmpeg, read_with_libsndfile
from speechmlp.audio.resampling import resample
from speechmlp.audio.waveforms import MAX_PEAK, MAX_SAMPLE_RATE, MAX_SECONDS
from speechmlp.audio_format import DEFAULT_INPUT, SAMPLE_RATE, AudioInput
from speechmlp.errors import UserError

MAX_VALUES = 1 << 27
"""Most samples, over all channels, that are decoded at once: 512 MB; a small file can contain many more."""

UNREADABLE = (OSError, ValueError, RuntimeError, MemoryError, ImportError, DamagedError)
"""What decoders raise; LibsndfileError is a RuntimeError."""


@dataclass(frozen=True)
class _Part:
    """The part of a recording to read, with its limits; called with what a header says, see `readers.Span`."""

    path: Path
    start: float | None
    end: float | None
    max_seconds: float
    max_values: int

    def __call__(self, rate: int, channels: int, frames: int | None) -> tuple[int, int]:
        if not 0 < rate <= MAX_SAMPLE_RATE:
            raise UserError(f"{self.path}: expected a sample rate of 1 to {MAX_SAMPLE_RATE} Hz, found {rate}")
        first = max(0, round((self.start or 0.0) * rate))
        last = (
            first + math.ceil(self.max_seconds * rate) + 1 if self.end is None else max(first, round(self.end * rate))
        )
        if frames is not None:
            first = min(first, frames)
            last = frames if self.end is None else min(last, frames)
            self.check(rate, channels, last - first)
        return first, min(last, first + self.max_values // channels + 1)

    def check(self, rate: int, channels: int, count: int) -> None:
        """Raises an error if there are too many samples."""
        if count > self.max_seconds * rate:
            # Of a stream of unknown length, only a sample more than the limit is decoded.
            found = f"{count / rate:g} s" if count > self.max_seconds * rate + 2 else "more"
            raise UserError(
                f"{self.path}: expected at most {self.max_seconds:g} s, found {found}; one spoken letter is enough"
            )
        if count * channels > self.max_values:
            raise UserError(
                f"{self.path}: expected at most {self.max_values} samples over all channels, found {count} in each of "
                f"{channels} channels; cut the recording, or mix it down"
            )


def load(
    path: str | Path,
    start: float | None = None,
    end: float | None = None,
    max_seconds: float = MAX_SECONDS,
    max_values: int = MAX_VALUES,
) -> tuple[Tensor, int]:
    """Returns the waveform, float32 [C, T], and sample rate of a recording, or of its part from start to end.

    The content decides, not the name. soundfile reads the formats of libsndfile (WAV, FLAC, OGG, MP3, AIFF, SPHERE,
    ...); torchcodec, which needs FFmpeg's libraries, reads M4A, WebM and others. Recordings that are cut off, or whose
    header does not say how long they are, are read to their end.

    Args:
        path: the recording.
        start: in seconds; clipped to the beginning of the recording.
        end: in seconds; clipped to the end of the recording.
        max_seconds: longest part that is accepted.
        max_values: most samples that are accepted, over all channels.

    Raises:
        UserError: the file cannot be read or decoded, the part is too long or has no samples, or samples are NaN,
            infinite or not scaled to 1.
    """
    path = Path(path)
    if problem := _not_a_file(path):  # checked before opening: opening a pipe would block
        raise UserError(f"{path}: {problem}")
    part = _Part(path, start, end, max_seconds, max_values)
    try:
        with path.open("rb", buffering=0) as file:  # libsndfile reads from the same descriptor
            samples, rate = _read(path, file, part)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not len(samples):
        raise UserError(f"{path}: contains no samples{_between(start, end)}; expected a recorded letter")
    part.check(rate, samples.shape[1], len(samples))
    waveform = torch.from_numpy(np.ascontiguousarray(samples.T))  # [C, T]
    if waveform.dtype == torch.int16:
        return waveform * 2**-15, rate
    peak = waveform.abs().amax().item()
    if not math.isfinite(peak):
        raise UserError(f"{path}: contains NaN or infinite samples; expected finite ones")
    if peak > MAX_PEAK:
        raise UserError(f"{path}: expected samples between -1 and 1, found {peak:g}; divide by the full scale")
    return waveform, rate


def _read(path: Path, file: BinaryIO, part: _Part) -> tuple[Samples, int]:
    """Returns samples [T, C] and the sample rate: by libsndfile, by libsndfile after a repair, or by FFmpeg."""
    container = recognise(file)
    found: tuple[Samples, int] | None = None
    reason: Exception | None = None
    if container is None or container.libsndfile:
        as_it_is, mended = (lambda: file), (lambda: repaired(file, container))
        for source in (mended, as_it_is) if lacks_length(file, container) else (as_it_is, mended):
            try:
                opened = source()
                found = found if opened is None else read_with_libsndfile(opened, part)
            except UNREADABLE as error:
                reason = reason or error
            if found is not None and len(found[0]):
                return found
    if found is None and container is not None and not isinstance(reason, DamagedError):
        try:
            return read_with_ffmpeg(file, part)
        except UNREADABLE as error:
            if not (container.libsndfile or has_ffmpeg()):
                raise UserError(
                    f"{path}: {container.name} needs FFmpeg: install FFmpeg's libraries and "
                    "python -m pip install 'speechmlp[ffmpeg]', or convert the file to WAV"
                ) from error
            reason = reason or error
    if found is None:
        raise UserError(f"{path}: {_reason(path, container, reason)}") from reason
    return found


def _not_a_file(path: Path) -> str | None:
    try:
        if path.is_file():
            return None
        path.stat()
    except FileNotFoundError:
        return "a link to a missing file" if path.is_symlink() else "no such recording"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return f"expected an audio file, found {'a folder' if path.is_dir() else 'a pipe or device'}"


def _reason(path: Path, container: Container | None, error: Exception | None) -> str:
    if container is not None and not container.libsndfile:
        return f"cannot be decoded as audio (FFmpeg does not read this {container.name} file); expected an intact one"
    if isinstance(error, DamagedError):
        return f"is damaged: {error}; copy or record it again"
    text = re.sub(r"^Error opening .*?: ", "", " ".join(str(error).split()))
    headerless = "; of samples without a header, predict - --raw reads the 16-bit ones" if path.suffix == ".raw" else ""
    return (
        f"cannot be decoded as audio ({text[:160]}); expected WAV, FLAC, OGG, MP3 or another format of libsndfile or "
        f"FFmpeg{headerless}"
    )


def _between(start: float | None, end: float | None) -> str:
    return "" if start is None else f" between {start:g} and {end:g} s"


def mix_at(waveform: Tensor, sample_rate: int, wanted: int) -> Mix:
    """Returns one waveform, float32 [T] at `wanted` Hz, from float32 [C, T] at `sample_rate` Hz, and how it was mixed.

    It is the mean of the channels, or one of them, see `channels.mix`. Resamples with torchaudio's band-limited
    windowed-sinc interpolation.
    """
    return resampled(mix(waveform, sample_rate), wanted)


def resampled(mixed: Mix, wanted: int) -> Mix:
    """Returns a mix at another rate in Hz."""
    if mixed.sample_rate == wanted:
        return mixed
    return replace(mixed, waveform=resample(mixed.waveform, mixed.sample_rate, wanted), sample_rate=wanted)


def mix_16k(waveform: Tensor, sample_rate: int) -> Mix:
    """Returns the mix of `mix_at` at 16 kHz."""
    return mix_at(waveform, sample_rate, SAMPLE_RATE)


def to_mono_16k(waveform: Tensor, sample_rate: int) -> Tensor:
    """Returns the waveform of `mix_16k`, float32 [T]."""
    return mix_16k(waveform, sample_rate).waveform


def at_16k(waveform: Tensor, rate: int) -> NDArray[np.float32] | None:
    """Returns a waveform [T] at 16 kHz for `Placing`; None if it has that rate."""
    return None if rate == SAMPLE_RATE else resample(waveform, rate, SAMPLE_RATE).numpy()


def fit_one_second(waveform: Tensor, audio: AudioInput = DEFAULT_INPUT) -> tuple[Tensor, int]:
    """Returns the samples of a waveform [T] that are a model's input, and how many are recorded: see `place`.

    The others are zeros.
    """
    placed = place(waveform.numpy(), audio, at_16k(waveform, audio.sample_rate))
    return torch.from_numpy(placed.samples), placed.recorded


def load_letter(
    path: str | Path,
    start: float | None = None,
    end: float | None = None,
    margin: float = 0.0,
    audio: AudioInput = DEFAULT_INPUT,
) -> tuple[Tensor, int]:
    """Returns a recording as model input, float32 of the input's length and rate, and how many samples are recorded.

    Args:
        path: the recording.
        start: start of the letter, in seconds; None for the whole recording.
        end: end of the letter, in seconds.
        margin: seconds kept before start and after end.
        audio: the input.

    Raises:
        UserError: as `load`.
    """
    between = (start, end) if start is None or end is None else (start - margin, end + margin)
    return fit_one_second(mix_at(*load(path, *between), audio.sample_rate).waveform, audio)
