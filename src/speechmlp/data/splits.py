"""Speaker-disjoint splits by hash."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from speechmlp.data.manifest import SPLITS, Split, Utterance


def _position(name: str) -> float:
    """Returns a number between 0 and 1 that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64


def split_by_speaker(
    speakers: Sequence[str], letters: Sequence[str], valid: float = 0.1, test: float = 0.1
) -> dict[str, Split]:
    """Returns the split of each speaker.

    A speaker keeps the split when others are added or removed (as in `which_set` of Speech Commands, Warden, 2018),
    with one exception: with three or more speakers, each split gets at least one, and a letter of three or more
    speakers is in every split. Missing speakers are taken from the fullest split, those with the first hashes.

    Args:
        speakers: speaker of each utterance.
        letters: letter of each utterance.
        valid: fraction of speakers for the validation set.
        test: fraction of speakers for the test set.
    """
    says: dict[str, set[str]] = defaultdict(set)
    for speaker, letter in zip(speakers, letters, strict=True):
        says[speaker].add(letter)
    ordered = sorted(says, key=lambda speaker: (_position(speaker), speaker))
    splits: dict[str, Split] = {}
    for speaker in ordered:
        position = _position(speaker)
        splits[speaker] = "test" if position < test else "valid" if position < test + valid else "train"
    wanted: list[Split] = [split for split, size in zip(SPLITS, (1, valid, test), strict=True) if size > 0]
    if len(ordered) < 3:
        return splits
    # First fill empty splits (the letter ""), then add missing letters. A speaker may move if another one stays in its
    # split, and, in the second step, another one for each of its letters.
    counts = Counter((splits[speaker], letter) for speaker in ordered for letter in ("", *says[speaker]))
    for letter in ("", *sorted(set(letters))):
        candidates = [speaker for speaker in ordered if not letter or letter in says[speaker]]
        for split in reversed(wanted) if len(candidates) >= 3 else ():
            if counts[split, letter]:
                continue
            free = [
                s for s in candidates if all(counts[splits[s], said] > 1 for said in ("", *(says[s] if letter else ())))
            ]
            fullest = max(wanted, key=lambda other: sum(splits[s] == other for s in free))
            moved = next((s for s in free if splits[s] == fullest), None)
            if moved is not None:
                counts.subtract((splits[moved], said) for said in ("", *says[moved]))
                splits[moved] = split
                counts.update((split, said) for said in ("", *says[moved]))
    return splits


def split_counts(utterances: Iterable[Utterance]) -> str:
    """Returns the size of each split as text, as in `train: 80, valid: 10, test: 10`."""
    counts = Counter(utterance.split for utterance in utterances)
    return ", ".join(f"{split}: {counts[split]}" for split in SPLITS)


def deal(genders: Mapping[str, str | None], parts: int) -> list[list[str]]:
    """Returns speakers divided into parts of equal size and gender balance, by a hash of the name.

    Args:
        genders: speaker -> gender.
        parts: number of parts.
    """
    ordered = sorted(genders, key=lambda speaker: (genders[speaker] or "", _position(speaker), speaker))
    return [ordered[part::parts] for part in range(parts)]
