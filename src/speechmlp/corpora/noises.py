"""Generated non-letters: silence, hiss, hum, clicks, knocks, beeps, chords.

A recogniser must reject them. Each source (a kind with its own level and colour) counts as a speaker, so that splits
have different sources. Two kinds are in the test split only, to measure rejection of sounds not trained on.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio_format import FULL_SCALE, NUM_SAMPLES, SAMPLE_RATE
from speechmlp.corpora.files import NEGATIVES, new_corpus
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.data.splits import split_by_speaker
from speechmlp.errors import UserError
from speechmlp.labels import NOT_A_LETTER

Samples = NDArray[np.float64]
Random = np.random.Generator

_TIME = np.arange(NUM_SAMPLES) / SAMPLE_RATE  # [T], s


def silence(random: Random) -> Samples:
    """Returns digital silence, or noise in the last bits of a converter."""
    bits: Samples = random.integers(-2, 3, NUM_SAMPLES) / FULL_SCALE * (random.random() < 0.7)
    return bits


def coloured(random: Random) -> Samples:
    """Returns steady noise whose power is a power of the frequency: white, pink, brown and between."""
    frequency = np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE)
    shape = np.maximum(frequency, 30) ** random.uniform(-1.2, 0.4)
    noise: Samples = np.fft.irfft(np.fft.rfft(random.standard_normal(NUM_SAMPLES)) * shape, NUM_SAMPLES)
    return noise


def hum(random: Random) -> Samples:
    """Returns mains hum: 50 or 60 Hz and its harmonics."""
    base = random.choice((50, 60))
    orders = np.arange(1, random.integers(3, 30))
    parts = np.sin(2 * np.pi * base * orders[:, None] * _TIME + random.uniform(0, 2 * np.pi, (len(orders), 1)))
    harmonics: Samples = (parts * random.exponential(1, (len(orders), 1)) / orders[:, None]).sum(0)
    return harmonics + 1e-3 * coloured(random)


def _bursts(random: Random, count: int, longest: float, lowest: float, highest: float) -> Samples:
    """Returns decaying bursts of noise around a frequency, Hz, each up to `longest` seconds."""
    sound = np.zeros(NUM_SAMPLES)
    for _ in range(count):
        age = _TIME - random.uniform(0, 0.95)
        decay = np.exp(-np.maximum(age, 0) * 5 / random.uniform(0.1 * longest, longest)) * (age >= 0)
        carrier = np.sin(2 * np.pi * random.uniform(lowest, highest) * _TIME)
        sound += random.uniform(0.2, 1) * decay * carrier * random.standard_normal(NUM_SAMPLES)
    return sound


def clicks(random: Random) -> Samples:
    """Returns clicks, as of keys and contacts."""
    return _bursts(random, int(random.integers(1, 8)), 0.02, 500, 6000)


def knocks(random: Random) -> Samples:
    """Returns knocks, as of a table or the microphone itself."""
    return _bursts(random, int(random.integers(1, 4)), 0.2, 40, 400)


def breath(random: Random) -> Samples:
    """Returns a breath: noise that fades in and out."""
    middle, width = random.uniform(0.3, 0.7), random.uniform(0.08, 0.3)
    return coloured(random) * np.exp(-(((_TIME - middle) / width) ** 2))


def beeps(random: Random) -> Samples:
    """Returns tones that start and stop, as of telephones and machines."""
    sound = np.zeros(NUM_SAMPLES)
    for _ in range(random.integers(1, 5)):
        age = _TIME - random.uniform(0, 0.8)
        on = (age >= 0) & (age < random.uniform(0.05, 0.5))
        for _ in range(random.integers(1, 3)):
            sound += on * np.sin(2 * np.pi * random.uniform(200, 3000) * _TIME)
    return sound


def sweep(random: Random) -> Samples:
    """Returns a tone that glides, as of a siren or a bird."""
    start, end = np.exp(random.uniform(np.log(150), np.log(5000), 2))
    return np.sin(2 * np.pi * np.cumsum(start * (end / start) ** _TIME) / SAMPLE_RATE)


def chords(random: Random) -> Samples:
    """Returns plucked chords: decaying harmonics."""
    sound = np.zeros(NUM_SAMPLES)
    for _ in range(random.integers(1, 4)):
        age = np.maximum(_TIME - random.uniform(0, 0.6), 0)
        for _ in range(3):
            pitch = 110 * 2 ** (random.integers(0, 36) / 12)
            for order in range(1, 8):
                sound += np.sin(2 * np.pi * order * pitch * age) * np.exp(-age * 3 * order) / order
    return sound


KINDS: dict[str, Callable[[Random], Samples]] = {
    "silence": silence,
    "coloured": coloured,
    "hum": hum,
    "clicks": clicks,
    "knocks": knocks,
    "breath": breath,
    "beeps": beeps,
    "sweep": sweep,
    "chords": chords,
}
TEST_ONLY = frozenset(("sweep", "knocks"))


def prepare_noises(output: str | Path, sources: int = 150, seed: int = 0) -> list[Utterance]:
    """Makes the corpus and its manifest, `non_letters.tsv`; returns its utterances.

    Args:
        output: folder of the corpus; an earlier corpus in it is replaced.
        sources: number of sources of each kind, one second of each.
        seed: seed for all samples.

    Raises:
        UserError: the folder cannot be written.
    """
    if sources < 3 or seed < 0:
        raise UserError(f"expected 3 or more sources and a seed of 0 or more, found {sources} and {seed}")
    with new_corpus(output, NEGATIVES) as folder:
        utterances = []
        for number, (kind, make) in enumerate(tqdm(KINDS.items(), "generating", unit=" kinds", disable=None)):
            (folder / kind).mkdir()
            names = [f"{kind}-{source:03}" for source in range(sources)]
            splits = split_by_speaker(names, [NOT_A_LETTER] * sources)
            for source, name in enumerate(names):
                random = np.random.default_rng((seed, number, source))
                sound = make(random)
                if kind != "silence":  # silence has its own level
                    sound = sound / np.abs(sound).max() * 10 ** (random.uniform(-50, -1) / 20)
                path = folder / kind / f"{name}.wav"
                path.write_bytes(wav_bytes(sound, SAMPLE_RATE))
                utterances.append(Utterance(path, NOT_A_LETTER, name, "test" if kind in TEST_ONLY else splits[name]))
        write_manifest(folder / NEGATIVES, utterances)
    return read_manifest(Path(output) / NEGATIVES, letters=False)
