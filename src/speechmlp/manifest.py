"""The manifest: one line an utterance, the same for every corpus.

Columns: `path` (relative to the manifest's folder), `letter`, `speaker`, `split` (train, valid or test), and
optionally `start` and `end` in seconds where the letter is a part of the recording, `gender` and `corpus`.
Others are ignored.
TSV, CSV and JSON lines are told apart by the file's suffix.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, NOT_A_LETTER, label_of
from speechmlp.whole_file import write_text

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("path", "letter", "speaker", "split", "start", "end")
GENDERS = {"f": "female", "m": "male"}
"""Short names of genders; other names stay as they are written."""
UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken letter.

    Attributes:
        path: the recording.
        letter: upper-case letter, or `NOT_A_LETTER`.
        speaker: who speaks; utterances of one speaker are never in two splits.
        split: train, valid or test; None where the manifest has no such column.
        start: where the letter starts in the recording, in seconds; None for the whole recording.
        end: where it ends, in seconds.
        gender: of the speaker, female or male or another word; None where it is not known.
        corpus: where it comes from, in a manifest of several corpora; None elsewhere.
    """

    path: Path
    letter: str
    speaker: str
    split: Split | None = None
    start: float | None = None
    end: float | None = None
    gender: str | None = None
    corpus: str | None = None

    @property
    def id(self) -> str:
        """Names the utterance within its corpus."""
        name = f"{self.path.parent.name}/{self.path.stem}"
        return name if self.start is None else f"{name}:{self.start:g}-{self.end:g}"


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (line number, column -> value) of a manifest of any of the three kinds."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number}: expected a JSON object")
                    yield number, row
        else:
            delimiter = "," if path.suffix.lower() == ".csv" else "\t"
            quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)  # type: ignore[call-overload]
            for missing in {"path", "letter"} - set(reader.fieldnames or ()):
                raise ValueError(
                    f"expected a header line with path and letter, found no {missing!r} in {reader.fieldnames}"
                )
            for row in reader:
                yield reader.line_num, row


def _seconds(row: Mapping[str, Any], column: str) -> float | None:
    text = row.get(column)
    if text is None or text == "":
        return None
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected {column} in seconds from the beginning, found {text!r}")
    return value


def _utterance(row: Mapping[str, Any], root: Path, letters: bool) -> Utterance:
    if not row.get("path"):
        raise ValueError("expected a path, found none")
    letter = str(row.get("letter") or "")
    if letters:
        letter = LETTERS[label_of(letter)]
    elif letter != NOT_A_LETTER:
        raise ValueError(f"expected {NOT_A_LETTER!r} as the letter of what is none, found {letter!r}")
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise ValueError(f"expected split train, valid or test, found {split!r}")
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
        raise ValueError(f"expected start < end, both or neither, found {start} and {end}")
    speaker = str(row.get("speaker") or UNKNOWN_SPEAKER)
    gender = str(row.get("gender") or "").strip().lower() or None
    path = root / str(row["path"])
    gender = GENDERS.get(gender or "", gender)
    corpus = str(row.get("corpus") or "").strip() or None
    return Utterance(path, letter, speaker, cast("Split | None", split), start, end, gender, corpus)


def shared_speakers(utterances: Iterable[Utterance]) -> list[str]:
    """Returns the speakers that are in more than one split, sorted; those who are not known do not count."""
    splits_of: dict[str, set[str]] = {}
    for utterance in utterances:
        splits_of.setdefault(utterance.speaker, set()).add(utterance.split or "")
    return sorted(name for name, splits in splits_of.items() if len(splits) > 1 and name != UNKNOWN_SPEAKER)


def read_manifest(path: str | Path, letters: bool = True, allow_shared: bool = False) -> list[Utterance]:
    """Returns the utterances of a manifest, in its order.

    Args:
        path: the file.
        letters: whether letters are expected, or recordings that hold none.
        allow_shared: whether a speaker may be in more than one split.

    Raises:
        UserError: the file is missing or empty, a line does not fit (all such lines are listed), some lines have a
            split and others not, or a speaker is in more than one split.
    """
    path = Path(path)
    problems: list[str] = []
    utterances: list[Utterance] = []
    try:
        for number, row in _rows(path):
            try:
                utterances.append(_utterance(row, path.parent, letters))
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
    except FileNotFoundError as error:
        if not letters:
            raise UserError(
                f"{path}: no such manifest of recordings without a letter; make it with scripts/prepare_an4.py or "
                "scripts/prepare_noises.py, or leave it out: corpus.negatives=[], and evaluate with --negatives alone"
            ) from error
        raise UserError(
            f"{path}: no such manifest; make one with scripts/prepare_synthetic.py, scripts/prepare_an4.py or "
            "scripts/prepare_folder.py, or name another with corpus.manifest=FILE"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a manifest: {error.strerror or error}") from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a manifest: {error}") from error
    if problems:
        raise UserError(*problems)
    if not utterances:
        raise UserError(f"{path}: the manifest lists no utterance; expected one line for each")
    if len({utterance.split is None for utterance in utterances}) > 1:
        raise UserError(f"{path}: some lines have a split and others have none; give every line one")
    if not allow_shared and (shared := shared_speakers(utterances)):
        raise UserError(
            f"{path}: a speaker must be in one split only, found {len(shared)} in several: {', '.join(shared[:5])}; "
            "accuracy on known voices says nothing about new ones (corpus.shared_speakers=true where that is meant)"
        )
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes a TSV manifest, whole or not at all, with paths relative to its folder.

    Raises:
        UserError: a path or a name holds a tab or a line break, which the format has no place for, or the file cannot
            be written.
    """
    path = Path(path)
    utterances = list(utterances)
    further = [name for name in ("gender", "corpus") if any(getattr(utterance, name) for utterance in utterances)]
    root = path.parent.resolve()
    rows, problems = [], []
    for utterance in utterances:
        try:
            relative = utterance.path.resolve().relative_to(root)
        except ValueError:  # audio elsewhere, as with a folder of one's own
            relative = utterance.path.resolve()
        times = ["" if time is None else f"{time:.3f}" for time in (utterance.start, utterance.end)]
        row = [relative.as_posix(), utterance.letter, utterance.speaker, utterance.split or "", *times]
        row += [getattr(utterance, name) or "" for name in further]
        if any(character in cell for cell in row for character in "\t\n\r"):
            problems.append(f"{relative.as_posix()!r}: expected a name without tabs and line breaks; rename it")
        rows.append(row)
    if problems:
        raise UserError(*problems)
    # Cells hold no tabs and line breaks, so this is TSV.
    write_text(path, "".join("\t".join(row) + "\n" for row in ([*COLUMNS, *further], *rows)))
