"""Groups of utterances, each with an accuracy of its own: gender, duration, loudness, and columns of the manifest.

Dimension key: `N` utterances.
"""

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from speechmlp.data.manifest import Utterance
from speechmlp.data.text import look
from speechmlp.errors import unknown
from speechmlp.evaluation.gaps import ENOUGH_LETTERS, ENOUGH_SPEAKERS

ALWAYS = ("speaker", "gender", "duration", "loudness")
"""Groups that need not be asked for."""
ACCENT = "accent"
"""The column that is a group without being asked for."""
DURATIONS = (0.25, 0.4)
"""Seconds between the groups by duration."""
LOUDNESSES = (-40.0, -25.0)
"""dBFS between the groups by loudness."""
MOST_VALUES, MOST_BANDS = 5, 5
"""Different numbers that a column may have to be groups by themselves, and bands that more of them become."""
MISSING = ("unknown", "not known", "nan", "null", "n/a", "?", "-")
"""How manifests write that a value is not known."""


def group_columns(utterances: Sequence[Utterance], wanted: Sequence[str] | None) -> list[str]:
    """Returns the columns of a manifest that are groups in addition to those that always are.

    Args:
        utterances: lines of the manifest.
        wanted: columns, in any case; None for the accent, if there is such a column.

    Raises:
        UserError: a column that is asked for has no value.
    """
    columns = sorted({name for utterance in utterances for name in utterance.groups} - set(ALWAYS))
    by_look = {look(name): name for name in [*columns, *ALWAYS]}
    if wanted is None:
        return [by_look[ACCENT]] if ACCENT in by_look else []
    for name in wanted:
        if look(name) not in by_look:
            raise unknown(
                f"group by {name!r}: no such column in the manifest, or no value in it", name, [*columns, *ALWAYS]
            )
    return [name for name in dict.fromkeys(by_look[look(name)] for name in wanted) if name in columns]


def _band_names(edges: Sequence[float], unit: str = "", whole: bool = False) -> list[str]:
    """Returns the names of the bands between edges: `under 20`, `20 to 29`, `30 and over`.

    Args:
        edges: in rising order, at least one.
        unit: of the numbers, after a space.
        whole: whether the numbers are integers, so that the last one of a band can be named.
    """
    names = [f"under {edges[0]:.12g}{unit}"]
    for low, high in pairwise(edges):
        last = high - 1 if whole else high
        names.append(f"{low:.12g}{unit}" if last == low else f"{low:.12g} to {last:.12g}{unit}")
    return [*names, f"{edges[-1]:.12g}{unit} and over"]


def _banded(values: Iterable[float], edges: Sequence[float], names: Sequence[str]) -> list[str]:
    return [names[bisect_right(edges, value)] for value in values]


def _number(text: str | None) -> float | None:
    """Returns the number that a text is; NaN for no text, None for one that is no number."""
    if text is None:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _round_edges(values: Sequence[float]) -> list[float]:
    """Returns round numbers that divide values into at most `MOST_BANDS` bands.

    The outer bands have no end, so that a few values far away from all others make no bands of their own.
    """
    ordered = sorted(values)
    low, high = (ordered[round(part * (len(ordered) - 1))] for part in (0.05, 0.95))
    if low == high:
        low, high = ordered[0], ordered[-1]
    exponent = math.floor(math.log10((high - low) / MOST_BANDS))
    smallest = 1.0 if all(value.is_integer() for value in values) else 0.0
    for step in (factor * 10.0**power for power in range(exponent, exponent + 3) for factor in (1, 2, 5)):
        first, last = math.floor(low / step) + 1, math.floor(high / step)
        if last - first + 2 <= MOST_BANDS and step >= smallest:
            break
    return [float(f"{number * step:.12g}") for number in range(min(first, last), last + 1)]


def _of_numbers(values: Sequence[float], speakers: Sequence[str]) -> list[str | None]:
    """Returns the group of each number, None for NaN: bands, or the numbers themselves if they are few."""
    known = [value for value in values if not math.isnan(value)]
    different = set(known)
    said_by = Counter(value for value, _ in {(value, name) for value, name in zip(values, speakers, strict=True)})
    counts = Counter(known)
    enough = [one for one in different if counts[one] >= ENOUGH_LETTERS and said_by[one] >= ENOUGH_SPEAKERS]
    if len(different) == 1 or (len(different) <= MOST_VALUES and len(enough) > 1):
        return [None if math.isnan(value) else f"{value:.12g}" for value in values]
    edges = _round_edges(known)
    whole = all(value.is_integer() for value in (*known, *edges))
    names = _band_names(edges, whole=whole)
    return [None if math.isnan(value) else _banded([value], edges, names)[0] for value in values]


def _known(values: Sequence[str | None]) -> list[str | None]:
    return [None if value is None or value.casefold() in MISSING else value for value in values]


def _of_column(values: Sequence[str | None], speakers: Sequence[str]) -> list[str | None]:
    """Returns the group of each value of a column: bands of numbers; texts that look alike are one group."""
    values = _known(values)
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers) and not all(math.isnan(number or 0.0) for number in numbers):
        return _of_numbers([math.nan if number is None else number for number in numbers], speakers)
    spellings = Counter(value for value in values if value is not None)
    shown = {look(name): name for name, _ in reversed(spellings.most_common())}  # the most frequent spelling
    return [None if value is None else shown[look(value)] for value in values]


def in_order(names: Iterable[str]) -> list[str]:
    """Returns names of groups in order: by number if each begins with one (`under 20`, `20 to 29`), or by alphabet."""

    def number(name: str) -> tuple[float, bool] | None:
        found = re.match(r"(under |<\s*)?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.])", name)
        return (float(found[2]), not found[1]) if found else None

    def parts(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name.casefold())]

    names = list(names)
    numbers = {name: number(name) for name in names}
    if all(numbers.values()):
        return sorted(names, key=lambda name: (numbers[name] or (0.0, False), name))
    return sorted(names, key=lambda name: (parts(name), name))


def find_groups(
    utterances: Sequence[Utterance], seconds: Tensor, power: Tensor, columns: Sequence[str] = ()
) -> Mapping[str, Sequence[str | None]]:
    """Returns the group of each utterance, by kind.

    Args:
        utterances: N lines of a manifest, which may say the gender.
        seconds: [N], the duration of each letter, as `durations.letter_seconds` returns it.
        power: [N], mean square of each one's recorded samples, full scale being 1.
        columns: further columns of the manifest; each of their values is a group, and bands of numbers such as ages.
    """
    found: dict[str, Sequence[str | None]] = {}
    genders = _known([utterance.gender for utterance in utterances])
    if any(genders):
        found["gender"] = genders
    speakers = [utterance.speaker for utterance in utterances]
    for column in columns:
        found[column] = _of_column([utterance.groups.get(column) for utterance in utterances], speakers)
    found["duration"] = _banded(seconds.tolist(), DURATIONS, _band_names(DURATIONS, " s"))
    level = 10 * torch.log10(power.clamp_min(1e-15))
    found["loudness"] = _banded(level.tolist(), LOUDNESSES, _band_names(LOUDNESSES, " dBFS"))
    return found
