"""A corpus of generated letters in which an audit finds nothing."""

from pathlib import Path

import numpy as np
import soundfile

from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.labels import LETTERS


def letter_like(letter: str, speaker: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a hiss and a gliding harmonic sound whose spectrum is the letter's, between stretches of faint noise."""
    index, seconds = LETTERS.index(letter), rng.uniform(0.3, 0.4)
    count = round(16_000 * seconds)
    melody = np.interp(np.arange(count), np.linspace(0, count, 8), rng.uniform(0.8, 1.2, 8))
    pitch = melody * (90 + 12 * speaker + rng.uniform(0, 8))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    formants = np.array([300 + 20 * index, 1000 + 45 * index, 2600 + 30 * index])
    voiced = sum(
        np.sin(number * phase) * np.exp(-np.abs(number * pitch.mean() - formants) / 250).sum()
        for number in range(1, 40)
    )
    hiss = rng.normal(size=count) * np.exp(-np.arange(count) / (300 + 40 * (index % 7)))
    envelope = np.interp(np.arange(count), [0, 900, count - 1500, count], [0.0, 1.0, 0.8, 0.0])
    sound = envelope * (voiced / np.abs(voiced).max() + 0.4 * hiss)
    padded = np.pad(0.3 * sound, 1600) + 2e-4 * rng.normal(size=count + 3200)
    return padded.astype(np.float32)


def write_clean_corpus(folder: Path) -> Path:
    """Writes all letters by each of 12 speakers, in three splits; returns the manifest."""
    rng = np.random.default_rng(0)
    utterances = []
    for speaker in range(12):
        split = "train" if speaker < 6 else "valid" if speaker < 9 else "test"
        for letter in LETTERS:
            path = folder / f"s{speaker:02}" / f"{letter}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, letter_like(letter, speaker, rng), 16_000, subtype="PCM_16")
            utterances.append(Utterance(path, letter, f"s{speaker:02}", split))  # type: ignore[arg-type]
    write_manifest(folder / "manifest.tsv", utterances)
    return folder / "manifest.tsv"
