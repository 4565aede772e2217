"""The one form in which models take audio: 16 kHz, one second, 16 bits."""

SAMPLE_RATE = 16_000
"""Hz."""
NUM_SAMPLES = 16_000
"""Samples of every waveform: one second."""
FULL_SCALE = 32_768.0
"""A 16-bit sample divided by it lies between -1 and 1."""
