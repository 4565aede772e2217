"""CMU AN4: 84 people spelling names and addresses (CMU, about 1991); letters are cut out by forced alignment.

PocketSphinx (extra `align`) aligns the transcript of each utterance with its US English model and the pronunciations
of AN4's own dictionary. The words that are single letters are the corpus, and those that are digits if wanted; other
words and pauses are non-letters.
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.corpora.files import MANIFEST, NEGATIVES, download_archive, new_corpus, require_apart, unpack
from speechmlp.corpora.forced_alignment import PAUSE, align_all, require_pocketsphinx
from speechmlp.corpora.spellings import DIGITS
from speechmlp.data.manifest import GENDERS, Split, Utterance, read_manifest, write_manifest
from speechmlp.data.splits import split_counts
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, NOT_A_LETTER, SETS

URLS = (
    "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
    "https://github.com/cmusphinx/an4/archive/HEAD.zip",
)
"""Addresses of the corpus, the first that answers is taken: CMU's SPHERE files, and GitHub's zip of WAV files."""
EXPECTED = {"utterances": 1078, "speakers": 84, "letters": 3442}
"""Counts of the published corpus; neither address has a checksum."""

HOMOPHONES = frozenset(("OH",))
"""Words that sound like a letter: neither letters nor non-letters."""
LABEL_OF = {**{letter: letter for letter in LETTERS}, **{word.upper(): str(n) for n, word in enumerate(DIGITS)}}
"""Word -> letter or digit."""
SHORTEST_PAUSE = 0.1
"""Seconds."""

VALID_SPEAKERS = frozenset(("fbbh", "fjam", "fkdo", "mcel", "mcrt", "mgah", "mjdr", "mmaf", "mnjl", "mtje"))
"""Ten training speakers, chosen once by the SHA-256 of the id: 3 female and 7 male, as in the whole corpus."""


@dataclass(frozen=True)
class Recording:
    """An AN4 utterance: file, name, words, speaker, and whether it is in the published test set."""

    path: Path
    name: str
    words: tuple[str, ...]
    speaker: str
    test: bool

    @property
    def gender(self) -> str:
        """The gender of the speaker: names begin with f or m."""
        return GENDERS[self.speaker[0]]

    @property
    def split(self) -> Split:
        """The split: test for the published test speakers, valid for some of the training speakers."""
        return "test" if self.test else "valid" if self.speaker in VALID_SPEAKERS else "train"


@dataclass(frozen=True)
class Summary:
    """Result of the preparation."""

    utterances: list[Utterance]
    negatives: int
    recordings: int
    failures: list[str]
    digits: int

    def lines(self) -> list[str]:
        """Returns the counts as text, with a warning if they differ from the published corpus."""
        speakers = {utterance.speaker for utterance in self.utterances}
        letters = len(self.utterances) - self.digits
        found = {"utterances": self.recordings, "speakers": len(speakers), "letters": letters}
        digits = f" and {self.digits} digits" if self.digits else ""
        lines = [
            f"AN4: {letters} letters{digits} of {len(speakers)} speakers from {self.recordings} utterances, "
            f"{len(self.failures)} not aligned",
            split_counts(self.utterances),
            f"non-letters: {self.negatives} other words and pauses",
            *(f"not aligned: {failure}" for failure in self.failures),
        ]
        if found != EXPECTED:
            lines.append("warning: the whole corpus has " + ", ".join(f"{n} {what}" for what, n in EXPECTED.items()))
        return lines


def read_tree(source: str | Path) -> tuple[list[Recording], Path]:
    """Returns the utterances that have both a transcript and a recording, and the pronunciation dictionary.

    Args:
        source: the AN4 folder, or its parent; recordings as `.wav`, `.sph` or `.raw`.

    Raises:
        UserError: the folder is not AN4.
    """
    source = Path(source)
    found = sorted(source.glob("etc/an4_train.transcription")) or sorted(source.glob("*/etc/an4_train.transcription"))
    if not found:
        raise UserError(f"{source}: expected the AN4 corpus, with etc/an4_train.transcription and wav/")
    root = found[0].parent.parent
    files = {
        path.stem.lower(): path for path in root.glob("wav/**/*") if path.suffix.lower() in (".wav", ".sph", ".raw")
    }
    recordings = []
    for part in ("train", "test"):
        transcripts = root / "etc" / f"an4_{part}.transcription"
        for line in (
            transcripts.read_text(encoding="ascii", errors="replace").splitlines() if transcripts.exists() else ()
        ):
            match = re.fullmatch(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)\s*", line)
            if match and (path := files.get(match[2].lower())) and match[2].count("-") == 2:
                speaker = match[2].split("-")[1]
                recordings.append(Recording(path, match[2], tuple(match[1].upper().split()), speaker, part == "test"))
    dictionary = root / "etc" / "an4.dic"
    if not recordings or not dictionary.exists():
        raise UserError(f"{root}: expected recordings in wav/ and etc/an4.dic, found {len(recordings)} recordings")
    return recordings, dictionary


def read_samples(path: Path) -> NDArray[np.int16]:
    """Returns a recording, int16 [T] at 16 kHz.

    The raw releases come in both byte orders, which only the archive's name states. In the wrong order speech turns
    into noise, so the order with the smaller differences between samples is chosen.

    Raises:
        UserError: the file cannot be decoded, or is not 16 kHz mono.
    """
    if path.suffix.lower() == ".raw":
        data = path.read_bytes()
        orders = [np.frombuffer(data[: len(data) // 2 * 2], kind) for kind in ("<i2", ">i2")]
        return min(orders, key=lambda samples: float(np.abs(np.diff(samples.astype(np.float64))).sum())).astype(
            np.int16
        )
    try:
        samples, rate = soundfile.read(path, dtype="int16")
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded: {error}") from error
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise UserError(f"{path}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz and shape {samples.shape}")
    return samples  # type: ignore[no-any-return]


def _cut(
    folder: Path, recordings: Sequence[Recording], dictionary: Path, digits: bool, workers: int | None
) -> tuple[int, list[str]]:
    """Writes letters and non-letters, each with a manifest; returns the number of non-letters, and the failures."""
    utterances: list[Utterance] = []
    negatives: list[Utterance] = []
    failures: list[str] = []
    texts = [(recording.path, recording.words) for recording in recordings]
    aligned = align_all(texts, read_samples, dictionary, workers)
    labels = {word: label for word, label in LABEL_OF.items() if digits or word in LETTERS}
    for recording, result in zip(recordings, aligned, strict=True):
        if isinstance(result, str):
            failures.append(f"{recording.name}: {result}")
            continue
        words = 0
        for word, first, last in result.segments:
            number = words  # a pause has the number of the word after it
            words += word != PAUSE
            if word in HOMOPHONES or (word == PAUSE and last - first < SHORTEST_PAUSE * SAMPLE_RATE):
                continue
            name = f"{recording.name}-{number:02}-{word.strip('<>')}.wav"
            kind = "wav" if word in labels else "pauses" if word == PAUSE else "words"
            path = folder / kind / recording.speaker / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wav_bytes(result.samples[first:last], SAMPLE_RATE))
            letter, found = (labels[word], utterances) if word in labels else (NOT_A_LETTER, negatives)
            found.append(Utterance(path, letter, recording.speaker, recording.split, gender=recording.gender))
    if not utterances:
        raise UserError(f"no utterance could be aligned; the first problem: {failures[0]}")
    write_manifest(folder / MANIFEST, utterances)
    if negatives:
        write_manifest(folder / NEGATIVES, negatives)
    return len(negatives), failures


def prepare_an4(
    source: str | Path | None,
    url: str | Sequence[str],
    output: str | Path,
    workers: int | None = None,
    *,
    digits: bool = False,
) -> Summary:
    """Cuts AN4 into letters and writes manifests of letters and non-letters.

    Args:
        source: the AN4 folder, or a tar or zip archive of it; None to download it.
        url: addresses of the archive, see `download_archive`; the next one is tried if one fails.
        output: folder of the corpus; an earlier corpus in it is replaced.
        workers: number of processes; None for one per core.
        digits: whether the words zero to nine are labels too, and not non-letters.

    Raises:
        UserError: the source is not AN4, PocketSphinx is missing, or the folder cannot be written.
    """
    require_pocketsphinx()  # before the download
    if source is not None:
        require_apart(source, output)
    with new_corpus(output) as folder, tempfile.TemporaryDirectory(prefix="speechmlp-an4-") as scratch:
        tree = Path(scratch) / "tree"
        if source is None:
            # Next to the corpus, so that an interrupted download can continue.
            arriving = Path(output).with_name(f"{Path(output).name}.download")
            download_archive([url] if isinstance(url, str) else url, arriving, tree)
            source = tree
        if not Path(source).exists():
            raise UserError(f"{source}: no such file or folder; expected the AN4 tree or archive")
        if not Path(source).is_dir():
            unpack(source, tree)
            source = tree
        recordings, dictionary = read_tree(source)
        negatives, failures = _cut(folder, recordings, dictionary, digits, workers)
    written = read_manifest(Path(output) / MANIFEST, labels=SETS["alphanumeric"])
    count = sum(utterance.letter not in LETTERS for utterance in written)
    return Summary(written, negatives, len(recordings), failures, count)
