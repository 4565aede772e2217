"""Splits for your own recordings: a folder `<root>/<letter>/*`, or a manifest without splits.

The speaker is taken from names like `anna_nohash_0.wav`, the convention of Speech Commands (Warden, 2018). Splits are
by speaker; with fewer than three known speakers they are by file, and the caller should warn about it.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechmlp.audio.recordings import LeftOut, is_hidden, why_not
from speechmlp.data.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest
from speechmlp.data.splits import split_by_speaker
from speechmlp.data.text import clean
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, as_option, describe, find_label

NO_HASH = "_nohash_"
"""Separates the speaker and the number of the take in a file name."""
LETTER_NAMES = {"zed": "Z", "zee": "Z", "aitch": "H", "haitch": "H", "doubleu": "W", "doubleyou": "W"}
"""Names of letters that are not other words."""


def letter_of(name: str, labels: tuple[str, ...] = LETTERS) -> str | None:
    """Returns the label that a folder is named after, or None; A to Z also by `Letter a`, zed, zee, aitch, double-u."""
    if (label := find_label(clean(name), labels)) is not None:
        return labels[label]
    words = re.split(r"[\s_.-]+", unicodedata.normalize("NFKC", clean(name)).casefold())
    word = "".join(word for word in words if word != "letter")
    letter = LETTER_NAMES.get(word, word.upper())
    return letter if letter in LETTERS and letter in labels else None


def _entries(folder: Path, left_out: LeftOut) -> list[Path]:
    """Returns what is in a folder, sorted, without what is hidden."""
    entries = sorted(folder.iterdir())
    for path in entries:
        if is_hidden(path):
            left_out.add(path, "hidden")
    return [path for path in entries if not is_hidden(path)]


def _recordings(folder: Path) -> int:
    """Returns how many recordings are in a folder."""
    try:
        return sum(1 for path in folder.iterdir() if not path.is_dir() and why_not(path) is None)
    except OSError:
        return 0


def read_folder(
    root: str | Path, left_out: LeftOut | None = None, labels: tuple[str, ...] = LETTERS
) -> list[Utterance]:
    """Returns the recordings in `<root>/<label>/`, sorted by path, without splits.

    Args:
        root: the folder.
        left_out: gets everything else in it.
        labels: that folders may be named after, A to Z also by other names of the letters.

    Raises:
        UserError: there is no such folder, or it has no letter folder with recordings.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected recordings in {root}/<letter>/*.wav")
    left_out = LeftOut() if left_out is None else left_out
    utterances, others = [], list[tuple[str, int]]()
    for folder in _entries(root, left_out):
        if not folder.is_dir():
            left_out.add(folder, "not in the folder of a letter")
        elif (letter := letter_of(folder.name, labels)) is None:
            count = _recordings(folder)
            others += [(clean(folder.name), count)] if count else []
            left_out.add(folder, f"not the folder of a letter{_taken(labels, clean(folder.name), count)}")
        else:
            for path in _entries(folder, left_out):
                reason = "a folder in the folder of a letter" if path.is_dir() else why_not(path)
                reason = reason or (None if path.exists() else "a link to a missing file")
                if reason:
                    left_out.add(path, reason)
                else:
                    utterances.append(Utterance(path, letter, speaker_of(path)))
    if not utterances:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        wanted = f"{root}/a/ to {root}/z/" if labels == LETTERS else f"folders named {describe(labels)}"
        counts = ", ".join(f"{name} ({count})" for name, count in others)
        hint = f"; folders with recordings: {counts}; {as_option([n for n, _ in others])} takes them" if others else ""
        raise UserError(f"{root}: expected recordings in {wanted}, found {found}{hint}")
    return utterances


def speaker_of(path: Path) -> str:
    """Returns the speaker in a file name, or `UNKNOWN_SPEAKER`."""
    name, marker, _ = path.stem.partition(NO_HASH)
    speaker = clean(name)
    return speaker if marker and speaker else UNKNOWN_SPEAKER


def _taken(labels: tuple[str, ...], name: str, count: int) -> str:
    """Returns how the recordings of a folder with another name can be taken."""
    return f"; {as_option([*labels, name])} takes its {count} recordings" if count else ""


def read_source(
    source: str | Path, left_out: LeftOut | None = None, labels: tuple[str, ...] = LETTERS
) -> list[Utterance]:
    """Returns the utterances of a folder or of a manifest file.

    Args:
        source: the folder or file.
        left_out: gets what else is in the folder.
        labels: that recordings may have.

    Raises:
        UserError: the source does not exist, or as `read_folder` and `read_manifest`.
    """
    if not Path(source).exists():
        raise UserError(f"{source}: no such folder of letter folders, and no such manifest")
    if Path(source).is_dir():
        return read_folder(source, left_out, labels)
    return read_manifest(source, allow_shared=True, allow_outside=True, labels=labels)


def require_fractions(valid: float, test: float) -> None:
    """Checks fractions of speakers given by the user.

    Raises:
        UserError: a fraction is negative, or no speakers are left for training.
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise UserError("--valid and --test: expected fractions of 0 or more with a sum below 1")


def assign_splits(utterances: Sequence[Utterance], valid: float, test: float) -> tuple[list[Utterance], bool]:
    """Returns the utterances with new splits, and whether the splits are by speaker.

    Args:
        utterances: existing splits are replaced.
        valid: fraction of speakers for the validation set.
        test: fraction of speakers for the test set.
    """
    by_speaker = len({utterance.speaker for utterance in utterances} - {UNKNOWN_SPEAKER}) >= 3
    keys = [utterance.speaker if by_speaker else utterance.id for utterance in utterances]
    splits = split_by_speaker(keys, [utterance.letter for utterance in utterances], valid, test)
    return [replace(item, split=splits[key]) for item, key in zip(utterances, keys, strict=True)], by_speaker


def warning_of(utterances: Sequence[Utterance], by_speaker: bool) -> str | None:
    """Returns a warning about splits from `assign_splits` that are not by speaker, or None."""
    if by_speaker:
        return None
    known = {utterance.speaker for utterance in utterances} - {UNKNOWN_SPEAKER}
    if known:
        return (
            f"warning: splits by speaker need three speakers, but {len(known)} are known, so the splits are by file: "
            "accuracies are those on known voices, and training needs corpus.shared_speakers=true"
        )
    return (
        "warning: no speakers are known, so the splits are by file and accuracies will be too high; "
        "name files <speaker>_nohash_<n>.wav to split by speaker"
    )
