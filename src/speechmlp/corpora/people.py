"""Isolated letters by people of public programs: alphabets of learning games and telephone systems."""

import csv
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.corpora.files import MANIFEST, NEGATIVES, new_corpus, require_apart
from speechmlp.corpora.judging import FIRST, LEFT_OUT, Judge, LeftOut, require_some, verdict, write_left_out
from speechmlp.corpora.long import read_samples
from speechmlp.corpora.programs import INDEX, fetch_people
from speechmlp.data.manifest import Split, Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, NOT_A_LETTER

DIGITS = "digits.tsv"
CUT = "cut.tsv"
"""The same letters, without the silence around them."""
PERMISSIVE = ("MIT", "CC-BY", "CC0")
"""Beginnings of the licences of recordings that may be trained on."""
DOUBTFUL = ("notnotdinner/typing-game",)
"""Beginnings of origins that name another source for their recordings, which states no licence."""
SPLITS: Mapping[str, Split] = {"train": "train", "valid": "valid"}
AROUND = 0.1
"""Seconds around a letter that the model may read to judge it."""


@dataclass(frozen=True)
class Summary:
    """Result of the preparation."""

    utterances: list[Utterance]
    digits: int
    left_out: list[LeftOut]

    def lines(self) -> list[str]:
        """Returns the counts as text."""
        splits = Counter(utterance.split for utterance in self.utterances)
        speakers = {utterance.speaker: utterance.split for utterance in self.utterances}
        return [
            f"People: {len(self.utterances)} letters of {len(speakers)} speakers",
            ", ".join(
                f"{split}: {splits[split]} letters of {Counter(speakers.values())[split]} speakers"
                for split in ("train", "valid")
            ),
            f"non-letters: {self.digits} digits",
            f"left out: {len(self.left_out)}, listed in {LEFT_OUT}",
        ]


def read_index(path: Path, label: str) -> list[dict[str, str]]:
    """Returns the lines of an index.

    Raises:
        UserError: the file cannot be read, or has other columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {str(key): str(value or "") for key, value in row.items()}
                for row in csv.DictReader(file, delimiter="\t")
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as an index of recordings: {error}") from error
    columns = ("path", label, "speaker", "start", "end", "use", "licence", "origin")
    if not rows or any(column not in rows[0] for column in columns):
        raise UserError(f"{path}: expected lines with the columns {', '.join(columns)}")
    return rows


def _part(row: Mapping[str, str], seconds: float) -> tuple[float, float]:
    """Returns start and end of the letter, in seconds; without times, of the whole recording.

    Raises:
        ValueError: they are not numbers, or not within the recording.
    """
    if not row["start"] and not row["end"]:
        return 0.0, seconds
    try:
        start, end = float(row["start"]), min(float(row["end"]), seconds)
    except ValueError:
        start, end = math.nan, math.nan
    if not 0 <= start < end:
        raise ValueError(f"expected 0 <= start < end within {seconds:.2f} s, found {row['start']} and {row['end']}")
    return start, end


class _Corpus:
    """The corpus while it is made: what is kept and what is left out."""

    def __init__(self, source: Path, folder: Path, judge: Judge) -> None:
        self.source, self.folder, self.judge = source, folder, judge
        self.whole: list[Utterance] = []
        self.cut: list[Utterance] = []
        self.digits: list[Utterance] = []
        self.left_out: list[LeftOut] = []

    def add(self, row: Mapping[str, str], label: str) -> None:
        """Adds a recording, or the reason why it is left out."""
        path = self.source / row["path"]
        try:
            if not path.resolve().is_relative_to(self.source.resolve()):
                raise ValueError("is outside the folder")
            reason, part = self._check(path, row, label)
        except (UserError, ValueError) as error:
            reason, part = str(error).removeprefix(f"{path}: "), (0.0, 0.0)
        if reason:
            self.left_out.append(LeftOut(row["path"], row[label], row["speaker"], *part, reason))
            return
        target = self.folder / "wav" / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        groups = {"licence": row["licence"], "origin": row["origin"]}
        split = SPLITS[row["use"]]
        if label == "letter":
            self.whole.append(Utterance(target, row[label], row["speaker"], split, groups=groups))
            if row["start"]:
                self.cut.append(Utterance(target, row[label], row["speaker"], split, *part, groups=groups))
        else:
            groups["digit"] = row[label]
            self.digits.append(Utterance(target, NOT_A_LETTER, row["speaker"], split, *part, groups=groups))

    def _check(self, path: Path, row: Mapping[str, str], label: str) -> tuple[str, tuple[float, float]]:
        """Returns why a recording is left out, or "", and the part of the letter."""
        if row["use"] not in SPLITS:
            return f"use {row['use']!r}", (0.0, 0.0)
        samples = read_samples(path)
        part = _part(row, len(samples) / SAMPLE_RATE)
        if row["use"] == "train" and not row["licence"].startswith(PERMISSIVE):
            return f"licence {row['licence']!r}", part
        if row["use"] == "train" and row["origin"].startswith(DOUBTFUL):
            return "its origin names another source, without a licence", part
        if label == "letter":
            if row[label] not in LETTERS:
                return "is not a letter", part
            # Validation voices are kept as they are: a selection by a model would flatter models.
            if row["use"] == "train":
                first, last = (round(time * SAMPLE_RATE) for time in (part[0] - AROUND, part[1] + AROUND))
                judged = verdict(row[label], self.judge([samples[max(0, first) : last]])[0])
                return (f"recognised as {judged.recognized}" if judged.rank > FIRST else ""), part
        return "", part


def prepare_people(source: str | Path | None, output: str | Path, judge: Judge) -> Summary:
    """Copies the recordings and writes manifests of whole recordings, of letters without silence, and of digits.

    Args:
        source: folder with the recordings and `index.tsv`; None to download the voices in `programs`.
        output: folder of the corpus; an earlier corpus in it is replaced.
        judge: the model that decides which training letters are kept.

    Raises:
        UserError: the source is not this corpus, an address cannot be reached, nothing is left, or the folder cannot
            be written.
    """
    if source is not None:
        require_apart(source, output)
    # Next to the corpus, so that an interrupted download can continue.
    arriving = Path(output).with_name(f"{Path(output).name}.download")
    with new_corpus(output) as folder:
        if source is None:
            fetch_people(arriving)
        place = arriving if source is None else Path(source)
        rows = read_index(place / INDEX, "letter")
        digits = read_index(place / DIGITS, "digit") if (place / DIGITS).exists() else []
        corpus = _Corpus(place, folder, judge)
        for row in rows:
            corpus.add(row, "letter")
        for row in digits:
            corpus.add(row, "digit")
        require_some(len(corpus.whole), place, corpus.left_out)
        write_manifest(folder / MANIFEST, corpus.whole)
        if corpus.cut:
            write_manifest(folder / CUT, corpus.cut)
        if corpus.digits:
            write_manifest(folder / NEGATIVES, corpus.digits)
        write_left_out(folder / LEFT_OUT, corpus.left_out)
    if source is None:
        shutil.rmtree(arriving)
    return Summary(read_manifest(Path(output) / MANIFEST), len(corpus.digits), corpus.left_out)
