"""Which files in a folder are recordings. Everything else is left out, counted and listed."""

import os
import re
from pathlib import Path

# fmt: off
SUFFIXES = frozenset((
    ".3g2", ".3gp", ".3gpp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".alac", ".amr", ".ape", ".au", ".avr", ".awb",
    ".bwf", ".caf", ".eac3", ".flac", ".gsm", ".ircam", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2", ".mp3",
    ".mp4", ".mpc", ".mpga", ".nist", ".oga", ".ogg", ".ogv", ".opus", ".paf", ".pvf", ".qta", ".rf64", ".sf", ".snd",
    ".sph", ".spx", ".svx", ".tak", ".tta", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wv", ".wve",
))
# fmt: on
"""Suffixes of names of recordings, in any case. Whether a file can be decoded is decided by its content."""
MARKS = re.compile(
    rb"RIFF....WAVE|RF64|fLaC|OggS|ID3|FORM....AIF|\.snd|NIST_1A|caff|#!AMR|\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11|"
    rb"....ftyp(?!heic|heix|mif1|avif)",
    re.DOTALL,
)
"""How recordings begin whose names have other suffixes or none."""
MOST_LISTED = 1000


class LeftOut:
    """Files and folders that are not recordings, each with the reason."""

    def __init__(self) -> None:
        self.reasons: dict[Path, str] = {}

    def add(self, path: Path, reason: str) -> None:
        """Adds one."""
        self.reasons[path] = reason

    def lines(self) -> list[str]:
        """Returns one line for each, by path, at most `MOST_LISTED`, and one with their number."""
        if not self.reasons:
            return []
        listed = [f"left out: {' '.join(str(path).split())}: {self.reasons[path]}" for path in sorted(self.reasons)]
        return [*listed[:MOST_LISTED], f"left out in all: {len(listed)} files and folders"]


def is_hidden(path: Path) -> bool:
    """Returns whether a file is hidden, as `.DS_Store` and the `._a.wav` that macOS writes next to `a.wav`."""
    return path.name.startswith(".")


def why_not(path: Path) -> str | None:
    """Returns why a file in a folder is not a recording, or None if it is one, by its name or first bytes."""
    if is_hidden(path):
        return "a hidden file"
    if not path.is_file() and not path.is_symlink():
        return "not a file"
    if path.suffix.lower() in SUFFIXES:
        return None
    try:
        with path.open("rb") as file:
            first = file.read(16)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None if MARKS.match(first) else "not an audio file"


def recordings_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """Returns the recordings in a folder at any depth, sorted; adds what else is in it to `left_out`.

    Links to folders are followed, unless they lead to a folder above.
    """
    found: list[Path] = []
    waiting = [(folder, frozenset[tuple[int, int]]())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            entries = list(folder.iterdir())
        except OSError as error:
            left_out.add(folder, f"cannot be read: {error.strerror or error}")
            continue
        here = (status.st_dev, status.st_ino)
        if here in above:
            left_out.add(folder, "a link to a folder above it")
            continue
        for entry in entries:
            if not os.path.isdir(entry):  # noqa: PTH112 - has an answer for every name
                if reason := why_not(entry):
                    left_out.add(entry, reason)
                else:
                    found.append(entry)
            elif is_hidden(entry):
                left_out.add(entry, "a hidden folder")
            else:
                waiting.append((entry, above | {here}))
    return sorted(found, key=str)
