"""What is wrong with a corpus, by its manifest and by what its recordings measure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from speechmlp.audio.measures import CANCELLED, SILENT, Sound, faults
from speechmlp.audit.findings import KINDS, SEVERITIES, Finding, Item, Spread
from speechmlp.data.manifest import SPLITS, UNKNOWN_SPEAKER, Utterance, shared_speakers
from speechmlp.labels import LETTERS

Details = Sequence[tuple[int, str]]
"""Positions of utterances, and what is to be said of each."""

UNBALANCED = 5
"""The most frequent letter's count over the rarest one's."""
FEW_SPEAKERS = 3
COMPLETE = 0.8
"""Share of speakers who say all letters where the others count as incomplete."""
TIGHT = -30.0
"""dB: where the median recording begins or ends louder than this under its loudest, the corpus is cut tightly."""
EDGE = -12.0
"""dB under the loudest that count as cut into, in a corpus with room at the edges."""
TIGHT_EDGE = -1.0
"""The same in a corpus that is cut tightly: the loudest place is the edge."""
UNLIKE_LETTER = 12.0
"""dB over the letter's median edge that a tightly cut recording must have too."""
SHORTENED = 0.56
"""Share of the letter's median length that a tightly cut recording must stay under too."""
LOUDNESS = 20.0
"""dB from the median; more where the corpus spreads more."""
LOUDNESS_SPREAD = 4.5
"""Standard deviations, by the median of deviations."""
ENOUGH = 20
"""Recordings from which a median says something."""


def finding(kind: str, message: str, utterances: Sequence[Utterance] = (), details: Details = ()) -> Finding:
    """Returns a finding; a message that is empty is the kind's title with the number of utterances."""
    items = tuple(
        Item(id=u.id, path=str(u.path), letter=u.letter, speaker=u.speaker, split=u.split, detail=detail)
        for u, detail in ((utterances[place], detail) for place, detail in details)
    )
    text = message or f"{KINDS[kind].title}: {len(items)}, {_some([f'{item.path} ({item.detail})' for item in items])}"
    return Finding(kind=kind, severity=KINDS[kind].severity, message=text, items=items)


def _some(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings, the gravest first."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), kinds.index(found.kind))))


def count_letters(utterances: Sequence[Utterance]) -> dict[str, dict[str, int]]:
    """Returns split -> letter -> utterances, every letter there; `none` for utterances without a split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        counts[utterance.split or "none"][utterance.letter] += 1
    known = [split for split in (*SPLITS, "none") if split in counts]
    return {split: {letter: counts[split][letter] for letter in LETTERS} for split in known}


def check_manifest(utterances: Sequence[Utterance]) -> list[Finding]:
    """Returns what the manifest alone shows: splits, speakers, letters, balance."""
    letters = count_letters(utterances)
    found = []
    if "none" in letters:
        found.append(finding("no_splits", "the manifest has no splits; training needs them"))
    elif missing := [split for split in SPLITS if split not in letters]:
        found.append(finding("empty_split", f"splits without utterances: {', '.join(missing)}"))
    if shared := shared_speakers(utterances):
        message = f"speakers in more than one split: {len(shared)}, {_some(shared)}; accuracy is of known voices"
        found.append(finding("shared_speaker", message))
    found += _check_letters(letters)
    return found + _check_speakers(utterances)


def _check_letters(letters: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    found = []
    learnt = letters.get("train")
    tested = {
        split: [letter for letter in LETTERS if counts[letter] and learnt and not learnt[letter]]
        for split, counts in letters.items()
    }
    if any(tested.values()):
        names = "; ".join(f"{', '.join(missing)} in {split}" for split, missing in tested.items() if missing)
        found.append(finding("unlearnt_letter", f"letters that are tested and never learnt: {names}"))
    absent = {split: [letter for letter in LETTERS if not counts[letter]] for split, counts in letters.items()}
    if any(absent.values()):
        names = "; ".join(f"{split}: {' '.join(missing)}" for split, missing in absent.items() if missing)
        found.append(finding("missing_letter", f"letters that a split has not: {names}"))
    counts = {letter: count for letter, count in (learnt or next(iter(letters.values()))).items() if count}
    most, fewest = max(counts, key=lambda letter: counts[letter]), min(counts, key=lambda letter: counts[letter])
    if counts[most] > UNBALANCED * counts[fewest]:
        message = f"letters far more frequent than others: {most} {counts[most]} times, {fewest} {counts[fewest]} times"
        found.append(finding("unbalanced", f"{message}; training.balance draws rare ones more often"))
    return found


def _check_speakers(utterances: Sequence[Utterance]) -> list[Finding]:
    found = []
    unknown = [place for place, utterance in enumerate(utterances) if utterance.speaker == UNKNOWN_SPEAKER]
    if unknown:
        message = f"utterances whose speaker is not known: {len(unknown)} of {len(utterances)}"
        found.append(finding("unknown_speaker", message, utterances, [(place, "no speaker") for place in unknown]))
    says: dict[str, set[str]] = defaultdict(set)
    people: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker != UNKNOWN_SPEAKER:
            says[utterance.speaker].add(utterance.letter)
            people[utterance.split or "none"].add(utterance.speaker)
    few = [f"{split} {len(names)}" for split, names in people.items() if len(names) < FEW_SPEAKERS and split != "none"]
    if few:
        found.append(finding("few_speakers", f"splits with fewer than {FEW_SPEAKERS} speakers: {', '.join(few)}"))
    spoken = set().union(*says.values()) if says else set()
    lacking = {speaker: spoken - letters for speaker, letters in says.items() if letters != spoken}
    if lacking and len(lacking) <= (1 - COMPLETE) * len(says):
        names = [f"{speaker} {' '.join(sorted(letters))}" for speaker, letters in sorted(lacking.items())]
        message = f"speakers who lack letters that others have: {len(names)}, {_some(names)}"
        found.append(finding("incomplete_speaker", message))
    return found


def check_sounds(utterances: Sequence[Utterance], sounds: Mapping[int, Sound]) -> list[Finding]:
    """Returns what the recordings show, each by itself and beside the others.

    Args:
        utterances: of the manifest.
        sounds: position of an utterance -> what its recording measures; unreadable ones are left out.
    """
    details: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for place, sound in sounds.items():
        for kind, detail in faults(sound):
            details[kind].append((place, detail))
    audible = {place: s for place, s in sounds.items() if s.level >= SILENT and s.cancelled >= CANCELLED}
    if len(audible) >= ENOUGH:
        levels = np.array([sound.level for sound in audible.values()])
        median = float(np.median(levels))
        most = max(LOUDNESS, LOUDNESS_SPREAD * 1.4826 * float(np.median(np.abs(levels - median))))
        for place, sound in audible.items():
            if abs(sound.level - median) > most:
                details["loudness"].append((place, f"{sound.level:.0f} dBFS, the median is {median:.0f}"))
    tight = _check_edges(utterances, audible, details)
    found = [finding(kind, "", utterances, details[kind]) for kind in details]
    if tight:
        found.append(finding("tight", f"the corpus is cut tightly: {tight}"))
    return found


def _check_edges(
    utterances: Sequence[Utterance], sounds: Mapping[int, Sound], details: dict[str, list[tuple[int, str]]]
) -> str:
    """Adds recordings that are cut into; returns what is to be said of a corpus that is cut tightly."""
    if len(sounds) < ENOUGH:
        return ""
    said = []
    # In noise, or in a moment of sound, an edge says nothing.
    unclear = {place for kind in ("noisy", "short") for place, _ in details.get(kind, ())}
    lengths = _by_letter(utterances, {place: sound.seconds for place, sound in sounds.items()})
    for edge, kind in (("start", "cut_start"), ("end", "cut_end")):
        levels = {place: float(getattr(sound, edge)) for place, sound in sounds.items()}
        median = float(np.median(list(levels.values())))
        tight = median > TIGHT
        of_letter = _by_letter(utterances, levels)
        for place, level in levels.items():
            letter = utterances[place].letter
            if tight:
                unlike = level - of_letter[letter] > UNLIKE_LETTER
                if not (level > TIGHT_EDGE and unlike and sounds[place].seconds < SHORTENED * lengths[letter]):
                    continue
            elif level <= EDGE:
                continue
            if place not in unclear:
                usual = -of_letter[letter]
                detail = f"the {edge} is {abs(level):.0f} dB under the loudest, with other {letter} {usual:.0f} dB"
                details[kind].append((place, detail))
        if tight:
            said.append(f"the median {edge} is {-median:.0f} dB under the loudest")
    return ", ".join(said)


def _by_letter(utterances: Sequence[Utterance], values: Mapping[int, float]) -> dict[str, float]:
    """Returns the median of each letter's values."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for place, value in values.items():
        grouped[utterances[place].letter].append(value)
    return {letter: float(np.median(group)) for letter, group in grouped.items()}


def spreads(sounds: Iterable[Sound]) -> tuple[Spread, ...]:
    """Returns how lengths, levels and ranges are distributed over the audible recordings."""
    audible = [sound for sound in sounds if sound.level >= SILENT]
    if not audible:
        return ()
    measures = {
        ("length", "s"): [sound.seconds for sound in audible],
        ("loudness", "dBFS"): [sound.level for sound in audible],
        ("above its floor", "dB"): [sound.range for sound in audible],
    }
    found = []
    for (name, unit), values in measures.items():
        low, median, high = (round(float(value), 3) for value in np.percentile(values, (5, 50, 95)))
        found.append(Spread(name=name, unit=unit, low=low, median=median, high=high))
    return tuple(found)
