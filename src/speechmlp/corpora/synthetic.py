"""The default corpus: letters spoken by eSpeak NG, from the wheel `espeakng-loader` (extra `synthetic`).

A speaker is an accent and a voice variant with its own pitch and rate. A variant is in one split only, so validation
and test voices differ in timbre too. Accuracy on synthetic voices says little about people.

eSpeak NG keeps state between calls, so its output depends on earlier output. Speakers are therefore spoken in blocks
of fixed size, each by a new process: the same seed gives the same samples for any number of processes.
"""

import ctypes
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from speechmlp.audio.encoding import wav_bytes
from speechmlp.corpora.files import MANIFEST, new_corpus
from speechmlp.data.manifest import Split, Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
NOT_HUMAN = ("robo", "Robot", "Demonic", "Tweaky", "croak", "whisper", "fast")
"""Parts of the names of variants that do not sound human."""
BLOCK = 8
"""Speakers per process: enough to amortise its start, few enough to balance the load."""

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_SYNCHRONOUS, _UTF8, _RATE, _PITCH, _RANGE = 2, 1, 1, 3, 4  # names of speak_lib.h, without their prefixes


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker: pitch and pitch range from 0 to 100, rate in words per minute, seed of its takes."""

    accent: str
    variant: str
    pitch: int
    pitch_range: int
    rate: int
    seed: int

    @property
    def speaker(self) -> str:
        """The name of the speaker."""
        return f"{self.accent}+{self.variant}".replace(" ", "_")


class ESpeak:
    """eSpeak NG in this process.

    The constructor loads the library.

    Raises:
        UserError: the extra `synthetic` is not installed, or the library does not start.
    """

    def __init__(self) -> None:
        library, data = _library()
        self._library = ctypes.CDLL(library)
        self._chunks: list[bytes] = []
        # Kept in an attribute, because the library calls it later.
        self._callback = _CALLBACK(self._receive)
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 2000, str(data).encode(), 0))
        if self.sample_rate <= 0:
            raise UserError(
                "eSpeak NG does not start; reinstall it: python -m pip install --force-reinstall espeakng-loader"
            )
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # the default is the time of day

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def choose(self, voice: Voice) -> None:
        """Selects the voice for the following calls."""
        if self._library.espeak_SetVoiceByName(f"{voice.accent}+{voice.variant}".encode()) != 0:
            raise UserError(f"eSpeak NG has no voice {voice.accent}+{voice.variant}; update espeakng-loader")
        self._library.espeak_SetParameter(_RANGE, voice.pitch_range, 0)

    def say(self, text: str, pitch: int, rate: int) -> np.ndarray:
        """Returns the samples, int16 [T], of a text at a pitch (0 to 100) and rate (words per minute)."""
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._chunks.clear()
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        if status != 0 or not self._chunks:
            raise UserError(f"eSpeak NG cannot speak {text!r} (status {status})")
        return np.frombuffer(b"".join(self._chunks), np.int16)


def _library() -> tuple[str, Path]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("the synthetic corpus needs eSpeak NG: python -m pip install 'speechmlp[synthetic]'") from error
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def draw_voices(num_speakers: int, seed: int) -> list[tuple[Voice, Split]]:
    """Returns synthetic speakers and their splits: a tenth of the variants for validation, a tenth for testing.

    Raises:
        UserError: `num_speakers` is too small for three splits, or exceeds the number of pairs of accent and variant.
    """
    folder = _library()[1] / "voices" / "!v"
    variants = sorted(path.name for path in folder.iterdir() if not any(part in path.name for part in NOT_HUMAN))
    if not 10 <= num_speakers <= len(ACCENTS) * len(variants):
        raise UserError(f"expected 10 to {len(ACCENTS) * len(variants)} speakers, found {num_speakers}")
    random = np.random.default_rng(seed)
    variants = [variants[index] for index in random.permutation(len(variants))][:num_speakers]
    held_out = max(1, len(variants) // 10)
    voices: list[tuple[Voice, Split]] = []
    accents = [random.permutation(len(ACCENTS)) for _ in variants]
    for number in range(num_speakers):
        index = number % len(variants)
        split = "test" if index < held_out else "valid" if index < 2 * held_out else "train"
        voice = Voice(
            accent=ACCENTS[accents[index][number // len(variants)]],
            variant=variants[index],
            pitch=int(random.integers(30, 71)),
            pitch_range=int(random.integers(30, 71)),
            rate=int(random.integers(120, 211)),
            seed=int(random.integers(2**31)),
        )
        voices.append((voice, cast("Split", split)))
    return voices


def _path(folder: Path, voice: Voice, labels: tuple[str, ...], label: str, take: int) -> Path:
    # The text of a label may not be a name that a file can have.
    name = label if label in LETTERS else f"{labels.index(label)}-"
    return folder / "wav" / voice.speaker / f"{name}{take}.wav"


def _speak_block(folder: Path, voices: Sequence[Voice], labels: tuple[str, ...], takes: int) -> None:
    espeak = ESpeak()
    for voice in voices:
        espeak.choose(voice)
        random = np.random.default_rng(voice.seed)
        _path(folder, voice, labels, labels[0], 0).parent.mkdir(parents=True)
        for letter in labels:
            for take in range(takes):
                pitch = int(np.clip(voice.pitch + random.integers(-8, 9), 0, 99))
                rate = int(np.clip(voice.rate * random.uniform(0.85, 1.15), 80, 300))
                samples = espeak.say(letter, pitch, rate)
                # Kept at eSpeak's own rate; decoding resamples, as for all recordings.
                _path(folder, voice, labels, letter, take).write_bytes(wav_bytes(samples, espeak.sample_rate))


def _run_block(folder: Path, voices: Sequence[Voice], labels: tuple[str, ...], takes: int) -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            process.submit(_speak_block, folder, voices, labels, takes).result()
        except BrokenProcessPool as error:
            raise UserError(f"eSpeak NG ended its process while speaking {voices[0].speaker} and others") from error
    return len(voices) * len(labels) * takes


def prepare_synthetic(
    output: str | Path,
    num_speakers: int = 120,
    takes: int = 2,
    seed: int = 0,
    workers: int | None = None,
    labels: tuple[str, ...] = LETTERS,
) -> list[Utterance]:
    """Makes the synthetic corpus and its manifest; returns the utterances.

    Args:
        output: folder of the corpus; an earlier corpus in it is replaced.
        num_speakers: number of pairs of accent and variant.
        takes: recordings of each letter by each speaker.
        seed: seed for voices, splits, pitch and rate.
        workers: number of processes; None for one per core.
        labels: texts to be spoken.

    Raises:
        UserError: eSpeak NG is missing or fails, or the folder cannot be written.
    """
    if takes < 1 or seed < 0 or (workers is not None and workers < 1):
        raise UserError("expected 1 or more takes and workers, and a seed of 0 or more")
    voices = draw_voices(num_speakers, seed)
    with new_corpus(output) as folder:
        blocks = [[voice for voice, _ in voices[first : first + BLOCK]] for first in range(0, len(voices), BLOCK)]
        total = num_speakers * len(labels) * takes
        with (
            ThreadPoolExecutor(workers or os.cpu_count()) as pool,
            tqdm(total=total, desc="speaking", unit=" letters", disable=None) as bar,
        ):
            for count in pool.map(lambda block: _run_block(folder, block, labels, takes), blocks):
                bar.update(count)
        utterances = [
            Utterance(_path(folder, voice, labels, letter, take), letter, voice.speaker, split)
            for voice, split in voices
            for letter in labels
            for take in range(takes)
        ]
        write_manifest(folder / MANIFEST, utterances)
    return read_manifest(Path(output) / MANIFEST, labels=labels)
