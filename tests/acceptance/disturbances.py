"""Recognises letters in recordings that hold other sounds too, and reports how many are lost to each kind of sound.

Real letters are cut out, put at a random place of 3 to 4 s of near silence, and disturbed: by an offset, rumble, a
knock, a beep, other speech. A letter is lost if it is right in the plain recording and not in the disturbed one.

    python -m tests.acceptance.disturbances --data ../shared/data --an4 data/an4/manifest.tsv
"""

import argparse
import csv
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.recognition.recognizer import Recognizer, load_recognizer
from tests.acceptance.disturbing_sounds import Disturb, Samples, Scene, names

FADE = 0.005
"""Seconds of the fades of a letter that is cut out."""
LOST = 0.04
"""Largest fraction of letters that a disturbance may cost."""


@dataclass(frozen=True)
class Letter:
    """A letter that was cut out of a recording, float64 [T] at 16 kHz with a peak of 1."""

    letter: str
    samples: Samples


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.disturbances",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("conditions", nargs="*", metavar="TEXT", help="only conditions whose names contain it")
    parser.add_argument("--data", metavar="FOLDER", default="../shared/data", help="prompts, people, ... (%(default)s)")
    parser.add_argument("--an4", metavar="FILE", help="manifest of AN4's letters, for its validation speakers")
    parser.add_argument("--letters", type=int, default=60, metavar="N", help="letters of each corpus (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    return parser


def cut(path: Path, start: float | None, end: float | None) -> Samples:
    """Returns a part of a recording with a peak of 1 and faded ends."""
    samples = to_mono_16k(*load(path, start, end)).double().numpy()
    size = round(FADE * SAMPLE_RATE)
    samples = samples - samples.mean()
    samples[:size] *= np.linspace(0, 1, size)
    samples[-size:] *= np.linspace(1, 0, size)
    return np.asarray(samples / np.abs(samples).max())


def indexed(folder: Path, **wanted: str) -> list[dict[str, str]]:
    """Returns the rows of a corpus's index.tsv with these values."""
    with (folder / "index.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def read_letters(data: Path, an4: str | None, count: int, rng: np.random.Generator) -> Iterator[Letter]:
    """Yields `count` letters of each corpus: prompts, people's validation voices, AN4's validation speakers."""
    for folder, wanted in (("prompts", {}), ("people", {"use": "valid"})):
        rows = indexed(data / folder, **wanted)
        readable = (
            row for row in (rows[number] for number in rng.permutation(len(rows))) if _reads(data / folder, row)
        )
        for row, _ in zip(readable, range(count), strict=False):
            yield Letter(
                row["letter"].upper(), cut(data / folder / row["path"], float(row["start"]), float(row["end"]))
            )
    if an4 is not None:
        utterances = [utterance for utterance in read_manifest(an4) if utterance.split == "valid"]
        for number in rng.permutation(len(utterances))[:count]:
            one = utterances[number]
            yield Letter(one.letter, cut(one.path, one.start, one.end))


def _reads(folder: Path, row: dict[str, str]) -> bool:
    try:
        return (
            bool(row["start"])
            and float(row["end"]) > float(row["start"])
            and soundfile.info(folder / row["path"]).frames > 0
        )
    except RuntimeError:  # of a format of FFmpeg
        return False


class Sounds:
    """Recorded sounds: sentences and words of other people, coughs and sniffs."""

    def __init__(self, data: Path) -> None:
        noises = [row["path"] for row in indexed(data / "noises")]
        an4 = sorted((data / "an4" / "wav" / "an4_clstk").glob("*/*.wav"))
        self._paths = {
            "sentence": an4,
            "word": [data / "words" / row["path"] for row in indexed(data / "words")],
            "cough": [data / "noises" / path for path in noises if "cough" in path],
            "sniff": [data / "noises" / path for path in noises if "sniff" in path],
        }

    def __call__(self, kind: str, rng: np.random.Generator) -> Samples:
        """Returns a sound of a kind with a peak of 1, without the silence around it."""
        paths = self._paths[kind]
        while True:
            samples = cut(paths[rng.integers(len(paths))], None, None)
            loud = np.flatnonzero(np.abs(samples) > 0.05)
            samples = samples[max(0, loud[0] - 800) : loud[-1] + 800]
            if kind != "sentence" or len(samples) > 1.5 * SAMPLE_RATE:
                return samples[: 4 * SAMPLE_RATE]


def scene(letter: Letter, sounds: Sounds, rng: np.random.Generator) -> Scene:
    """Returns the letter at a random place of 3 to 4 s of near silence."""
    length = round(rng.uniform(3, 4) * SAMPLE_RATE)
    samples = 10 ** (rng.uniform(-80, -65) / 20) * rng.standard_normal(length)
    start = round(rng.uniform(0.3, (length - len(letter.samples)) / SAMPLE_RATE - 0.3) * SAMPLE_RATE)
    peak = rng.uniform(0.05, 0.4)
    samples[start : start + len(letter.samples)] += peak * letter.samples
    return Scene(samples, start, start + len(letter.samples), peak, sounds)


def recordings(letters: Sequence[Letter], sounds: Sounds, name: str, disturb: Disturb, seed: int) -> Iterator[Samples]:
    """Yields the letters in a condition; the places of the letters are the same in all of them."""
    for number, letter in enumerate(letters):
        plain = scene(letter, sounds, np.random.default_rng([seed, number]))
        mixed = disturb(plain, np.random.default_rng([seed, number, zlib.crc32(name.encode())]))
        yield mixed / max(1.0, float(np.abs(mixed).max()))


def answers(recognizer: Recognizer, sounds: Iterator[Samples]) -> list[str | None]:
    """Returns the letter of each recording, None if rejected."""
    return [one.letter for one in recognizer.many((sound.astype(np.float32), SAMPLE_RATE) for sound in sounds)]


def _check(arguments: argparse.Namespace) -> int:
    data = Path(arguments.data)
    if not data.is_dir():
        raise UserError(f"--data: expected the folder of real recordings, found no {data}")
    rng = np.random.default_rng(arguments.seed)
    letters = list(read_letters(data, arguments.an4, arguments.letters, rng))
    recognizer, sounds = load_recognizer(arguments.checkpoint), Sounds(data)
    truth = [letter.letter for letter in letters]
    cut_out = answers(recognizer, (0.2 * letter.samples for letter in letters))
    right = [found == true for found, true in zip(cut_out, truth, strict=True)]
    print(f"{len(letters)} letters; {sum(right)} right where they are given alone")
    print("| condition | right | rejected | wrong | lost |\n|---|---|---|---|---|")
    plain: list[bool] = []
    failed = []
    for name, disturb in ({"plain": names(["plain"])["plain"]} | names(arguments.conditions)).items():
        found = answers(recognizer, recordings(letters, sounds, name, disturb, arguments.seed))
        right = [one == true for one, true in zip(found, truth, strict=True)]
        plain = plain or right
        lost = sum(before and not after for before, after in zip(plain, right, strict=True))
        rejected = found.count(None)
        print(f"| {name} | {sum(right)} | {rejected} | {len(found) - sum(right) - rejected} | {lost} |", flush=True)
        if sum(plain) - sum(right) > LOST * len(letters):
            failed.append(name)
    if failed:
        print(f"more than {100 * LOST:g} of 100 letters are lost to: {', '.join(failed)}")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
