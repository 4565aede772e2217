"""Splits for your own recordings: a folder `<root>/<letter>/*`, or a manifest without splits.

The speaker is taken from names like `anna_nohash_0.wav`, the convention of Speech Commands (Warden, 2018). Splits are
by speaker; with fewer than three known speakers they are by file, and the caller should warn about it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechmlp.corpora.files import AUDIO_SUFFIXES
from speechmlp.data.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest
from speechmlp.data.splits import split_by_speaker
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

NO_HASH = "_nohash_"
"""Separates the speaker and the number of the take in a file name."""


def read_folder(root: str | Path) -> list[Utterance]:
    """Returns the recordings in `<root>/<letter>/`, sorted by path, without splits.

    Raises:
        UserError: there is no such folder, or it has no letter folder with recordings.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected recordings in {root}/<letter>/*.wav")
    utterances = [
        Utterance(path, folder.name.upper(), speaker_of(path))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and len(folder.name) == 1 and folder.name.upper() in LETTERS
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in AUDIO_SUFFIXES
    ]
    if not utterances:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise UserError(f"{root}: expected recordings in {root}/a/ to {root}/z/, found {found}")
    return utterances


def speaker_of(path: Path) -> str:
    """Returns the speaker in a file name, or `UNKNOWN_SPEAKER`."""
    speaker, marker, _ = path.stem.partition(NO_HASH)
    return speaker if marker and speaker else UNKNOWN_SPEAKER


def read_source(source: str | Path) -> list[Utterance]:
    """Returns the utterances of a folder or of a manifest file.

    Raises:
        UserError: the source does not exist, or as `read_folder` and `read_manifest`.
    """
    if not Path(source).exists():
        raise UserError(f"{source}: no such folder of letter folders, and no such manifest")
    return (
        read_folder(source) if Path(source).is_dir() else read_manifest(source, allow_shared=True, allow_outside=True)
    )


def require_shares(valid: float, test: float) -> None:
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
