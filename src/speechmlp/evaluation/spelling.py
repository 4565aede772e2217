"""Scores of spelled words: letter error rate with an interval over speakers, by group, and the worst words.

Dimension key: `N` words.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.results import Estimate, Result
from speechmlp.evaluation.text import interval, percent

SHOWN = 10
"""Worst words in the text."""


class SpelledAs(Result):
    """A word, and the letters that were recognised."""

    id: str
    speaker: str
    spoken: str
    recognised: str
    missing: int
    added: int
    replaced: int

    @property
    def errors(self) -> int:
        """Letters to insert, delete or replace."""
        return self.missing + self.added + self.replaced


class ErrorGroup(Result):
    """A part of the words."""

    kind: str
    name: str
    letters: int
    error_rate: Estimate


class SpellingScores(Result):
    """Scores of a speller on a set of words."""

    num_words: int
    num_letters: int
    num_speakers: int
    letter_error_rate: Estimate
    missing: float
    added: float
    replaced: float
    words_right: Estimate
    groups: tuple[ErrorGroup, ...]
    words: tuple[SpelledAs, ...]


class SpellingEvaluation(Result):
    """Everything that an evaluation of spelled words found; rates are fractions of the spoken letters."""

    checkpoint: str
    manifest: str
    split: str | None
    pause: float | None
    left_out: int
    scores: SpellingScores


def edits(spoken: str, recognised: str) -> tuple[int, int, int]:
    """Returns the fewest letters that are missing, added and replaced (Levenshtein)."""
    row = [(count, 0, count, 0) for count in range(len(recognised) + 1)]  # all, missing, added, replaced
    for count, letter in enumerate(spoken, start=1):
        diagonal, row[0] = row[0], (count, count, 0, 0)
        for index, other in enumerate(recognised, start=1):
            kept = diagonal if letter == other else (diagonal[0] + 1, *diagonal[1:3], diagonal[3] + 1)
            missing = (row[index][0] + 1, row[index][1] + 1, *row[index][2:])
            added = (row[index - 1][0] + 1, row[index - 1][1], row[index - 1][2] + 1, row[index - 1][3])
            diagonal, row[index] = row[index], min(kept, missing, added)
    return row[-1][1:]


def edit_distance(one: str, other: str) -> int:
    """Returns how many letters have to be inserted, deleted or replaced."""
    return sum(edits(one, other))


def _rate(sums: Tensor) -> Tensor:
    return sums[:, 0] / sums[:, 1]


def compare_words(
    spoken: Sequence[str], recognised: Sequence[str], speakers: Sequence[str], ids: Sequence[str]
) -> list[SpelledAs]:
    """Returns N words with their errors."""
    rows = zip(ids, speakers, spoken, recognised, strict=True)
    found = []
    for name, speaker, one, other in rows:
        missing, added, replaced = edits(one, other)
        found.append(
            SpelledAs(
                id=name,
                speaker=speaker,
                spoken=one,
                recognised=other,
                missing=missing,
                added=added,
                replaced=replaced,
            )
        )
    return found


def score_spelling(
    words: Sequence[SpelledAs], groups: Mapping[str, Sequence[str | None]] | None = None
) -> SpellingScores:
    """Returns the scores of N words, at least one.

    Args:
        words: as `compare_words` returns them.
        groups: group of each word, by kind, besides that of speakers.
    """
    counts = torch.tensor([[float(word.errors), float(len(word.spoken))] for word in words], dtype=torch.float64)
    speakers = [word.speaker for word in words]
    bootstrap = SpeakerBootstrap(speakers)
    right = bootstrap.fraction(counts[:, 0] == 0)
    assert right is not None
    letters = int(counts[:, 1].sum())
    return SpellingScores(
        num_words=len(words),
        num_letters=letters,
        num_speakers=len(set(speakers)),
        letter_error_rate=bootstrap.estimate(counts, _rate),
        missing=sum(word.missing for word in words) / letters,
        added=sum(word.added for word in words) / letters,
        replaced=sum(word.replaced for word in words) / letters,
        words_right=right,
        groups=tuple(_groups(counts, speakers, {"speaker": speakers, **(groups or {})})),
        words=tuple(sorted(words, key=lambda word: (-word.errors / len(word.spoken), word.id))),
    )


def _groups(counts: Tensor, speakers: Sequence[str], groups: Mapping[str, Sequence[str | None]]) -> list[ErrorGroup]:
    found = []
    for kind, names in groups.items():
        for name in sorted({one for one in names if one is not None}):
            members = [index for index, one in enumerate(names) if one == name]
            rate = SpeakerBootstrap([speakers[index] for index in members]).estimate(counts[members], _rate)
            letters = int(counts[members, 1].sum())
            found.append(ErrorGroup(kind=kind, name=name, letters=letters, error_rate=rate))
    return found


def format_spelling(scores: SpellingScores) -> str:
    """Returns the scores as lines of text, the worst groups and words first."""
    rate = scores.letter_error_rate
    lines = [
        f"Letter error rate: {percent(rate.value)} (95% interval {interval(rate)}; {rate.method})",
        f"  missing {percent(scores.missing)}, added {percent(scores.added)}, replaced {percent(scores.replaced)} of "
        f"{scores.num_letters} letters",
        f"Words right: {percent(scores.words_right.value)} of {scores.num_words} "
        f"(95% interval {interval(scores.words_right)})",
    ]
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        parts = sorted((one for one in scores.groups if one.kind == kind), key=lambda one: -one.error_rate.value)
        if len(parts) > 1:
            shown = [f"{one.name} {percent(one.error_rate.value)} of {one.letters}" for one in parts[:SHOWN]]
            lines.append(f"By {kind}, the worst first: {', '.join(shown)}")
    worst = [word for word in scores.words if word.errors][:SHOWN]
    if worst:
        lines.append("Worst words (spoken -> recognised):")
        lines += [f"  {word.spoken} -> {word.recognised or 'nothing'}  {word.speaker}  {word.id}" for word in worst]
    return "\n".join(lines)
