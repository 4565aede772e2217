"""Long recordings of spelled words, with transcripts: letters are cut out by forced alignment, as for AN4.

A transcript is a text file next to its recording, with the same name. Single letters are letters, in either case, also
with hyphens (`J-A-M`); other words must be in the CMU pronouncing dictionary, which comes with PocketSphinx.
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio.recordings import LeftOut, recordings_in
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.corpora.files import MANIFEST, new_corpus, require_apart
from speechmlp.corpora.folder import assign_splits, speaker_of, warning_of
from speechmlp.corpora.forced_alignment import align_all, require_pocketsphinx
from speechmlp.corpora.pronunciations import ACCENTED_CMU, PRONUNCIATIONS
from speechmlp.data.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest, write_manifest
from speechmlp.data.splits import split_counts
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS


@dataclass(frozen=True)
class Recording:
    """A recording and its words: letters in upper case, other words in lower case."""

    path: Path
    words: tuple[str, ...]
    speaker: str


@dataclass(frozen=True)
class Summary:
    """Result of the preparation."""

    utterances: list[Utterance]
    recordings: int
    without_transcript: list[str]
    left_out: LeftOut
    failures: list[str]
    warning: str | None

    def lines(self) -> list[str]:
        """Returns the counts as text."""
        speakers = {utterance.speaker for utterance in self.utterances}
        return [
            f"Long recordings: {len(self.utterances)} letters of {len(speakers)} speakers from {self.recordings} "
            f"recordings, {len(self.failures)} not aligned",
            split_counts(self.utterances),
            *(f"not aligned: {failure}" for failure in self.failures),
            *(f"warning: {name} has no transcript next to it" for name in self.without_transcript),
            *([self.warning] if self.warning else []),
        ]


def words_of(text: str, spell: bool = False) -> tuple[str, ...]:
    """Returns the words of a transcript: letters in upper case, other words in lower case, without punctuation.

    Args:
        text: the transcript.
        spell: whether all words are spelled: `jam` means J A M.
    """
    words: list[str] = []
    for token in re.findall(r"[^\W\d_](?:[\w'-]*\w)?", text):
        parts = token.split("-")
        if spell:
            words += [character.upper() for character in token if character.upper() in LETTERS]
        elif all(len(part) == 1 for part in parts):
            words += [part.upper() for part in parts]
        else:
            words += [part.lower() for part in parts if part]
    return tuple(words)


def read_tree(source: str | Path, spell: bool = False) -> tuple[list[Recording], list[str], LeftOut]:
    """Returns the recordings that have a transcript, sorted by path, the names of those without one, and all else.

    The speaker is taken from a name like `anna_nohash_0.wav`, otherwise from the folder of the recording.

    Raises:
        UserError: there is no such folder, or no recording in it has a transcript.
    """
    source = Path(source)
    expected = "expected recordings with transcripts, such as anna/1.wav and anna/1.txt"
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; {expected}")
    recordings, without, left_out = [], [], LeftOut()
    for path in recordings_in(source, left_out):
        transcript = path.with_suffix(".txt")
        if not transcript.is_file():
            without.append(str(path.relative_to(source)))
            continue
        left_out.reasons.pop(transcript, None)
        speaker = speaker_of(path)
        if speaker == UNKNOWN_SPEAKER and path.parent != source:
            speaker = path.parent.name
        text = transcript.read_text(encoding="utf-8-sig", errors="replace")
        recordings.append(Recording(path, words_of(text, spell), speaker))
    if not recordings:
        raise UserError(f"{source}: {expected}; found {len(without)} recordings, none of them with a transcript")
    return recordings, without, left_out


def read_samples(path: Path) -> NDArray[np.int16]:
    """Returns a recording of any format, int16 [T] at 16 kHz.

    Raises:
        UserError: the recording cannot be decoded.
    """
    waveform = to_mono_16k(*load(path))
    return (waveform * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).numpy().astype(np.int16)


def write_dictionary(path: Path, words: Sequence[str], accents: bool = False) -> set[str]:
    """Writes the pronunciations of the letters and of given words; returns the words without a pronunciation.

    Args:
        path: the file.
        words: words other than letters, in lower case.
        accents: whether letters also have the pronunciations of speakers of other languages.
    """
    import pocketsphinx

    lines = [
        f"{letter}{f'({number})' if number > 1 else ''} {phones}"
        for letter, name in PRONUNCIATIONS.items()
        for number, phones in enumerate((*name.cmu, *(ACCENTED_CMU.get(letter, ()) if accents else ())), start=1)
    ]
    wanted, known = {word for word in words if word not in LETTERS}, set()
    with Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).open(encoding="utf-8") as file:
        for line in file:
            word = re.sub(r"\(\d+\)$", "", line.split(maxsplit=1)[0])
            if word in wanted:
                known.add(word)
                lines.append(line.strip())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return wanted - known


def prepare_long(
    source: str | Path,
    output: str | Path,
    spell: bool = False,
    valid: float = 0.1,
    test: float = 0.1,
    workers: int | None = None,
) -> Summary:
    """Cuts recordings into letters and writes a manifest.

    Args:
        source: a folder of recordings with transcripts, at any depth.
        output: folder of the corpus; an earlier corpus in it is replaced.
        spell: whether the words of the transcripts are spelled.
        valid: fraction of speakers for the validation set.
        test: fraction of speakers for the test set.
        workers: number of processes; None for one per core.

    Raises:
        UserError: there are no recordings with transcripts, none can be aligned, PocketSphinx is missing, or the folder
            cannot be written.
    """
    require_pocketsphinx()
    require_apart(source, output)
    everything, without, left_out = read_tree(source, spell)
    with new_corpus(output) as folder, tempfile.TemporaryDirectory(prefix="speechmlp-long-") as scratch:
        dictionary = Path(scratch) / "words.dic"
        unknown = write_dictionary(dictionary, [word for recording in everything for word in recording.words])
        failures = []
        recordings = []
        for recording in everything:
            strange = sorted(unknown.intersection(recording.words))
            if strange:
                failures.append(
                    f"{recording.path}: no pronunciation of {', '.join(strange)}; --spell reads words as letters"
                )
            elif not any(word in LETTERS for word in recording.words):
                failures.append(
                    f"{recording.path}: expected single letters, found none; --spell reads words as letters"
                )
            else:
                recordings.append(recording)
        utterances = []
        aligned = align_all([(r.path, r.words) for r in recordings], read_samples, dictionary, workers)
        for recording, result in zip(recordings, aligned, strict=True):
            if isinstance(result, str):
                failures.append(result if result.startswith(str(recording.path)) else f"{recording.path}: {result}")
                continue
            name = recording.path.relative_to(source).with_suffix("")
            for number, (word, first, last) in enumerate(result.words):
                if word in LETTERS:
                    path = folder / "wav" / name.parent / f"{name.name}-{number:02}-{word}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wav_bytes(result.samples[first:last], SAMPLE_RATE))
                    utterances.append(Utterance(path, word, recording.speaker))
        if not utterances:
            raise UserError(f"{source}: no recording could be aligned; the first problem: {failures[0]}")
        split, by_speaker = assign_splits(utterances, valid, test)
        write_manifest(folder / MANIFEST, split)
    written = read_manifest(Path(output) / MANIFEST, allow_shared=True)
    return Summary(written, len(everything), without, left_out, failures, warning_of(written, by_speaker))
