"""Evaluation of a speller on recordings of spelled words, or on words joined from single letters."""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from speechmlp.audio.decoding import load
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.manifest import read_manifest
from speechmlp.data.spelled import read_spelled
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import joined_words
from speechmlp.evaluation.spelling import SpelledAs, SpellingEvaluation, compare_words, score_spelling
from speechmlp.labels import describe
from speechmlp.recognition.speller import Speller

MOST_SKIPPED = 0.1
"""Largest fraction of recordings that may be left out."""


def _characters_of(speller: Speller) -> tuple[str, ...]:
    """Returns the labels of a speller.

    Raises:
        UserError: words cannot be written with them, because one has several characters.
    """
    labels = speller.recognizer.labels
    if longer := [label for label in labels if len(label) > 1]:
        raise UserError(f"--spelling: expected a model with labels of one character, found {describe(longer)}")
    return labels


def _of_split(manifest: str | Path, splits: set[str | None], split: str | None) -> str | None:
    """Returns the split to evaluate; None for everything.

    Raises:
        UserError: the manifest has no such split.
    """
    if splits == {None}:
        if split is not None:
            raise UserError(f"{manifest}: has no splits; leave --split out to evaluate all of it")
        return None
    chosen = split or "test"
    if chosen not in splits:
        found = ", ".join(sorted(str(one) for one in splits))
        raise UserError(f"{manifest}: has no words of split {chosen!r}; expected one of {found} as --split")
    return chosen


def evaluate_names(
    speller: Speller,
    manifest: str | Path,
    *,
    name: str,
    split: str | None = None,
    outside: bool = False,
    on_error: str = "fail",
    warn: Callable[[str], None] = print,
) -> SpellingEvaluation:
    """Evaluates a speller on the recordings of a manifest of spelled words.

    Args:
        speller: recognises the words.
        manifest: see `read_spelled`.
        name: of the model, for the result.
        split: train, valid or test; None for test, or for all words of a manifest without splits.
        outside: whether recordings may lie outside the manifest's folder.
        on_error: fail or skip, for recordings that cannot be read.
        warn: called with a line for each recording that is left out.

    Raises:
        UserError: the manifest cannot be read, a recording cannot be read, or the split is empty.
    """
    words = read_spelled(manifest, outside, _characters_of(speller))
    split = _of_split(manifest, {word.split for word in words}, split)
    chosen = [word for word in words if split is None or word.split == split]
    read, recognised, problems = [], [], []
    for word in tqdm(chosen, "recognising", disable=None):
        try:
            recognised.append(speller(*load(word.path)).text)
            read.append(word)
        except UserError as error:
            if on_error == "fail":
                raise
            problems.append(str(error))
            warn(f"left out: {error}")
    _require_some(manifest, len(read), len(problems))
    found = compare_words(
        [word.text for word in read], recognised, [word.speaker for word in read], [w.id for w in read]
    )
    kinds = dict.fromkeys(kind for word in read for kind in word.groups)
    groups = {kind: [word.groups.get(kind) for word in read] for kind in kinds}
    return SpellingEvaluation(
        checkpoint=name,
        manifest=str(manifest),
        split=split,
        pause=None,
        left_out=len(problems),
        scores=score_spelling(found, groups),
    )


def evaluate_joined(
    speller: Speller,
    manifest: str | Path,
    pause: float,
    *,
    name: str,
    split: str | None = None,
    outside: bool = False,
    on_error: str = "fail",
    warn: Callable[[str], None] = print,
) -> SpellingEvaluation:
    """Evaluates a speller on words joined from the letters of a manifest, with pauses of so many seconds.

    The other arguments and errors are those of `evaluate_names`.
    """
    utterances = read_manifest(manifest, allow_shared=True, allow_outside=outside, labels=_characters_of(speller))
    split = _of_split(manifest, {utterance.split for utterance in utterances}, split)
    chosen = [utterance for utterance in utterances if split is None or utterance.split == split]
    problems: list[str] = []
    found: list[SpelledAs] = []
    for number, word in enumerate(tqdm(joined_words(chosen, pause, problems), "recognising", disable=None), start=1):
        if problems and on_error == "fail":
            break
        recognised = speller(word.samples, SAMPLE_RATE).text
        found += compare_words([word.text], [recognised], [word.speaker], [f"{word.speaker}/{number}"])
    if problems and on_error == "fail":
        raise UserError(problems[0])
    for problem in problems:
        warn(f"left out: {problem}")
    _require_some(manifest, len(chosen) - len(problems), len(problems))
    return SpellingEvaluation(
        checkpoint=name,
        manifest=str(manifest),
        split=split,
        pause=pause,
        left_out=len(problems),
        scores=score_spelling(found),
    )


def _require_some(manifest: str | Path, read: int, skipped: int) -> None:
    if not read or skipped > MOST_SKIPPED * (read + skipped):
        raise UserError(
            f"{manifest}: {skipped} of {read + skipped} recordings cannot be read; expected at most "
            f"{MOST_SKIPPED:.0%}; mend or remove them"
        )
