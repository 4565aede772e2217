"""Records letters from the microphone: `speechmlp record --speaker NAME`."""

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from speechmlp.errors import UserError, run_command
from speechmlp.labels import LETTERS, as_option, as_setting, labels_of

TRIES = 3


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp record",
        description="Record letters from the microphone into a folder that is ready for training.",
        epilog="Press Enter and say the letter; s Enter skips it, q Enter ends. Run it again to continue.",
    )
    parser.add_argument("--speaker", metavar="NAME", required=True, help="the speaker: letters, digits, - and .")
    parser.add_argument("--output", metavar="FOLDER", default="recordings", help="target folder (%(default)s)")
    parser.add_argument("--letters", default="ABCDEFGHIJKLMNOPQRSTUVWXYZ", help="letters to record (%(default)s)")
    parser.add_argument(
        "--labels", metavar="NAME", nargs="+", help="what to record instead, as in --labels letters space stop"
    )
    parser.add_argument("--takes", type=int, metavar="N", default=3, help="recordings of each letter (%(default)s)")
    parser.add_argument("--seconds", type=float, metavar="S", default=1.5, help="length of a recording (%(default)s)")
    parser.add_argument("--device", metavar="NAME", help="number or name of the microphone (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the order of the letters (random)")
    return parser


def _labels(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Returns the labels to record.

    Raises:
        UserError: they cannot be labels, or names of folders.
    """
    from speechmlp.corpora.takes import require_folder_names

    if arguments.labels is None and not (arguments.letters.isascii() and arguments.letters.isalpha()):
        raise UserError(f"--letters: expected letters A to Z, found {arguments.letters!r}")
    labels = labels_of(arguments.labels) or tuple(arguments.letters.upper())
    require_folder_names(labels, "--labels")
    return labels


def _plan(folder: Path, speaker: str, letters: Sequence[str], takes: int, seed: int | None) -> list[tuple[str, Path]]:
    """Returns the letters still to be recorded, in random order, with their files."""
    from speechmlp.corpora.takes import take_path

    wanted = [
        (letter, path)
        for letter in letters
        for take in range(takes)
        if not (path := take_path(folder, letter, speaker, take)).exists()
    ]
    random.Random(seed).shuffle(wanted)
    return wanted


def _session(
    arguments: argparse.Namespace, labels: tuple[str, ...], device: str | int | None, folder: Path
) -> Counter[str]:
    """Records the remaining takes; returns the number of kept and skipped ones."""
    from speechmlp.audio.microphone import open_microphone, record_seconds
    from speechmlp.corpora.takes import AGAIN, find_problems, write_take

    counts: Counter[str] = Counter()
    plan = _plan(folder, arguments.speaker, labels, arguments.takes, arguments.seed)
    print(f"{len(plan)} letters to say. Enter records {arguments.seconds:g} s; s skips a letter, q ends.")
    for number, (letter, path) in enumerate(plan, start=1):
        for attempt in range(1, TRIES + 1):
            try:
                answer = input(f"{number}/{len(plan)}  say  {letter}  ").strip().lower()
            except EOFError:
                answer = "q"
            if answer in ("q", "s"):
                break
            with open_microphone(device) as stream:
                waveform, rate = record_seconds(stream, arguments.seconds), round(stream.samplerate)
            problems = find_problems(waveform[None], rate)
            for _, advice in problems:
                print(f"    {advice}")
            if not any(kind in AGAIN for kind, _ in problems):
                write_take(path, waveform.numpy(), rate)
                counts["kept"] += 1
                answer = ""
                break
            if attempt < TRIES:
                print("    please say it again")
        else:
            answer = "s"
        if answer == "s":
            counts["skipped"] += 1
        if answer == "q":
            break
    return counts


def _finish(folder: Path, labels: tuple[str, ...]) -> None:
    """Writes the manifest of the folder, and prints the next commands."""
    from speechmlp.corpora.files import MANIFEST
    from speechmlp.corpora.folder import assign_splits, read_folder, warning_of
    from speechmlp.data.manifest import write_manifest

    utterances, by_speaker = assign_splits(read_folder(folder, labels=labels), 0.2, 0.2)
    write_manifest(folder / MANIFEST, utterances)
    if (warning := warning_of(utterances, by_speaker)) is not None:
        print(warning)
    shared = "" if by_speaker else " corpus.shared_speakers=true"
    print(f"Manifest: {folder / MANIFEST}, {len(utterances)} letters")
    option, setting = ("", "") if labels == LETTERS else (f" {as_option(labels)}", f" {as_setting(labels)}")
    print(f"Audit: speechmlp audit --manifest {folder / MANIFEST}{option}")
    print(f"Train: speechmlp train --config an4_log_mel corpus.manifest={folder / MANIFEST}{shared}{setting}")


def _command(arguments: argparse.Namespace) -> int:
    from speechmlp.audio.microphone import load_sounddevice

    sounddevice = load_sounddevice()  # fails before anything else if it is missing
    if arguments.list_devices:
        print(sounddevice.query_devices())
        return 0
    if not arguments.speaker or not all(character.isalnum() or character in "-." for character in arguments.speaker):
        raise UserError(f"--speaker: expected letters, digits, - and ., found {arguments.speaker!r}")
    labels = _labels(arguments)
    if arguments.takes < 1 or not (math.isfinite(arguments.seconds) and 0.5 <= arguments.seconds <= 10):
        raise UserError("expected --takes of 1 or more and --seconds of 0.5 to 10")
    device = int(arguments.device) if (arguments.device or "").isdigit() else arguments.device
    folder = Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            counts = _session(arguments, labels, device, folder)
        except KeyboardInterrupt:
            print()
            counts = Counter()
        print(f"Kept: {counts['kept']}, skipped: {counts['skipped']}")
        if any(folder.glob("*/*.wav")):
            _finish(folder, LETTERS if set(labels) <= set(LETTERS) else labels)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _command, argv)


if __name__ == "__main__":
    sys.exit(main())
