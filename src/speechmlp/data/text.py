"""Text in manifests and file names: what looks the same is the same.

White space is that of Unicode, such as the no-break space of spreadsheets, and with it the characters that take no
room at all, such as zero-width spaces, byte order marks and marks of the direction of writing.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

JOINERS = "\u200c\u200d"
"""Without width, but part of the spelling inside words of Persian and of Indian languages."""


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cf", "Cc")


def strip(text: str) -> str:
    """Returns a text without white space at both ends."""
    first = sum(1 for _ in takewhile(_is_blank, text))
    return text[first : len(text) - sum(1 for _ in takewhile(_is_blank, reversed(text[first:])))]


def clean(text: str) -> str:
    """Returns a text in Unicode's composed form (NFC), without white space at both ends or invisible characters."""
    if text.isascii():
        return text.strip() if text.isprintable() else strip(text)
    visible = (one for one in strip(text) if unicodedata.category(one) != "Cf" or one in JOINERS)
    return unicodedata.normalize("NFC", "".join(visible))


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Returns groups of different names that differ only by case, by forms of characters or by white space; sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[look(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def look(name: str) -> str:
    """Returns what names that look alike have in common."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in plain if not _is_blank(character))


def existing(root: Path, text: str) -> Path:
    """Returns the path of a file that a manifest names.

    A name is tried as it is written, then in each of Unicode's normal forms (macOS and Linux write different ones),
    then without white space at its ends; each folder in it by itself. If none exists, it is the name as written.
    """
    written = root / os.fsdecode(text.encode("utf-8"))  # the manifest is in UTF-8, whatever the file system
    if (text.isascii() and text == text.strip()) or _exists(written):
        return written
    path = root
    for part in Path(text).parts:
        forms = [form(name) for name in (part, strip(part)) for form in (str, _composed, _decomposed)]
        tried = [path / os.fsdecode(form.encode("utf-8")) for form in forms if form]
        path = next((one for one in tried if _exists(one)), path / part)
    return path if _exists(path) else written


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)
