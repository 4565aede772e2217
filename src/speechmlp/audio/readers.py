"""Read samples from open files with libsndfile or FFmpeg, sequentially if seeking would not be exact.

Dimension key: `C` channels, `T` samples.
"""

import os
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechmlp.audio.pages import last_flac_frame, last_page
from speechmlp.environment import silent_c_libraries

Samples = NDArray[np.float32] | NDArray[np.int16]
Span = Callable[[int, int, int | None], tuple[int, int]]
"""(rate in Hz, channels, samples of each channel or None if unknown) -> the first sample and the one after the last."""

BLOCK = 1 << 14
"""Samples of each channel that are read at a time where seeking is not exact."""
EXACT = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
"""Encodings without a state: every sample can be sought."""
UNKNOWN_LENGTH = 1 << 40
"""libsndfile reports 2^63 - 1 samples if the header of a FLAC stream does not say how many there are."""


class DamagedError(Exception):
    """Samples in the middle of a recording cannot be decoded."""


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read without seeking; soundfile would seek before and after each read."""

    def seekable(self) -> bool:
        return False


class _Nameless:
    """A file without a name: soundfile takes one whose name ends in `.raw` for samples without a header."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def read_with_libsndfile(source: BinaryIO, span: Span) -> tuple[Samples, int]:
    """Returns samples [T, C] and the sample rate of a file: int16 for PCM of 16 bits, otherwise float32.

    A recording that is cut off is read up to there.

    Raises:
        soundfile.LibsndfileError: libsndfile does not read the file.
        DamagedError: samples are missing in the middle.
    """
    try:
        return _read(source, span, in_blocks=False)
    except soundfile.LibsndfileError:
        return _read(source, span, in_blocks=True)


def _read(source: BinaryIO, span: Span, in_blocks: bool) -> tuple[Samples, int]:
    page = last_page(source)
    source.seek(0)
    by_number = not isinstance(source, BytesIO) and os.name != "nt"
    opened = source.fileno() if by_number else _Nameless(source)
    with silent_c_libraries(), _Sequential(opened, closefd=False) as file:
        rate, known = file.samplerate, file.frames < UNKNOWN_LENGTH and not file.subtype.startswith("MPEG")
        first, last = span(rate, file.channels, file.frames if known else None)
        if known and file.subtype in EXACT and not in_blocks:
            file.seek(first)
            # libsndfile would convert 16 bits to the same floats, but slower.
            kind = "int16" if file.subtype == "PCM_16" else "float32"
            return file.read(last - first, dtype=kind, always_2d=True), rate
        position = 0
        if file.subtype == "VORBIS" and (position := min(first, page)):
            # libsndfile 1.2 is off by some milliseconds if it seeks within the last page.
            file.seek(position)
        samples, position = _read_on(file, position, first, last)
        damaged = position < last and file.format == "FLAC"
    if damaged and last_flac_frame(source) > position:
        raise DamagedError(f"samples are missing after {position / rate:.3g} s")
    return samples, rate


def _read_on(file: soundfile.SoundFile, position: int, first: int, last: int) -> tuple[NDArray[np.float32], int]:
    """Returns float32 [T, C] from `first` on, and the position reached; `position` is the next sample of the file."""
    blocks, whole = [np.empty((0, file.channels), np.float32)], True
    while whole and position < last:
        block, whole = _next(file, min(BLOCK, last - position))
        if not len(block):
            break
        blocks.append(block[max(0, first - position) :])
        position += len(block)
    return np.concatenate(blocks), position


def _next(file: soundfile.SoundFile, count: int) -> tuple[NDArray[np.float32], bool]:
    """Returns the next samples, and whether they were decoded without an error."""
    block = np.full((count, file.channels), np.nan, np.float32)
    try:
        return file.read(out=block), True
    except soundfile.LibsndfileError:
        return block[: int(np.isfinite(block[:, 0]).cumprod().sum())], False


def has_ffmpeg() -> bool:
    """Returns whether torchcodec and FFmpeg's libraries are installed."""
    try:
        import torchcodec  # noqa: F401
    except Exception:  # ImportError, OSError or RuntimeError, depending on what is missing
        return False
    return True


def read_with_ffmpeg(source: BinaryIO, span: Span) -> tuple[Samples, int]:
    """Returns float32 samples [T, C] and the sample rate of a file, decoded from its beginning.

    Raises:
        ImportError, OSError, RuntimeError, ValueError: FFmpeg is not installed, or it does not read the file.
    """
    from torchcodec.decoders import AudioDecoder

    source.seek(0)
    decoder = AudioDecoder(source)
    metadata = decoder.metadata
    rate, channels = metadata.sample_rate, metadata.num_channels
    if not rate or not channels:
        raise RuntimeError("no sound")
    first, last = span(rate, channels, None)  # durations in headers are rounded, or missing
    begin = max(0.0, metadata.begin_stream_seconds_from_header or 0.0)
    samples = decoder.get_samples_played_in_range(0, begin + last / rate + 1).data
    return samples[:, first:last].T.numpy(), rate
