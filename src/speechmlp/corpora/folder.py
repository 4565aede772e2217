"""A folder of one's own, `<root>/<letter>/*`, or a manifest that has no splits yet.

The speaker comes from names like `anna_nohash_0.wav`, the habit of Speech Commands (Warden, 2018). Splits are by
speaker; where no speakers are known they are by file, and the caller should say so.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechmlp.corpora.files import AUDIO_SUFFIXES
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest, split_by_speaker


def read_folder(root: str | Path) -> list[Utterance]:
    """Returns the recordings in `<root>/<letter>/`, sorted by path, without splits.

    Raises:
        UserError: there is no such folder, or no letter folder in it holds a recording.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected recordings in {root}/<letter>/*.wav")
    utterances = [
        Utterance(path, folder.name.upper(), _speaker(path))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and len(folder.name) == 1 and folder.name.upper() in LETTERS
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in AUDIO_SUFFIXES
    ]
    if not utterances:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise UserError(f"{root}: expected recordings in {root}/a/ to {root}/z/, found {found}")
    return utterances


def _speaker(path: Path) -> str:
    speaker, marker, _ = path.stem.partition("_nohash_")
    return speaker if marker else UNKNOWN_SPEAKER


def read_source(source: str | Path) -> list[Utterance]:
    """Returns the utterances of a folder or of a manifest file, whichever `source` is."""
    return read_folder(source) if Path(source).is_dir() else read_manifest(source)


def assign_splits(utterances: Sequence[Utterance], valid: float, test: float) -> tuple[list[Utterance], bool]:
    """Returns the utterances with a split each, and whether the splits are by speaker.

    Args:
        utterances: their present splits are replaced.
        valid: share of speakers for validation.
        test: share of speakers for the test.
    """
    by_speaker = any(utterance.speaker != UNKNOWN_SPEAKER for utterance in utterances)
    keys = [utterance.speaker if by_speaker else utterance.id for utterance in utterances]
    splits = split_by_speaker(keys, valid, test)
    return [replace(item, split=splits[key]) for item, key in zip(utterances, keys, strict=True)], by_speaker
