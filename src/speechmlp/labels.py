"""The labels of a model: names of what is spoken, A to Z by default, and their comparison with other texts.

A label is any text without control characters. Case, forms of characters and white space at the ends do not
distinguish labels: `a` is the label `A`.
"""

import json
import reprlib
import shlex
import string
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from speechmlp.errors import UserError

LETTERS = tuple(string.ascii_uppercase)
NUM_LETTERS = len(LETTERS)
DIGITS = tuple(string.digits)
SETS = {"letters": LETTERS, "digits": DIGITS, "alphanumeric": LETTERS + DIGITS}
"""Names that stand for several labels, and so cannot be labels."""

NOT_A_LETTER = "-"
"""The letter of non-letters in manifests: other words, noise, silence. Its label is the number of labels."""

E_SET = tuple("BCDEGPTVZ")
"""The letters that rhyme with E: the classic hard set of spoken-letter recognition (Fanty & Cole, 1991)."""

SHOWN = 40
"""Most labels that a message lists."""


def _key(text: str) -> str:
    """Returns what texts of the same label have in common."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(one for one in plain if unicodedata.category(one) != "Cf").split())


@lru_cache(maxsize=16)
def _positions(labels: tuple[str, ...]) -> dict[str, int]:
    return {_key(label): position for position, label in enumerate(labels)}


def find_label(text: str, labels: tuple[str, ...] = LETTERS) -> int | None:
    """Returns the position of the label that a text names, or None."""
    exact = labels.index(text) if text in labels else None
    return _positions(labels).get(_key(text)) if exact is None else exact


def labels_in(text: str, labels: tuple[str, ...] = LETTERS) -> tuple[int, ...]:
    """Returns the positions of the labels that the characters of a text name, without other characters."""
    return tuple(label for one in text.upper() if (label := find_label(one, labels)) is not None)


def label_of(text: str, labels: tuple[str, ...] = LETTERS) -> int:
    """Returns the position of the label that a text names.

    Raises:
        ValueError: it names none of them.
    """
    found = find_label(text, labels)
    if found is None:
        raise ValueError(f"expected {one_of(labels)}, found {reprlib.repr(text)}")
    return found


def parse_labels(names: Iterable[str | int]) -> tuple[str, ...]:
    """Returns labels as a user names them: texts, whole numbers, and names of `SETS`, which stand for their labels.

    Raises:
        ValueError: there are fewer than two, two are the same, or one cannot be a label.
    """
    found: list[str] = []
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int):
            shown = str(name).lower() if isinstance(name, bool) else reprlib.repr(name)
            raise ValueError(f"expected texts, found {shown}; put it in quotes")
        text = unicodedata.normalize("NFC", str(name)).strip()
        if text == NOT_A_LETTER or not _key(text):
            raise ValueError(f"expected texts that can be seen, other than {NOT_A_LETTER!r}, found {name!r}")
        if any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text):
            raise ValueError(f"expected texts without tabs, line breaks and control characters, found {name!r}")
        found += SETS.get(text, (text,))
    labels = tuple(found)
    first: dict[str, str] = {}
    for label in labels:
        if (other := first.get(_key(label))) is not None:
            raise ValueError(
                f"expected different labels, found {other!r} and {label!r}; case does not distinguish them"
            )
        first[_key(label)] = label
    if len(labels) < 2:
        raise ValueError(f"expected two labels or more, found {len(labels)}")
    return labels


def labels_of(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns the labels that the option `--labels` names; None without it.

    Raises:
        UserError: they cannot be labels.
    """
    try:
        return None if names is None else parse_labels(names)
    except ValueError as error:
        raise UserError(f"--labels: {error}") from error


def one_of(labels: Sequence[str]) -> str:
    """Returns what is expected of a text that names a label, such as `one letter A to Z`."""
    return "one letter A to Z" if tuple(labels) == LETTERS else f"one of {describe(labels)}"


def describe(labels: Sequence[str]) -> str:
    """Returns labels as text, such as `A to Z, 0 to 9, space`: runs of letters and digits as such, texts in order."""
    parts: list[str] = []
    position = 0
    while position < len(labels):
        run = next((name for name in (LETTERS, DIGITS) if tuple(labels[position : position + len(name)]) == name), None)
        parts.append(f"{run[0]} to {run[-1]}" if run else labels[position])
        position += len(run) if run else 1
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more


def _short(labels: Sequence[str]) -> list[str]:
    """Returns labels as a user may name them: the names of sets, and the others."""
    names: list[str] = []
    rest = list(labels)
    for name in ("letters", "digits"):
        if set(SETS[name]) <= set(rest):
            names.append(name)
            rest = [label for label in rest if label not in SETS[name]]
    return [*names, *rest]


def characters(labels: tuple[str, ...]) -> str:
    """Returns what words to spell consist of, such as `letters A to Z`."""
    return "letters A to Z" if labels == LETTERS else f"characters among {describe(labels)}"


def as_setting(labels: Sequence[str]) -> str:
    """Returns labels as the override that configures them, such as `labels='[letters, "space"]'`."""
    shown = [name if name in SETS else json.dumps(name, ensure_ascii=False) for name in _short(labels)]
    return "labels=" + shlex.quote(f"[{', '.join(shown)}]")


def as_option(labels: Sequence[str]) -> str:
    """Returns labels as the option that names them, such as `--labels letters space`."""
    return f"--labels {shlex.join(_short(labels))}"
