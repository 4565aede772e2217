"""Takes: recordings of single letters that somebody makes, in a folder `<label>/<speaker>_nohash_<n>.wav`."""

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio.measures import faults, measure
from speechmlp.corpora.folder import NO_HASH
from speechmlp.errors import UserError
from speechmlp.files import whole_file
from speechmlp.labels import LETTERS

AGAIN = ("silent", "clipped", "noisy", "dropout", "early", "late", "short")
"""Problems after which a letter has to be said again."""
LOW = -40.0
"""dBFS: below this level of the loudest 10 ms, 16 bits are used poorly."""
EDGE = -15.0
"""dB relative to the loudest 10 ms: if the first or last 10 ms are louder, the letter is cut off."""
ADVICE = {
    "silent": "silence; is this the right microphone?",
    "short": "too short for a letter",
    "clipped": "too loud; turn the gain down or move away",
    "noisy": "hardly louder than the noise; move closer",
    "dropout": "a gap in the stream; close other programs",
    "offset": "the sound card adds a constant offset; harmless",
    "narrow": "nothing above 4 kHz; a telephone headset?",
    "low_rate": "the microphone records at less than 16 kHz",
}


def find_problems(waveform: Tensor, rate: int) -> list[tuple[str, str]]:
    """Returns the problems of a take, float32 [C, T] at `rate` Hz, with advice; those in `AGAIN` spoil it."""
    sound = measure(waveform, rate)
    found = [(kind, f"{ADVICE[kind]} ({detail})") for kind, detail in faults(sound) if kind in ADVICE]
    kinds = [kind for kind, _ in found]
    if "silent" not in kinds and sound.level < LOW:
        found.append(("quiet", f"quiet, {sound.level:.0f} dBFS; move closer or turn the gain up"))
    elif "silent" not in kinds and "noisy" not in kinds:  # in noise, the level of an edge means nothing
        if sound.start > EDGE:
            found.append(("early", "the start is cut off; wait a moment before you speak"))
        if sound.end > EDGE:
            found.append(("late", "the end is cut off; speak sooner"))
    return found


def require_folder_names(labels: Sequence[str], source: str) -> None:
    """Checks that labels can be names of folders.

    Raises:
        UserError: one cannot.
    """
    for label in labels:
        if label.startswith(".") or set('/\\:*?"<>|') & set(label):
            raise UserError(f"{source}: expected texts that are names of folders too, found {label!r}")


def take_path(folder: Path, label: str, speaker: str, number: int) -> Path:
    """Returns the file of a take."""
    return folder / (label.lower() if label in LETTERS else label) / f"{speaker}{NO_HASH}{number}.wav"


def write_take(path: Path, samples: NDArray, rate: int) -> None:  # type: ignore[type-arg]
    """Writes a take, samples [T] between -1 and 1 or int16, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(wav_bytes(samples, rate))
