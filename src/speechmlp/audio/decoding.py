"""Decode recordings of any format, rate, channel count and length to 16000 samples at 16 kHz.

Dimension key: `C` channels, `T` samples.
"""

import math
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechmlp.audio.resampling import resample
from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError

MAX_SAMPLE_RATE = 768_000
"""Hz; a header with a higher rate is broken."""
MAX_SECONDS = 3600.0
"""Longest part of a recording that is decoded for one letter."""
MAX_VALUES = 1 << 27
"""Most samples, over all channels, that are decoded at once: 512 MB; a small file can contain many more."""
MAX_PEAK = 16.0
"""Largest float sample: decoders exceed 1 a little; more means that integers were not scaled."""

FFMPEG_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".amr", ".wma", ".webm", ".3gp"})
"""Formats that FFmpeg reads and libsndfile does not."""


def load(path: str | Path, start: float | None = None, end: float | None = None) -> tuple[Tensor, int]:
    """Returns the waveform, float32 [C, T], and sample rate of a recording, or of its part from start to end.

    soundfile reads the formats of libsndfile (WAV, FLAC, OGG, MP3, AIFF, SPHERE, ...), detected by content;
    `torchaudio.load`, which needs torchcodec and FFmpeg's libraries, reads `.m4a` and similar files.

    Args:
        path: the recording.
        start: in seconds; clipped to the beginning of the recording.
        end: in seconds; clipped to the end of the recording.

    Raises:
        UserError: the file cannot be read or decoded, the part is too long or has no samples, or samples are NaN,
            infinite or not scaled to 1.
    """
    path = Path(path)
    if problem := _not_a_file(path):  # checked before opening: opening a pipe would block
        raise UserError(f"{path}: {problem}")
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            _require_rate(path, rate)
            first, count = _span(path, start, end, rate, file.frames)
            skipped = first if file.format == "MP3" else 0  # libsndfile's seek in MP3 is not sample-accurate
            _require_size(path, skipped + count, file.channels)
            file.seek(first - skipped)
            # In one read, because soundfile seeks after each read too.
            integers = file.subtype == "PCM_16"  # libsndfile would convert to the same floats, but slower
            samples = file.read(skipped + count, dtype="int16" if integers else "float32", always_2d=True)[skipped:]
        waveform = torch.from_numpy(np.ascontiguousarray(samples.T))  # [C, T]
    except (OSError, ValueError, RuntimeError, MemoryError) as error:  # LibsndfileError is a RuntimeError
        if path.suffix.lower() in FFMPEG_SUFFIXES:
            waveform, rate = _load_with_ffmpeg(path, start, end)
        else:
            raise UserError(f"{path}: {_reason(path, error)}") from error
    if waveform.shape[-1] == 0:
        raise UserError(f"{path}: contains no samples{_between(start, end)}; expected a recorded letter")
    if waveform.dtype == torch.int16:
        return waveform * 2**-15, rate
    peak = waveform.abs().amax().item()
    if not math.isfinite(peak):
        raise UserError(f"{path}: contains NaN or infinite samples; expected finite ones")
    if peak > MAX_PEAK:
        raise UserError(f"{path}: expected samples between -1 and 1, found {peak:g}; divide by the full scale")
    return waveform, rate


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


def _reason(path: Path, error: Exception) -> str:
    try:
        path.open("rb").close()
    except OSError as system:
        return f"cannot be read: {system.strerror or system}"
    text = " ".join(str(error).split())
    return f"cannot be decoded as audio ({text[:160]}); expected WAV, FLAC, OGG, MP3 or another format of libsndfile"


def _between(start: float | None, end: float | None) -> str:
    return "" if start is None else f" between {start:g} and {end:g} s"


def _require_rate(path: Path, rate: int) -> None:
    if not 0 < rate <= MAX_SAMPLE_RATE:
        raise UserError(f"{path}: expected a sample rate of 1 to {MAX_SAMPLE_RATE} Hz, found {rate}")


def _require_size(path: Path, frames: int, channels: int) -> None:
    if frames * channels > MAX_VALUES:
        raise UserError(
            f"{path}: expected at most {MAX_VALUES} samples over all channels, found {frames} in each of {channels} "
            "channels; cut the recording, or mix it down"
        )


def _span(path: Path, start: float | None, end: float | None, rate: int, frames: int) -> tuple[int, int]:
    first = min(frames, max(0, round((start or 0.0) * rate)))
    last = frames if end is None else min(frames, max(first, round(end * rate)))
    if last - first > MAX_SECONDS * rate:
        raise UserError(f"{path}: expected at most {MAX_SECONDS:g} s for one letter, found {(last - first) / rate:g} s")
    return first, last - first


def _load_with_ffmpeg(path: Path, start: float | None, end: float | None) -> tuple[Tensor, int]:
    torchaudio = import_torchaudio()
    try:
        waveform, rate = torchaudio.load(path)
    except Exception as error:  # torchcodec raises ImportError, OSError or RuntimeError, depending on what is missing
        try:
            import torchcodec  # noqa: F401
        except Exception:
            raise UserError(
                f"{path}: {path.suffix} files need FFmpeg: install FFmpeg's libraries and "
                "python -m pip install 'speechmlp[ffmpeg]', or convert the file to WAV"
            ) from error
        raise UserError(f"{path}: {_reason(path, error)}") from error
    _require_rate(path, rate)
    first, count = _span(path, start, end, rate, waveform.shape[-1])
    return waveform[:, first : first + count], rate


def to_mono_16k(waveform: Tensor, sample_rate: int) -> Tensor:
    """Returns the mean of the channels at 16 kHz: float32 [C, T] at `sample_rate` Hz -> float32 [T].

    Resamples with torchaudio's band-limited windowed-sinc interpolation.
    """
    mono = waveform[0] if len(waveform) == 1 else waveform.mean(dim=0)
    return resample(mono, sample_rate, SAMPLE_RATE)


def second_start(waveform: Tensor) -> int:
    """Returns the start, in samples, of the second of a waveform [T] that is the input of a model.

    In a longer waveform it is the second with the most energy, the first if there are several. A shorter waveform is
    centred between zeros, so the start is negative: (length - 16000) // 2, rounded towards zero.
    """
    length = waveform.shape[-1]
    if length <= NUM_SAMPLES:
        return -((NUM_SAMPLES - length) // 2)
    energy = waveform.double().square().cumsum(0)
    before = torch.nn.functional.pad(energy, (1, 0))[: length - NUM_SAMPLES + 1]
    return int((energy[NUM_SAMPLES - 1 :] - before).argmax())


def fit_one_second(waveform: Tensor) -> tuple[Tensor, int]:
    """Returns exactly 16000 samples from `second_start` on, and how many are recorded: [T] -> ([16000], length).

    The others are zeros.
    """
    length, first = waveform.shape[-1], second_start(waveform)
    if length <= NUM_SAMPLES:
        return torch.nn.functional.pad(waveform, (-first, NUM_SAMPLES - length + first)), length
    return waveform[first : first + NUM_SAMPLES], NUM_SAMPLES


def load_letter(
    path: str | Path, start: float | None = None, end: float | None = None, margin: float = 0.0
) -> tuple[Tensor, int]:
    """Returns a recording as model input: float32 [16000] at 16 kHz, and how many samples are recorded.

    Args:
        path: the recording.
        start: start of the letter, in seconds; None for the whole recording.
        end: end of the letter, in seconds.
        margin: seconds kept before start and after end.

    Raises:
        UserError: as `load`.
    """
    between = (start, end) if start is None or end is None else (start - margin, end + margin)
    return fit_one_second(to_mono_16k(*load(path, *between)))
