"""Audio: decoding, resampling, measurements, listening conditions, the microphone."""
