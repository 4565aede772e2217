"""Find the recordings of a published corpus by name, and report missing, unreadable and duplicate files."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from tqdm import tqdm

from speechmlp.errors import UserError

Key = tuple[str, ...]
"""Identifies a recording of a corpus: part, speaker, letter, take."""
SHOWN = 5
"""Number of missing or unreadable files that are named; the rest is counted."""


@dataclass
class Findings:
    """Problems found while reading a corpus.

    Attributes:
        copies: number of files skipped because another file has the same recording.
        broken: files skipped because they cannot be read, with the reason.
        missing: names of recordings of the published corpus that are missing.
    """

    copies: int = 0
    broken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def lines(self, whole: int) -> list[str]:
        """Returns warnings; the published corpus has `whole` recordings."""
        lines = []
        if self.missing:
            lines.append(f"warning: {len(self.missing)} of {whole} recordings are missing: {_some(self.missing)}")
        if self.broken:
            lines.append(f"warning: {len(self.broken)} files cannot be read and are skipped: {_some(self.broken)}")
        if self.copies:
            lines.append(f"{self.copies} files are copies of others, by their names, and are skipped")
        return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def find_recordings(
    source: str | Path, name: re.Pattern[str], key: Callable[[Path, re.Match[str]], Key | None], expected: str
) -> tuple[dict[Key, Path], int]:
    """Returns key -> recording for a folder, sorted by key, and the number of files that are copies of others.

    If a recording has several files, such as `.wav` and `.sph`, a `.wav` file is preferred, then the first by name.

    Args:
        source: the folder.
        name: pattern of file names.
        key: returns the key of a file, or None if it does not belong to the corpus.
        expected: description of the expected content, for the message.

    Raises:
        UserError: there is no such folder, or it has no recording of this corpus.
    """
    source = Path(source)
    if not source.is_dir():
        kind = "is a file; unpack the archive and pass its folder" if source.exists() else "no such folder"
        raise UserError(f"{source}: {kind}; expected {expected}")
    found: dict[Key, Path] = {}
    count = 0
    for path in sorted(source.rglob("*"), key=lambda path: (path.suffix.lower() != ".wav", path)):
        match = name.fullmatch(path.name)
        if match and (named := key(path, match)) is not None and path.is_file():
            found.setdefault(named, path)
            count += 1
    if not found:
        some = ", ".join(sorted(path.name for path in source.iterdir())[:5]) or "nothing"
        raise UserError(f"{source}: expected {expected}; found {some}")
    return dict(sorted(found.items())), count - len(found)


def check_headers(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns file -> short reason for the files that libsndfile cannot open."""
    problems = {}
    for path in tqdm(list(paths), "reading headers", unit=" files", disable=None):
        try:
            frames = soundfile.info(path).frames
        except (RuntimeError, OSError, ValueError) as error:
            with path.open("rb") as file:
                header = file.read(1024)
            packed = header.startswith(b"NIST_1A") and b"shorten" in header
            problems[path] = (
                "compressed by shorten; convert it with sph2pipe" if packed else " ".join(str(error).split())
            )
            continue
        if frames == 0:
            problems[path] = "contains no samples"
    return problems
