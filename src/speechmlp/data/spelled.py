"""Reads manifests of spelled words: one line for each recording, with the letters that are spelled in it.

Columns: `path` (relative to the manifest's folder), `text` (its letters A to Z count, or other labels of the model, in
either case), `speaker`, `split`. Other columns, such as `accent`, are groups. The suffix of the file decides between
TSV, CSV and JSON lines.
"""

import csv
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechmlp.data.manifest import SPLITS, UNKNOWN_SPEAKER, leaves, path_of, rows_of
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, characters, labels_in

COLUMNS = ("path", "text", "speaker", "split")
REQUIRED = ("path", "text")
UNGROUPED = ("letter", "start", "end", "margin")
"""Columns that other manifests have, and that are not groups of words."""


@dataclass(frozen=True)
class SpelledWord:
    """One spelled word.

    Attributes:
        path: the recording.
        text: its letters, in upper case, or other labels.
        speaker: name of the speaker.
        split: train, valid or test; None if the manifest has no such column.
        groups: other columns and their values.
    """

    path: Path
    text: str
    speaker: str = UNKNOWN_SPEAKER
    split: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """The name of the recording within its corpus."""
        return f"{self.path.parent.name}/{self.path.stem}"


def letters_of(text: str, labels: tuple[str, ...]) -> str:
    """Returns the characters of a text that are labels, as the labels are written."""
    return "".join(labels[label] for label in labels_in(text, labels))


def _word(row: Mapping[str, Any], root: Path, labels: tuple[str, ...]) -> SpelledWord:
    path = path_of(row, root)
    text = str(row.get("text") or "")
    if not letters_of(text, labels):
        raise ValueError(f"expected a text with {characters(labels)}, found {reprlib.repr(text)}")
    split = str(row.get("split") or "") or None
    if split is not None and split not in SPLITS:
        raise ValueError(f"expected split train, valid or test, found {reprlib.repr(split)}")
    others = [name for name in row if isinstance(name, str) and name not in (*COLUMNS, *UNGROUPED)]
    texts = {name: " ".join(str(row[name]).split()) for name in others if isinstance(row[name], str | int | float)}
    speaker = str(row.get("speaker") or "") or UNKNOWN_SPEAKER
    return SpelledWord(
        path, letters_of(text, labels), speaker, split, {name: one for name, one in texts.items() if one}
    )


def read_spelled(path: str | Path, allow_outside: bool = False, labels: tuple[str, ...] = LETTERS) -> list[SpelledWord]:
    """Returns the words of a manifest, in its order.

    Args:
        path: the file.
        allow_outside: whether recordings may lie outside the manifest's folder.
        labels: that the words consist of.

    Raises:
        UserError: the file is missing or empty, lines are invalid (all of them are listed), a recording lies outside
            the folder, or only some lines have a split.
    """
    path = Path(path)
    problems: list[str] = []
    words: list[SpelledWord] = []
    try:
        for number, row in rows_of(path, REQUIRED):
            try:
                words.append(_word(row, path.parent, labels))
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read as a manifest of spelled words: {error.strerror or error}; expected columns "
            "path, text, speaker and split"
        ) from error
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(
            f"{path}: cannot be read as a manifest of spelled words: {error}; --joined joins single letters"
        ) from error
    if problems:
        raise UserError(*problems)
    if not allow_outside and (outside := [one.path for one in words if leaves(one.path, path.parent)]):
        raise UserError(
            f"{path}: {len(outside)} recordings are outside its folder, such as {outside[0]}; allow this with --outside"
        )
    if not words:
        raise UserError(f"{path}: the manifest has no words; expected one line for each")
    if len({word.split is None for word in words}) > 1:
        raise UserError(f"{path}: some lines have a split and others do not; give every line a split")
    return words
