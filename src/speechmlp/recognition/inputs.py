"""What a recognizer takes: waveforms of any kind, and recordings as paths, bytes or files.

Dimension key: `C` channels, `T` samples.
"""

import io
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.channels import Mix
from speechmlp.audio.decoding import load, mix_at
from speechmlp.audio.waveforms import as_channels, whole_rate
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError

Waveform = Tensor | NDArray[Any] | list[Any] | tuple[Any, ...]
Recording = Waveform | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A waveform, which has a sample rate next to it; or the path, the bytes or the open file of a recording."""


def as_mono(recording: Recording, sample_rate: float | None = None, wanted: int = SAMPLE_RATE) -> Mix:
    """Returns a recording as one waveform, float32 [T] at `wanted` Hz, and how its channels were mixed.

    Args:
        recording: the path, the bytes or the open file of a recording; or a waveform [T] or [C, T]: an array, a tensor
            or a list, of floats between -1 and 1, or of integers in the full range of their type. Unsigned ones are
            around the middle of their range. In lists and in types of 64 bits, integers are 16-bit samples.
        sample_rate: of a waveform, in Hz, a whole number; None for a path, bytes or a file, which have their own.
        wanted: rate of the result, in Hz.

    Raises:
        UserError: the recording cannot be decoded, the waveform is empty, has another shape, is not finite or not
            scaled, or the rate is invalid.
    """
    if isinstance(recording, str | os.PathLike | bytes | bytearray) or hasattr(recording, "read") or _is_raw(recording):
        if sample_rate is not None:
            raise UserError(
                f"sample_rate: expected none with a path, bytes or a file, found {sample_rate!r}; a recording has "
                "its own, and np.frombuffer makes an array of raw samples"
            )
        return _decoded(recording, wanted)
    rate = whole_rate(sample_rate.item() if isinstance(sample_rate, Tensor) and not sample_rate.dim() else sample_rate)
    return mix_at(torch.from_numpy(as_channels(plain(recording), rate)), rate, wanted)


def _is_raw(recording: Any) -> bool:
    return isinstance(recording, memoryview) and recording.format in ("B", "b", "c")


def _decoded(recording: Any, wanted: int) -> Mix:
    """Returns the recording in a file, or in bytes, as one waveform at `wanted` Hz."""
    if isinstance(recording, str | os.PathLike):
        return mix_at(*load(Path(os.fsdecode(recording))), wanted)
    if hasattr(recording, "read"):
        text = isinstance(recording, io.TextIOBase)
        try:
            recording = b"" if text else recording.read()
        except (OSError, ValueError) as error:  # a closed file is a ValueError
            raise UserError(f"recording: the file cannot be read: {error}") from error
        if text or not isinstance(recording, bytes | bytearray | memoryview):
            raise UserError("recording: expected a file that is open in binary mode, as by open(path, 'rb')")
    # A file of its own, because FFmpeg, which some formats need, reads files.
    with tempfile.TemporaryDirectory(prefix="speechmlp-") as folder:
        path = Path(folder) / "recording"
        path.write_bytes(recording)
        try:
            return mix_at(*load(path), wanted)
        except UserError as error:
            raise UserError(*(problem.replace(f"{folder}{os.sep}", "") for problem in error.problems)) from error


def plain(values: Any) -> Any:
    """Returns a tensor, or each of a list of tensors, as an array, and anything else as it is."""
    if isinstance(values, list | tuple) and values and all(isinstance(row, Tensor) for row in values):
        return [_array(row) for row in values]
    return _array(values) if isinstance(values, Tensor) else values


def _array(tensor: Tensor) -> NDArray[Any]:
    """Returns a tensor of any device as an array.

    Raises:
        UserError: it is sparse, quantised, without data, or not of real numbers.
    """
    real = not tensor.is_complex() and tensor.dtype != torch.bool
    if not real or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UserError(f"waveform: expected real samples in a dense tensor, found {tensor.dtype}, {tensor.layout}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype is not torch.float64:
        tensor = tensor.to(torch.float32)  # numpy has no bfloat16
    return tensor.resolve_neg().numpy().copy()
