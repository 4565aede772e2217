"""Read and write manifests: one line per utterance, in the same format for every corpus.

Columns: `path` (relative to the manifest's folder), `letter`, `speaker`, `split` (train, valid or test), and
optionally `gender`, and `start` and `end` in seconds if the letter is a part of the recording. Others are ignored. The
suffix of the file decides between TSV, CSV and JSON lines.
"""

import csv
import json
import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from speechmlp.errors import UserError
from speechmlp.files import write_text
from speechmlp.labels import LETTERS, NOT_A_LETTER, label_of

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("path", "letter", "speaker", "split", "start", "end")
GENDERS = {"f": "female", "m": "male"}
"""Short names of genders; other names are kept as written."""
UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken letter.

    Attributes:
        path: the recording.
        letter: upper-case letter, or `NOT_A_LETTER`.
        speaker: name of the speaker; a speaker is in one split only.
        split: train, valid or test; None if the manifest has no such column.
        start: start of the letter in the recording, in seconds; None for the whole recording.
        end: end of the letter, in seconds.
        gender: gender of the speaker: female, male or another word; None if unknown.
    """

    path: Path
    letter: str
    speaker: str
    split: Split | None = None
    start: float | None = None
    end: float | None = None
    gender: str | None = None

    @property
    def id(self) -> str:
        """The name of the utterance within its corpus."""
        name = f"{self.path.parent.name}/{self.path.stem}"
        return name if self.start is None else f"{name}:{self.start:g}-{self.end:g}"


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (line number, column -> value) of a manifest in any of the three formats."""
    if path.exists() and not path.is_file():  # reading a pipe would block
        raise ValueError("expected a file, found a folder, pipe or device")
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number}: expected a JSON object")
                    json.dumps(row, ensure_ascii=False).encode()  # rejects half a surrogate pair
                    yield number, row
        else:
            delimiter = "," if path.suffix.lower() == ".csv" else "\t"
            quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)  # type: ignore[call-overload]
            for missing in {"path", "letter"} - set(reader.fieldnames or ()):
                raise ValueError(
                    f"expected a header line with path and letter, found no {missing!r} in "
                    f"{reprlib.repr(reader.fieldnames)}"
                )
            for row in reader:
                yield reader.line_num, row


def _seconds(row: Mapping[str, Any], column: str) -> float | None:
    text = _text(row, column)
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected {column} in seconds, 0 or more, found {reprlib.repr(text)}")
    return value


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"expected text or a number as {column}, found {reprlib.repr(value)}")
    return str(value)


def _path(row: Mapping[str, Any], root: Path) -> Path:
    text = _text(row, "path")
    if not text:
        raise ValueError("expected a path, found none")
    if "\0" in text:
        raise ValueError("expected a path without null characters")
    return root / text


def _leaves(path: Path, root: Path) -> bool:
    """Returns whether a path leads out of a folder; symbolic links in the folder are trusted."""
    absolute = Path(os.path.normpath(root.absolute()))  # resolve() would follow links
    bases = [base for base in (root, absolute) if path.is_relative_to(base)]
    return not bases or ".." in path.relative_to(bases[0]).parts


def _utterance(row: Mapping[str, Any], root: Path, letters: bool) -> Utterance:
    path = _path(row, root)
    letter = _text(row, "letter")
    if letters:
        letter = LETTERS[label_of(letter)]
    elif letter != NOT_A_LETTER:
        raise ValueError(f"expected {NOT_A_LETTER!r} as the letter of a non-letter, found {reprlib.repr(letter)}")
    split = _text(row, "split") or None
    if split is not None and split not in SPLITS:
        raise ValueError(f"expected split train, valid or test, found {reprlib.repr(split)}")
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
        raise ValueError(f"expected start < end, both or neither, found {start} and {end}")
    speaker = _text(row, "speaker") or UNKNOWN_SPEAKER
    gender = _text(row, "gender").strip().lower() or None
    gender = GENDERS.get(gender or "", gender)
    return Utterance(path, letter, speaker, split, start, end, gender)


def shared_speakers(utterances: Iterable[Utterance]) -> list[str]:
    """Returns the speakers in more than one split, sorted; unknown speakers do not count."""
    splits_of: dict[str, set[str]] = {}
    for utterance in utterances:
        splits_of.setdefault(utterance.speaker, set()).add(utterance.split or "")
    return sorted(name for name, splits in splits_of.items() if len(splits) > 1 and name != UNKNOWN_SPEAKER)


def read_manifest(
    path: str | Path, letters: bool = True, allow_shared: bool = False, allow_outside: bool = False
) -> list[Utterance]:
    """Returns the utterances of a manifest, in its order.

    Args:
        path: the file.
        letters: whether letters are expected, or non-letters.
        allow_shared: whether a speaker may be in more than one split.
        allow_outside: whether recordings may lie outside the manifest's folder.

    Raises:
        UserError: the file is missing or empty, lines are invalid (all of them are listed), a recording lies outside
            the folder, only some lines have a split, or a speaker is in more than one split.
    """
    path = Path(path)
    problems: list[str] = []
    utterances: list[Utterance] = []
    try:
        for number, row in _rows(path):
            try:
                utterances.append(_utterance(row, path.parent, letters))
            except (ValueError, OverflowError) as error:  # OverflowError: numbers of 400 digits
                problems.append(f"{path}:{number}: {error}")
    except FileNotFoundError as error:
        if not letters:
            raise UserError(
                f"{path}: no such manifest of recordings without a letter; make it with speechmlp prepare an4 or "
                "speechmlp prepare noises, or leave it out: corpus.negatives=[], and evaluate with --negatives alone"
            ) from error
        raise UserError(
            f"{path}: no such manifest; make one with speechmlp prepare synthetic, speechmlp prepare an4 or "
            "speechmlp prepare folder, or name another with corpus.manifest=FILE"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a manifest: {error.strerror or error}") from error
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a manifest: {error}") from error
    if problems:
        raise UserError(*problems)
    if not allow_outside and (outside := [one.path for one in utterances if _leaves(one.path, path.parent)]):
        raise UserError(
            f"{path}: {len(outside)} recordings are outside its folder, such as {outside[0]}; allow this with "
            "corpus.outside=true (--outside for evaluate and audit)"
        )
    if not utterances:
        raise UserError(f"{path}: the manifest has no utterances; expected one line for each")
    if len({utterance.split is None for utterance in utterances}) > 1:
        raise UserError(f"{path}: some lines have a split and others do not; give every line a split")
    if not allow_shared and (shared := shared_speakers(utterances)):
        raise UserError(
            f"{path}: expected every speaker in one split only, found {len(shared)} in several: "
            f"{', '.join(shared[:5])}; corpus.shared_speakers=true allows it, to measure accuracy on known voices"
        )
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes a TSV manifest, whole or not at all, with paths relative to its folder.

    Raises:
        UserError: a path or a name contains a tab or a line break, or the file cannot be written.
    """
    path = Path(path)
    utterances = list(utterances)
    further = ["gender"] if any(utterance.gender for utterance in utterances) else []
    root = path.parent.resolve()
    rows, problems = [], []
    for utterance in utterances:
        try:
            relative = utterance.path.resolve().relative_to(root)
        except ValueError:  # the audio is outside the manifest's folder
            relative = utterance.path.resolve()
        times = ["" if time is None else f"{time:.3f}" for time in (utterance.start, utterance.end)]
        row = [relative.as_posix(), utterance.letter, utterance.speaker, utterance.split or "", *times]
        row += [utterance.gender or ""] if further else []
        if any(character in cell for cell in row for character in "\t\n\r"):
            problems.append(f"{relative.as_posix()!r}: expected a name without tabs and line breaks; rename it")
        rows.append(row)
    if problems:
        raise UserError(*problems)
    # No cell contains tabs or line breaks, so this is valid TSV.
    write_text(path, "".join("\t".join(row) + "\n" for row in ([*COLUMNS, *further], *rows)))
