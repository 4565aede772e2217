"""The form in which models take audio: 16 kHz, one second, if nothing else is configured; 16 bits."""

from dataclasses import dataclass

SAMPLE_RATE = 16_000
"""Hz."""
NUM_SAMPLES = 16_000
"""One second."""
FULL_SCALE = 32_768.0
"""A 16-bit sample divided by it lies between -1 and 1."""


@dataclass(frozen=True)
class AudioInput:
    """The input of a model: a sample rate in Hz, and a number of samples."""

    sample_rate: int = SAMPLE_RATE
    num_samples: int = NUM_SAMPLES

    @property
    def seconds(self) -> float:
        """The length."""
        return self.num_samples / self.sample_rate


DEFAULT_INPUT = AudioInput()
