"""Checks of a corpus: its manifest, and measurements of its recordings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from speechmlp.audio.measures import SILENT, Sound, faults
from speechmlp.audit.findings import KINDS, SEVERITIES, Finding, Item, Spread
from speechmlp.data.manifest import SPLITS, UNKNOWN_SPEAKER, Utterance, shared_speakers, similar_speakers
from speechmlp.labels import LETTERS

Details = Sequence[tuple[int, str]]
"""Index of each utterance concerned, with a description."""

UNBALANCED = 5
"""Largest acceptable ratio of the most frequent letter's count to the rarest one's."""
FEW_SPEAKERS = 3
COMPLETE = 0.8
"""Fraction of speakers who must have all letters before the others count as incomplete."""
TIGHT = -30.0
"""dB relative to the loudest 10 ms: if the median edge is louder than this, the corpus is cut tightly."""
EDGE = -12.0
"""dB relative to the loudest 10 ms: a louder edge counts as cut off, in a corpus with room at the edges."""
TIGHT_EDGE = -1.0
"""The same in a corpus that is cut tightly: the edge is the loudest part."""
UNLIKE_LETTER = 12.0
"""dB: a tightly cut recording counts as cut off only if its edge is also this far above its letter's median edge."""
SHORTENED = 0.56
"""... and if it is also shorter than this fraction of its letter's median length."""
LOUDNESS = 20.0
"""Largest acceptable distance from the median level in dB, or `LOUDNESS_SPREAD` if that is more."""
LOUDNESS_SPREAD = 4.5
"""The same in standard deviations, estimated by the median absolute deviation."""
ENOUGH = 20
"""Recordings needed for a meaningful median."""


def finding(kind: str, message: str, utterances: Sequence[Utterance] = (), details: Details = ()) -> Finding:
    """Returns a finding; an empty message becomes the kind's title with the number of utterances and examples."""
    items = tuple(
        Item(id=u.id, path=str(u.path), letter=u.letter, speaker=u.speaker, split=u.split, detail=detail)
        for u, detail in ((utterances[index], detail) for index, detail in details)
    )
    text = message or f"{KINDS[kind].title}: {len(items)}, {_some([f'{item.path} ({item.detail})' for item in items])}"
    return Finding(kind=kind, severity=KINDS[kind].severity, message=text, items=items)


def _some(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings sorted by severity, errors first."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), kinds.index(found.kind))))


def count_letters(utterances: Sequence[Utterance], names: Sequence[str] = LETTERS) -> dict[str, dict[str, int]]:
    """Returns split -> letter -> number of utterances, with all letters; `none` holds utterances without a split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        counts[utterance.split or "none"][utterance.letter] += 1
    known = [split for split in (*SPLITS, "none") if split in counts]
    return {split: {letter: counts[split][letter] for letter in names} for split in known}


def check_manifest(utterances: Sequence[Utterance], names: Sequence[str] = LETTERS) -> list[Finding]:
    """Returns findings from the manifest alone: splits, speakers, letters, balance."""
    letters = count_letters(utterances, names)
    found = []
    if "none" in letters:
        found.append(finding("no_splits", "the manifest has no splits; training needs them"))
    elif missing := [split for split in SPLITS if split not in letters]:
        found.append(finding("empty_split", f"splits without utterances: {', '.join(missing)}"))
    if shared := shared_speakers(utterances):
        message = (
            f"speakers in more than one split: {len(shared)}, {_some(shared)}; accuracy is measured on known voices"
        )
        found.append(finding("shared_speaker", message))
    for kind, similar in zip(("similar_speaker", "similar_name"), similar_speakers(utterances), strict=True):
        if similar:
            found.append(finding(kind, f"{KINDS[kind].title}: {len(similar)}, {_some(similar)}"))
    found += _check_letters(letters)
    return found + _check_speakers(utterances)


def _check_letters(letters: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    found = []
    trained = letters.get("train")
    tested = {
        split: [letter for letter in counts if counts[letter] and trained and not trained[letter]]
        for split, counts in letters.items()
    }
    if any(tested.values()):
        names = "; ".join(f"{', '.join(missing)} in {split}" for split, missing in tested.items() if missing)
        found.append(finding("unlearnt_letter", f"letters without training utterances: {names}"))
    unrecorded = [letter for letter in next(iter(letters.values())) if not any(one[letter] for one in letters.values())]
    if unrecorded:
        found.append(finding("unrecorded", f"labels without any recording: {', '.join(unrecorded)}"))
    absent = {
        split: [letter for letter in counts if not counts[letter] and letter not in unrecorded]
        for split, counts in letters.items()
    }
    if any(absent.values()):
        names = "; ".join(f"{split}: {' '.join(missing)}" for split, missing in absent.items() if missing)
        found.append(finding("missing_letter", f"letters missing from a split: {names}"))
    counts = {letter: count for letter, count in (trained or next(iter(letters.values()))).items() if count}
    most, fewest = max(counts, key=lambda letter: counts[letter]), min(counts, key=lambda letter: counts[letter])
    if counts[most] > UNBALANCED * counts[fewest]:
        message = f"letters far more frequent than others: {most} {counts[most]} times, {fewest} {counts[fewest]} times"
        found.append(finding("unbalanced", f"{message}; training.balance draws rare ones more often"))
    return found


def _check_speakers(utterances: Sequence[Utterance]) -> list[Finding]:
    found = []
    unknown = [index for index, utterance in enumerate(utterances) if utterance.speaker == UNKNOWN_SPEAKER]
    if unknown:
        message = f"utterances with an unknown speaker: {len(unknown)} of {len(utterances)}"
        found.append(finding("unknown_speaker", message, utterances, [(index, "no speaker") for index in unknown]))
    said: dict[str, set[str]] = defaultdict(set)
    people: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker != UNKNOWN_SPEAKER:
            said[utterance.speaker].add(utterance.letter)
            people[utterance.split or "none"].add(utterance.speaker)
    few = [f"{split} {len(names)}" for split, names in people.items() if len(names) < FEW_SPEAKERS and split != "none"]
    if few:
        found.append(finding("few_speakers", f"splits with fewer than {FEW_SPEAKERS} speakers: {', '.join(few)}"))
    spoken = set().union(*said.values()) if said else set()
    lacking = {speaker: spoken - letters for speaker, letters in said.items() if letters != spoken}
    if lacking and len(lacking) <= (1 - COMPLETE) * len(said):
        names = [f"{speaker} {' '.join(sorted(letters))}" for speaker, letters in sorted(lacking.items())]
        message = f"speakers without letters that others have: {len(names)}, {_some(names)}"
        found.append(finding("incomplete_speaker", message))
    return found


def check_sounds(utterances: Sequence[Utterance], sounds: Mapping[int, Sound]) -> list[Finding]:
    """Returns findings from the recordings, each by itself and compared with the others.

    Args:
        utterances: of the manifest.
        sounds: index of an utterance -> its measurements; without unreadable recordings.
    """
    details: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, sound in sounds.items():
        for kind, detail in faults(sound):
            details[kind].append((index, detail))
    audible = {index: s for index, s in sounds.items() if s.level >= SILENT}
    if len(audible) >= ENOUGH:
        levels = np.array([sound.level for sound in audible.values()])
        median = float(np.median(levels))
        most = max(LOUDNESS, LOUDNESS_SPREAD * 1.4826 * float(np.median(np.abs(levels - median))))
        for index, sound in audible.items():
            if abs(sound.level - median) > most:
                details["loudness"].append((index, f"{sound.level:.0f} dBFS, the median is {median:.0f}"))
    tight = _check_edges(utterances, audible, details)
    found = [finding(kind, "", utterances, details[kind]) for kind in details]
    if tight:
        found.append(finding("tight", f"the corpus is cut tightly: {tight}"))
    return found


def _check_edges(
    utterances: Sequence[Utterance], sounds: Mapping[int, Sound], details: dict[str, list[tuple[int, str]]]
) -> str:
    """Adds recordings that are cut off; returns a description if the corpus is cut tightly, else an empty text."""
    if len(sounds) < ENOUGH:
        return ""
    tight_edges = []
    # The level of an edge means nothing in noise or in a very short recording.
    unclear = {index for kind in ("noisy", "short") for index, _ in details.get(kind, ())}
    lengths = _by_letter(utterances, {index: sound.seconds for index, sound in sounds.items()})
    for edge, kind in (("start", "cut_start"), ("end", "cut_end")):
        levels = {index: float(getattr(sound, edge)) for index, sound in sounds.items()}
        median = float(np.median(list(levels.values())))
        tight = median > TIGHT
        of_letter = _by_letter(utterances, levels)
        for index, level in levels.items():
            letter = utterances[index].letter
            if tight:
                unlike = level - of_letter[letter] > UNLIKE_LETTER
                if not (level > TIGHT_EDGE and unlike and sounds[index].seconds < SHORTENED * lengths[letter]):
                    continue
            elif level <= EDGE:
                continue
            if index not in unclear:
                usual = -of_letter[letter]
                detail = f"the {edge} is {abs(level):.0f} dB below the loudest part; median of {letter}: {usual:.0f} dB"
                details[kind].append((index, detail))
        if tight:
            tight_edges.append(f"the median {edge} is {-median:.0f} dB below the loudest part")
    return ", ".join(tight_edges)


def _by_letter(utterances: Sequence[Utterance], values: Mapping[int, float]) -> dict[str, float]:
    """Returns the median of each letter's values."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for index, value in values.items():
        grouped[utterances[index].letter].append(value)
    return {letter: float(np.median(group)) for letter, group in grouped.items()}


def spreads(sounds: Iterable[Sound]) -> tuple[Spread, ...]:
    """Returns the distribution of lengths, levels and ranges over the audible recordings."""
    audible = [sound for sound in sounds if sound.level >= SILENT]
    if not audible:
        return ()
    measures = {
        ("length", "s"): [sound.seconds for sound in audible],
        ("loudness", "dBFS"): [sound.level for sound in audible],
        ("above the noise floor", "dB"): [sound.range for sound in audible],
    }
    found = []
    for (name, unit), values in measures.items():
        low, median, high = (round(float(value), 3) for value in np.percentile(values, (5, 50, 95)))
        found.append(Spread(name=name, unit=unit, low=low, median=median, high=high))
    return tuple(found)
