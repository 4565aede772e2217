"""Read and write manifests: one line per utterance, in the same format for every corpus.

Columns: `path` (relative to the manifest's folder), `letter`, `speaker`, `split` (train, valid or test), and
optionally `gender`, `start` and `end` in seconds if the letter is a part of the recording, and `margin` in seconds.
Other columns, such as `accent`, are kept as groups. The suffix of the file decides between TSV, CSV and JSON lines.
White space around a value or a column's name does not count, and both of Unicode's normal forms are the same.
"""

import csv
import json
import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from speechmlp.data.text import clean, existing, look, look_alikes, strip
from speechmlp.errors import UserError
from speechmlp.files import write_text
from speechmlp.labels import LETTERS, NOT_A_LETTER, as_option, as_setting, find_label, one_of
from speechmlp.streams import printable

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("path", "letter", "speaker", "split", "start", "end")
OPTIONAL = ("gender", "margin")
"""Columns that are written only if there is a value."""
KNOWN = (*COLUMNS, *OPTIONAL)
GENDERS = {"f": "female", "m": "male"}
"""Short names of genders; other names are kept as written."""
UNKNOWN_SPEAKER = "unknown"
MOST_NAMED = 20
"""Most unexpected labels that are named."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken letter.

    Attributes:
        path: the recording.
        letter: what is spoken: one of the labels, upper-case A to Z by default; or `NOT_A_LETTER`.
        speaker: name of the speaker; a speaker is in one split only.
        split: train, valid or test; None if the manifest has no such column.
        start: start of the letter in the recording, in seconds; None for the whole recording.
        end: end of the letter, in seconds.
        gender: gender of the speaker: female, male or another word; None if unknown.
        margin: seconds kept before `start` and after `end`; None for `corpus.margin`.
        groups: other columns of the manifest and their values, such as accent; empty values are left out.
    """

    path: Path
    letter: str
    speaker: str
    split: Split | None = None
    start: float | None = None
    end: float | None = None
    gender: str | None = None
    margin: float | None = None
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """The name of the utterance within its corpus."""
        name = f"{self.path.parent.name}/{self.path.stem}"
        return f"{name}{self._times}"

    @property
    def recording(self) -> str:
        """The path of the recording, with start and end in seconds if the letter is a part of it."""
        return f"{self.path}{self._times}"

    @property
    def _times(self) -> str:
        return "" if self.start is None else f":{self.start:g}-{self.end:g}"


def _columns(names: Iterable[Any]) -> list[Any]:
    """Returns the names of columns as they are known; others as they are.

    Raises:
        ValueError: two of them have the same name.
    """
    found = [name if not isinstance(name, str) or look(name) not in KNOWN else look(name) for name in names]
    if twice := [name for name in KNOWN if found.count(name) > 1]:
        raise ValueError(f"expected each column once, found {twice[0]!r} twice")
    return found


def rows_of(path: Path, required: Sequence[str] = ("path", "letter")) -> Iterator[tuple[int, Mapping[str, Any]]]:
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
                    yield number, dict(zip(_columns(row), row.values(), strict=True))
        else:
            delimiter = "," if path.suffix.lower() == ".csv" else "\t"
            quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)  # type: ignore[call-overload]
            reader.fieldnames = _columns(reader.fieldnames or ())
            for missing in (name for name in required if name not in (reader.fieldnames or ())):
                raise ValueError(
                    f"expected a header line with {' and '.join(required)}, found no {missing!r} in "
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
    return clean(_written(row, column))


def _written(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"expected text or a number as {column}, found {reprlib.repr(value)}")
    return str(value)


def path_of(row: Mapping[str, Any], root: Path) -> Path:
    """Returns the path of a row, relative to the manifest's folder."""
    text = _written(row, "path")
    if not strip(text):
        raise ValueError("expected a path, found none")
    if "\0" in text:
        raise ValueError("expected a path without null characters")
    return existing(root, text)


def leaves(path: Path, root: Path) -> bool:
    """Returns whether a path leads out of a folder; symbolic links in the folder are trusted."""
    absolute = Path(os.path.normpath(root.absolute()))  # resolve() would follow links
    bases = [base for base in (root, absolute) if path.is_relative_to(base)]
    return not bases or ".." in path.relative_to(bases[0]).parts


def path_within(path: Path, folder: Path) -> Path | None:
    """Returns the path of a recording relative to a folder, or None if it is outside.

    The recording itself may be a symbolic link, as in DVC, git-annex and the cache of Hugging Face; it is not followed,
    because the file that it names has no telling name.
    """
    own, others = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(folder.absolute()))
    if own.is_relative_to(others):
        return own.relative_to(others)
    own, others = path.parent.resolve() / path.name, folder.resolve()
    return own.relative_to(others) if own.is_relative_to(others) else None


class _OtherLabelError(ValueError):
    """A line has a label that is not expected."""


def _utterance(row: Mapping[str, Any], root: Path, letters: bool, labels: tuple[str, ...] | None) -> Utterance:
    path = path_of(row, root)
    letter = _text(row, "letter")
    if letters and labels is not None:
        position = find_label(letter, labels)
        if position is None:
            raise _OtherLabelError(letter)
        letter = labels[position]
    elif letters and letter in ("", NOT_A_LETTER):
        raise ValueError(f"expected a label as letter, found {reprlib.repr(letter)}")
    elif not letters and letter != NOT_A_LETTER:
        raise ValueError(f"expected {NOT_A_LETTER!r} as the letter of a non-letter, found {reprlib.repr(letter)}")
    split = _text(row, "split").lower() or None
    if split is not None and split not in SPLITS:
        raise ValueError(f"expected split train, valid or test, found {reprlib.repr(split)}")
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
        raise ValueError(f"expected start < end, both or neither, found {start} and {end}")
    speaker = _text(row, "speaker")
    speaker = UNKNOWN_SPEAKER if look(speaker) in ("", UNKNOWN_SPEAKER) else speaker
    gender = _text(row, "gender").lower() or None
    gender = GENDERS.get(gender or "", gender)
    return Utterance(path, letter, speaker, split, start, end, gender, _seconds(row, "margin"), _groups(row))


def _groups(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the columns without a meaning of their own: text and numbers, with single spaces, without empty ones."""
    others = [name for name in row if isinstance(name, str) and name not in (*COLUMNS, *OPTIONAL)]
    groups = {_line(name): _line(str(row[name])) for name in others if isinstance(row[name], str | int | float)}
    return {name: text for name, text in groups.items() if name and text}


def _line(text: str) -> str:
    return " ".join(clean(text).split())


def shared_speakers(utterances: Iterable[Utterance]) -> list[str]:
    """Returns the speakers in more than one split, sorted; unknown speakers do not count."""
    splits_of: dict[str, set[str]] = {}
    for utterance in utterances:
        splits_of.setdefault(utterance.speaker, set()).add(utterance.split or "")
    return sorted(name for name, splits in splits_of.items() if len(splits) > 1 and name != UNKNOWN_SPEAKER)


def similar_speakers(utterances: Iterable[Utterance]) -> tuple[list[str], list[str]]:
    """Returns the speakers whose names look alike, as `'Anna' (train) and 'anna' (test)`.

    Returns:
        Those who are in different splits, probably one person; and those in the same split.
    """
    splits_of: dict[str, set[str]] = {}
    for utterance in utterances:
        splits_of.setdefault(utterance.speaker, set()).add(utterance.split or "no split")
    across: list[str] = []
    within: list[str] = []
    for group in look_alikes(splits_of):
        shown = " and ".join(f"{name!a} ({', '.join(sorted(splits_of[name]))})" for name in group)
        (across if len(set().union(*(splits_of[name] for name in group))) > 1 else within).append(shown)
    return across, within


def _other_labels(path: Path, lines: Mapping[str, Sequence[int]], labels: tuple[str, ...]) -> list[str]:
    """Returns what to say about lines with other labels than the expected ones: label -> numbers of the lines."""
    problems = []
    for text, numbers in list(lines.items())[:MOST_NAMED]:
        count = f", in {len(numbers)} lines" if len(numbers) > 1 else ""
        problems.append(f"{path}:{numbers[0]}: expected {one_of(labels)}, found {reprlib.repr(text)}{count}")
    if len(lines) > MOST_NAMED:
        problems.append(f"{path}: {len(lines) - MOST_NAMED} more labels are not expected")
    if not {"", NOT_A_LETTER} & lines.keys():
        every = [*labels, *lines]
        problems[-1] += f"; to have other labels: {as_setting(every)}, or {as_option(every)}"
    return problems


def read_manifest(
    path: str | Path,
    letters: bool = True,
    allow_shared: bool = False,
    allow_outside: bool = False,
    *,
    labels: tuple[str, ...] | None = LETTERS,
) -> list[Utterance]:
    """Returns the utterances of a manifest, in its order.

    Args:
        path: the file.
        letters: whether letters are expected, or non-letters.
        allow_shared: whether a speaker may be in more than one split.
        allow_outside: whether recordings may lie outside the manifest's folder.
        labels: that letters may have; None for any.

    Raises:
        UserError: the file is missing or empty, lines are invalid (all of them are listed), a recording lies outside
            the folder, only some lines have a split, or a speaker is in more than one split.
    """
    path = Path(path)
    if printable(str(path)) != str(path):
        raise UserError(f"{path}: expected a path in UTF-8; rename it (or set PYTHONUTF8=1 if it is)")
    problems: list[str] = []
    others: dict[str, list[int]] = {}
    utterances: list[Utterance] = []
    try:
        for number, row in rows_of(path):
            try:
                utterances.append(_utterance(row, path.parent, letters, labels))
            except _OtherLabelError as error:
                others.setdefault(str(error), []).append(number)
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
    if others:
        problems += _other_labels(path, others, labels or ())
    if problems:
        raise UserError(*problems)
    if not allow_outside and (outside := [one.path for one in utterances if leaves(one.path, path.parent)]):
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


def _as_utf8(path: Path) -> str:
    """Returns a path as a manifest has it; what is not UTF-8 stays half a surrogate pair."""
    return os.fsencode(path.as_posix()).decode("utf-8", "surrogateescape")


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes a TSV manifest, whole or not at all, with paths relative to its folder; absolute ones outside it.

    Raises:
        UserError: a path, a name or a group contains a tab or a line break or is not UTF-8, or the file cannot be
            written.
    """
    path = Path(path)
    utterances = list(utterances)
    further = [name for name in OPTIONAL if any(getattr(utterance, name) is not None for utterance in utterances)]
    groups = list(dict.fromkeys(name for utterance in utterances for name in utterance.groups))
    rows, problems = [], []
    for utterance in utterances:
        inside = path_within(utterance.path, path.parent)
        shown = Path(os.path.normpath(utterance.path.absolute())) if inside is None else inside
        times = [_decimal(utterance.start), _decimal(utterance.end)]
        row = [_as_utf8(shown), utterance.letter, utterance.speaker, utterance.split or "", *times]
        values = {"gender": utterance.gender or "", "margin": _decimal(utterance.margin)}
        row += [*(values[name] for name in further), *(utterance.groups.get(name, "") for name in groups)]
        if any(character in cell for cell in row for character in "\t\n\r"):
            problems.append(f"{shown.as_posix()!r}: expected a name without tabs and line breaks; rename it")
        elif any(printable(cell) != cell for cell in row):
            problems.append(f"{shown.as_posix()!r}: expected a name in UTF-8; rename it")
        rows.append(row)
    if problems:
        raise UserError(*problems)
    # No cell contains tabs or line breaks, so this is valid TSV.
    write_text(path, "".join("\t".join(row) + "\n" for row in ([*COLUMNS, *further, *groups], *rows)))


def _decimal(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"
