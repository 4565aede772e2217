"""Encode recordings as WAV files."""

import io
from typing import Any

import soundfile
from numpy.typing import NDArray


def wav_bytes(samples: NDArray[Any], sample_rate: int) -> bytes:
    """Returns a mono WAV file of 16-bit samples.

    Files are written from these bytes, because soundfile does not say why it cannot write a file.

    Args:
        samples: [T], floats between -1 and 1, or int16.
        sample_rate: Hz.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
