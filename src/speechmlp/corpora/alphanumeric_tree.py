"""The published tree of the Alphanumeric Audio Dataset: people, transcripts and recordings."""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speechmlp.audio.recordings import SUFFIXES
from speechmlp.data.manifest import Split
from speechmlp.errors import UserError

KINDS = ("Names", "Numbers")
"""Folders of recordings; the third one, Addresses, is not read."""


@dataclass(frozen=True)
class Speaker:
    """A person, with the transcripts and the recordings of a name and a number."""

    id: str
    gender: str | None
    groups: Mapping[str, str]
    name: str
    number: str
    recordings: dict[str, Path]

    @property
    def split(self) -> Split:
        """The split, by the SHA-256 of the id: half of the people are for testing."""
        value = int(hashlib.sha256(self.id.encode()).hexdigest(), 16)
        return "test" if value % 2 == 0 else "valid" if value // 2 % 10 < 3 else "train"


def accent_of(nationality: str, language: str) -> str:
    """Returns a short name of a speaker's accent: indian, american, chinese or other."""
    nationality, language = nationality.casefold(), language.casefold()
    if language in ("chinese", "mandarin", "cantonese"):
        return "chinese"
    if re.match(r"indian|indo[- ]", nationality):
        return "indian"
    return "american" if nationality == "american" and language == "english" else "other"


def read_tree(source: str | Path) -> tuple[list[Speaker], list[str]]:
    """Returns the speakers, sorted by id, and the recordings that are missing.

    Args:
        source: the folder of `metadata.csv` and `audio_data`, or its parent.

    Raises:
        UserError: the folder is not this corpus.
    """
    source = Path(source)
    found = [*source.glob("metadata.csv"), *sorted(source.glob("*/metadata.csv"))]
    if not found:
        raise UserError(f"{source}: expected the Alphanumeric Audio Dataset, with metadata.csv and audio_data/")
    root = found[0].parent
    try:
        with found[0].open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {str(key).strip().casefold(): " ".join(str(value or "").split()) for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{found[0]}: cannot be read as a CSV file: {error}") from error
    needed = ("response_id", "file_name", "gender", "nationality", "native language", "name", "number")
    if not rows or any(column not in rows[0] for column in needed):
        raise UserError(f"{found[0]}: expected lines with the columns {', '.join(needed)}")
    speakers: dict[str, Speaker] = {}
    missing = []
    for row in rows:
        name = Path(row["file_name"])
        if name.parent.name not in KINDS or not re.fullmatch(r"[\w-]+", row["response_id"]):
            continue
        speaker = speakers.setdefault(row["response_id"], _speaker(row))
        recordings = sorted((root / "audio_data" / name.parent.name).glob(f"{row['response_id']}.*"))
        recordings = [path for path in recordings if path.suffix.lower() in SUFFIXES]
        if recordings:
            speaker.recordings[name.parent.name] = min(recordings, key=lambda path: path.suffix.lower() != ".wav")
        else:
            missing.append(row["file_name"])
    if not any(speaker.recordings for speaker in speakers.values()):
        raise UserError(f"{root}: expected recordings in audio_data/Names and audio_data/Numbers, found none")
    return [speakers[name] for name in sorted(speakers)], missing


def _speaker(row: Mapping[str, str]) -> Speaker:
    groups = {
        "accent": accent_of(row["nationality"], row["native language"]),
        "nationality": row["nationality"],
        "native_language": row["native language"],
        "device": row.get("recording machine", ""),
        "age": row.get("age", ""),
    }
    gender = row["gender"].casefold()
    return Speaker(
        id=row["response_id"],
        gender=gender if gender and not gender.startswith("prefer not") else None,
        groups={name: value for name, value in groups.items() if value},
        name=row["name"],
        number=re.sub(r"\D", "", row["number"]),
        recordings={},
    )
