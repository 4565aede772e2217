"""Recordings: decoding, resampling, measures, listening conditions, the microphone."""
