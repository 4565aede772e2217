"""The ways in which people spell names and say numbers, as words to be aligned with a recording."""

import itertools
from collections.abc import Iterator, Sequence

from speechmlp.labels import LETTERS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spellings(name: str) -> list[tuple[str, ...]]:
    """Returns the word sequences by which a name may be spelled, the simplest first.

    Letters are in upper case; other words, such as the name itself, are in lower case.
    """
    parts = ["".join(letter for letter in part.upper() if letter in LETTERS) for part in name.split()]
    parts = [part for part in parts if part]
    ways = []
    for order in (parts, parts[::-1]):
        plain = tuple("".join(order))
        spaced = tuple(word for part in order for word in ("space", *part))[1:]
        doubled = tuple(word for part in order for word in _doubled(part))
        said = [tuple(part.lower() for part in some) for some in (parts, parts[:1], parts[-1:])]
        ways += [plain, spaced, doubled, *((*words, *letters) for words in said for letters in (plain, doubled))]
    return [way for way in dict.fromkeys(ways) if way]


def numbers(number: str) -> list[tuple[str, ...]]:
    """Returns the word sequences by which a number may be said: five five, double five; zero, oh."""
    ways = [tuple(DIGITS[int(digit)] for digit in number)]
    ways.append(tuple(DIGITS[int(word)] if word.isdigit() else word for word in _doubled(number)))
    ways += [tuple("oh" if word == "zero" else word for word in way) for way in ways]
    return list(dict.fromkeys(ways))


def _doubled(text: str) -> Iterator[str]:
    """Yields characters, with "double" or "triple" before one that stands for two or three."""
    for character, run in itertools.groupby(text):
        count = len(list(run))
        yield from {2: ("double", character), 3: ("triple", character)}.get(count, (character,) * count)


def text_of(words: Sequence[str]) -> str:
    """Returns the spelled letters; "double L" stands for two."""
    times = {"double": 2, "triple": 3}
    pairs = zip(("", *words), words, strict=False)
    return "".join(word * times.get(before, 1) for before, word in pairs if word in LETTERS)
