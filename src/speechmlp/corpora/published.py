"""What published corpora of single letters have in common: files found by name, copies, missing and broken ones."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from tqdm import tqdm

from speechmlp.errors import UserError

Key = tuple[str, ...]
"""What tells a recording of a corpus from all others: part, speaker, letter, take."""
SHOWN = 5
"""Names of missing or broken files that are told; the rest is counted."""


@dataclass
class Findings:
    """What reading a corpus came upon.

    Attributes:
        copies: files that are another file's recording once more, and are left out.
        broken: files that cannot be read, and why; left out too.
        missing: names of recordings that the whole corpus has and this copy has not.
    """

    copies: int = 0
    broken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def lines(self, whole: int) -> list[str]:
        """Returns warnings, for a corpus of so many recordings when it is whole."""
        lines = []
        if self.missing:
            lines.append(f"warning: {len(self.missing)} of {whole} recordings are missing: {_some(self.missing)}")
        if self.broken:
            lines.append(f"warning: {len(self.broken)} files cannot be read and are left out: {_some(self.broken)}")
        if self.copies:
            lines.append(f"{self.copies} files are copies of others, by their names, and are left out")
        return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def find_recordings(
    source: str | Path, name: re.Pattern[str], key: Callable[[Path, re.Match[str]], Key | None], expected: str
) -> tuple[dict[Key, Path], int]:
    """Returns the recordings under a folder by their keys, sorted, and how many files are copies of others.

    Of several files of one recording, as where `.wav` and `.sph` lie side by side, the first by name that ends in
    `.wav` is taken.

    Args:
        source: the folder.
        name: what file names look like.
        key: the key of a file, or None where it is no part of the corpus.
        expected: what the folder should hold, for the message.

    Raises:
        UserError: there is no such folder, or it holds no recording of this corpus.
    """
    source = Path(source)
    if not source.is_dir():
        kind = "is a file; unpack the archive first and name its folder" if source.exists() else "no such folder"
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
    """Returns the files that libsndfile cannot open, each with the reason in a few words."""
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
            problems[path] = "holds no samples"
    return problems
