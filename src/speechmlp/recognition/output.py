"""Recognised letters and words as text, CSV and JSON lines."""

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

from speechmlp.recognition.live import LiveLetter
from speechmlp.recognition.recognizer import Recognition
from speechmlp.recognition.speller import Spelling
from speechmlp.recognition.word_list import WordList
from speechmlp.streams import require_output

SHOWN = ("first", "second", "third")
"""Names of the reported letters of a recording, the most probable first."""

Ranking = Sequence[tuple[str, float]]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _pairs(ranking: Ranking) -> list[tuple[str, float]]:
    return [(name, round(probability, 4)) for name, probability in ranking]


def letter_text(name: str, found: Recognition) -> str:
    """Returns a letter as text, such as `a.wav: B 92.1% (then D 4.0%, P 2.2%)`."""
    more = "; there seem to be more letters, which --spell recognises" if found.more else ""
    shown = [f"{letter} {100 * probability:.1f}%" for letter, probability in found.ranked[: len(SHOWN)]]
    if found.declined:
        return f"{name}: not a letter (nearest {', '.join(shown)}){more}"
    return f"{name}: {shown[0]} (then {', '.join(shown[1:])}){more}"


def letter_values(name: str, found: Recognition) -> dict[str, Any]:
    """Returns a letter as values for JSON; `letter` is null if it was rejected."""
    return {
        "path": name,
        "letter": found.letter,
        "probability": _rounded(found.probability),
        "ranked": _pairs(found.ranked[: len(SHOWN)]),
        "start": _rounded(found.start),
        "end": _rounded(found.end),
        "more": found.more,
    }


def letter_rows(name: str, found: Recognition) -> list[dict[str, Any]]:
    """Returns a letter as a table of one row; `letter` is empty if it was rejected."""
    row: dict[str, Any] = {"path": name, "letter": found.letter}
    for rank, (letter, probability) in zip(SHOWN, found.ranked, strict=False):
        row |= {rank: letter, f"{rank}_probability": _rounded(probability)}
    return [row | {"start": _rounded(found.start), "end": _rounded(found.end), "more": found.more}]


def spelling_text(name: str, found: Spelling, words: Ranking | None) -> str:
    """Returns a spelled word as lines of text: its letters, the best words, and each letter with its times."""
    lines = [f"{name}: {' '.join(one.letter for one in found.letters) or 'no letters'}"]
    if words is not None:
        lines.append("  words: " + ", ".join(f"{word} {100 * probability:.1f}%" for word, probability in words))
    for one in found.letters:
        lines.append(f"  {one.start:6.2f} to {one.end:5.2f} s  {one.letter} {100 * one.probability:.1f}%")
    return "\n".join(lines)


def spelling_values(name: str, found: Spelling, words: Ranking | None) -> dict[str, Any]:
    """Returns a spelled word as values for JSON."""
    letters = [
        {
            "letter": one.letter,
            "probability": _rounded(one.probability),
            "start": _rounded(one.start),
            "end": _rounded(one.end),
        }
        for one in found.letters
    ]
    values = {"path": name, "text": found.text, "letters": letters}
    return values if words is None else values | {"words": _pairs(words)}


def columns(found: Recognition | Spelling, words: Ranking | None) -> list[str]:
    """Returns the column names of a table; they do not depend on whether it has rows."""
    if isinstance(found, Recognition):
        ranked = [column for rank in SHOWN for column in (rank, f"{rank}_probability")]
        return ["path", "letter", *ranked, "start", "end", "more"]
    if words is not None:
        return ["path", "rank", "word", "probability"]
    return ["path", "position", "letter", "probability", "start", "end"]


def live_values(one: LiveLetter) -> dict[str, Any]:
    """Returns a letter that was spoken to a microphone as values for JSON."""
    return {
        "letter": one.letter,
        "probability": _rounded(one.probability),
        "ranked": _pairs(one.ranked[: len(SHOWN)]),
        "start": _rounded(one.start),
        "end": _rounded(one.end),
    }


def spelling_rows(name: str, found: Spelling, words: Ranking | None) -> list[dict[str, Any]]:
    """Returns a spelled word as rows of a table: the best words, or the letters if there is no list of words."""
    if words is not None:
        return [
            {"path": name, "rank": rank, "word": word, "probability": probability}
            for rank, (word, probability) in enumerate(_pairs(words), start=1)
        ]
    letters = spelling_values(name, found, None)["letters"]
    return [{"path": name, "position": position} | one for position, one in enumerate(letters, start=1)]


def _rows(name: str, found: Recognition | Spelling, words: Ranking | None) -> list[dict[str, Any]]:
    return letter_rows(name, found) if isinstance(found, Recognition) else spelling_rows(name, found, words)


class Answers:
    """Writes recognised letters or words to standard output in the chosen format.

    Args:
        form: text, csv or jsonl.
        words: ranked for each spelled word.
        best: number of words to report.
    """

    def __init__(self, form: str, words: WordList | None, best: int) -> None:
        self._form, self._words, self._best = form, words, best
        self._table: csv.DictWriter[str] | None = None

    def write(self, name: str, found: Recognition | Spelling) -> None:
        """Writes the result of the recording with this name.

        Raises:
            OutputLostError: nobody can read it.
        """
        words = None
        if isinstance(found, Spelling) and self._words is not None:
            words = self._words.rank(found.lattice)[: self._best]
        if self._form == "csv":
            if self._table is None:
                self._table = csv.DictWriter(sys.stdout, columns(found, words), lineterminator="\n")
                self._table.writeheader()
            self._table.writerows(_rows(name, found, words))
        elif isinstance(found, Recognition):
            print(letter_text(name, found) if self._form == "text" else json.dumps(letter_values(name, found)))
        elif self._form == "text":
            print(spelling_text(name, found, words))
        else:
            print(json.dumps(spelling_values(name, found, words)))
        require_output()
