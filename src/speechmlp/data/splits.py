"""Who learns, who validates and who tests: splits by speaker, decided by a hash of the name."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from speechmlp.data.manifest import SPLITS, Split


def _position(name: str) -> float:
    """Returns a place between 0 and 1, the same wherever and whenever it is asked for."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64


def split_by_speaker(
    speakers: Sequence[str], letters: Sequence[str], valid: float = 0.1, test: float = 0.1
) -> dict[str, Split]:
    """Returns the split of each speaker.

    A speaker keeps its split when others come or go (the idea of Speech Commands' `which_set`, Warden, 2018), except
    that no split goes short: with three speakers or more each gets at least one, and each letter that three speakers
    say is in every split. What is missing is taken from the training speakers whose hashes come first.

    Args:
        speakers: of each utterance.
        letters: of each utterance.
        valid: share of speakers for validation.
        test: share of speakers for the test.
    """
    says: dict[str, set[str]] = defaultdict(set)
    for speaker, letter in zip(speakers, letters, strict=True):
        says[speaker].add(letter)
    ordered = sorted(says, key=lambda speaker: (_position(speaker), speaker))
    splits: dict[str, Split] = {}
    for speaker in ordered:
        place = _position(speaker)
        splits[speaker] = "test" if place < test else "valid" if place < test + valid else "train"
    wanted: list[Split] = [split for split, share in zip(SPLITS, (1, valid, test), strict=True) if share > 0]
    if len(ordered) < 3:
        return splits
    # First no split stays empty (the letter ""), then no letter is missing from one. A speaker may move where its split
    # keeps another one, and, once each has somebody, another one for each letter that the speaker says.
    counts = Counter((splits[speaker], letter) for speaker in ordered for letter in ("", *says[speaker]))
    for letter in ("", *sorted(set(letters))):
        sayers = [speaker for speaker in ordered if not letter or letter in says[speaker]]
        for split in reversed(wanted) if len(sayers) >= 3 else ():
            if counts[split, letter]:
                continue
            free = [
                s for s in sayers if all(counts[splits[s], said] > 1 for said in ("", *(says[s] if letter else ())))
            ]
            fullest = max(wanted, key=lambda other: sum(splits[s] == other for s in free))
            moved = next((s for s in free if splits[s] == fullest), None)
            if moved is not None:
                counts.subtract((splits[moved], said) for said in ("", *says[moved]))
                splits[moved] = split
                counts.update((split, said) for said in ("", *says[moved]))
    return splits


def deal(genders: Mapping[str, str | None], parts: int) -> list[list[str]]:
    """Returns speakers in parts of equal size and equal shares of genders, by a hash of the name.

    Args:
        genders: speaker -> gender.
        parts: how many.
    """
    ordered = sorted(genders, key=lambda speaker: (genders[speaker] or "", _position(speaker), speaker))
    return [ordered[part::parts] for part in range(parts)]
