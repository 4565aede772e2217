"""Recognises letters in recordings: `speechmlp predict clip.wav`."""

import argparse
import glob
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.config.command_line import judge_options
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command
from speechmlp.interruption import Interruption

if TYPE_CHECKING:
    from speechmlp.audio.recordings import LeftOut
    from speechmlp.recognition.output import Answers
    from speechmlp.recognition.recognizer import Recognizer
    from speechmlp.recognition.speller import Speller, Spelling
    from speechmlp.recognition.word_list import WordList

STDIN = "-"
MICROPHONE = "microphone"
PAUSE, SPELLING_PAUSE = 0.6, 1.5
"""Seconds of silence that end a recording from the microphone."""
MAX_BYTES = 1 << 30
"""Largest size of standard input."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp predict",
        description="Recognise the letter in each recording or, with --spell, a sequence of letters.",
        epilog="example: speechmlp predict recordings/ 'more/*.flac' --format csv > letters.csv",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="recordings, folders, patterns such as 'a/**/*.wav', or - for a recording on standard input",
    )
    parser.add_argument("--raw", action="store_true", help="standard input is 16-bit little-endian mono samples")
    parser.add_argument(
        "--rate", type=int, default=SAMPLE_RATE, metavar="HZ", help="sample rate of --raw (%(default)s)"
    )
    parser.add_argument("--microphone", action="store_true", help="record until a pause after speech")
    parser.add_argument(
        "--continuous", action="store_true", help="with --microphone: spell until Ctrl-C; letters appear as spoken"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    parser.add_argument("--spell", action="store_true", help="recognise all letters, with their times")
    parser.add_argument(
        "--words",
        metavar="FILE",
        help="text file of words, one per line: ranked with --spell, offered with --continuous",
    )
    parser.add_argument("--best", type=int, default=5, metavar="N", help="number of words to report (%(default)s)")
    parser.add_argument("--format", choices=("text", "csv", "jsonl"), default="text", help="(%(default)s)")
    parser.add_argument(
        "--on-error",
        choices=("answer", "fail", "skip"),
        default="answer",
        help="if a recording cannot be read: answer the others, exit status 2; fail: stop answering; skip: answer the "
        "others, exit status 0; each error is reported in one line (%(default)s)",
    )
    parser.add_argument(
        "--skip-limit",
        type=float,
        metavar="FRACTION",
        default=0.5,
        help="largest fraction that --on-error skip may skip; above it the exit status is 2 (%(default)s)",
    )
    parser.add_argument(
        "--reject-below", type=float, metavar="P", help="least probability of a letter (default: the model's)"
    )
    judge_options(parser, "add a second model's log-probabilities: better and slower")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    return parser


def find_recordings(inputs: Iterable[str], left_out: "LeftOut | None" = None) -> Iterator[str]:
    """Yields the recordings of the inputs: files, those in folders, and those that match a pattern.

    A name that is none of these is yielded too, and becomes an error when it is read.

    Args:
        inputs: as on the command line.
        left_out: gets what else is in the folders.
    """
    from speechmlp.audio.recordings import LeftOut, recordings_in

    left_out = LeftOut() if left_out is None else left_out
    for name in inputs:
        # Unlike those of pathlib, these tests have an answer for names that no file can have.
        if name != STDIN and os.path.isdir(name):  # noqa: PTH112
            yield from map(str, recordings_in(Path(name), left_out) or (Path(name),))
        elif name != STDIN and not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
            # Path.glob takes no patterns from the root.
            found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            # Folders are read, but ** finds what is in them anyway.
            files = [path for path in found if "**" not in name or not Path(path).is_dir()]
            yield from find_recordings(files, left_out) if files else [name]
        else:
            yield name


def _keep_stdin(raw: bool, rate: int, target: Path) -> None:
    """Writes the recording on standard input to a file; raw samples as WAV.

    Raises:
        UserError: it is empty, too long or ends within a sample, or the rate is invalid.
    """
    import numpy as np

    from speechmlp.audio.encoding import wav_bytes
    from speechmlp.audio.waveforms import MAX_SAMPLE_RATE

    if not 1 <= rate <= MAX_SAMPLE_RATE:
        raise UserError(f"--rate: expected 1 to {MAX_SAMPLE_RATE} Hz, found {rate}")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"standard input: expected at most {MAX_BYTES >> 20} MB")
    if raw and (len(data) % 2 or not data):
        raise UserError(f"standard input: expected 16-bit samples, found {len(data)} bytes")
    if raw:
        target.write_bytes(wav_bytes(np.frombuffer(data, "<i2"), rate))
    else:
        target.write_bytes(data)


def _check(arguments: argparse.Namespace) -> None:
    """Checks the options before anything is loaded."""
    from_stdin = STDIN in arguments.inputs
    problems = {
        "expected recordings, folders or patterns, - for standard input, or --microphone": not arguments.inputs
        and not arguments.microphone,
        "--microphone: expected no recordings": arguments.microphone and bool(arguments.inputs),
        "--raw: expected - as the recording; the samples come from standard input": arguments.raw and not from_stdin,
        "-: expected once; standard input is one recording": arguments.inputs.count(STDIN) > 1,
        "--judge: not possible with --spell": arguments.judge is not None and arguments.spell,
        "--continuous: expected together with --microphone": arguments.continuous and not arguments.microphone,
        "--judge: not possible with --continuous": arguments.judge is not None and arguments.continuous,
        "--words: expected together with --spell or --continuous": arguments.words is not None
        and not (arguments.spell or arguments.continuous),
        f"--best: expected 1 or more, found {arguments.best}": arguments.best < 1,
        f"--skip-limit: expected 0 to 1, found {arguments.skip_limit}": not 0 <= arguments.skip_limit <= 1,
        f"--reject-below: expected 0 to 1, found {arguments.reject_below}": arguments.reject_below is not None
        and not 0 <= arguments.reject_below <= 1,
    }
    found = [problem for problem, wrong in problems.items() if wrong]
    if found:
        raise UserError(*found)


def _spell_files(speller: "Speller", paths: Iterable[str | Path]) -> Iterator["Spelling | UserError"]:
    for path in paths:
        try:
            yield speller(path)
        except UserError as error:
            yield error


def _answer_files(
    arguments: argparse.Namespace, recognizer: "Recognizer", speller: "Speller | None", answers: "Answers"
) -> int:
    """Answers the recordings in order; returns the exit status."""
    from tqdm import tqdm

    from speechmlp.audio.recordings import LeftOut

    with tempfile.TemporaryDirectory(prefix="speechmlp-predict-") as scratch:
        stdin = Path(scratch) / "standard input"
        if STDIN in arguments.inputs:
            _keep_stdin(arguments.raw, arguments.rate, stdin)
        left_out = LeftOut()
        names, paths = tee(find_recordings(arguments.inputs, left_out))
        files = (stdin if name == STDIN else Path(name) for name in paths)
        found = recognizer.files(files) if speller is None else _spell_files(speller, files)
        count, problems = 0, []
        hidden = True if sys.stdout.isatty() else None  # on a terminal the answers show the progress
        for name, one in tqdm(zip(names, found, strict=True), unit=" recordings", disable=hidden):
            count += 1
            if isinstance(one, UserError):
                problems.append(" ".join(str(one).replace(f"{scratch}/", "").split()))
                if arguments.on_error != "fail":
                    tqdm.write(f"error: {problems[-1]}", file=sys.stderr)
            elif not (problems and arguments.on_error == "fail"):
                if one.note:
                    tqdm.write(f"note: {name}: {one.note}", file=sys.stderr)
                answers.write(name, one)
    for line in left_out.lines():
        print(line, file=sys.stderr)
    if problems and arguments.on_error == "fail":
        raise UserError(*problems)
    if arguments.on_error == "skip" and problems:
        if len(problems) > arguments.skip_limit * count:
            raise UserError(
                f"{len(problems)} of {count} recordings cannot be read, more than the fraction of "
                f"{arguments.skip_limit:g} that --skip-limit allows"
            )
        print(f"skipped: {len(problems)} of {count} recordings", file=sys.stderr)
    return 2 if problems and arguments.on_error == "answer" else 0


def _answer_microphone(
    arguments: argparse.Namespace, recognizer: "Recognizer", speller: "Speller | None", answers: "Answers"
) -> int:
    from speechmlp.audio.microphone import open_microphone, record

    with open_microphone() as stream:
        print("Spell a word" if arguments.spell else "Say a letter", file=sys.stderr, flush=True)
        screen = sys.stderr if sys.stderr.isatty() else None
        waveform = record(stream, SPELLING_PAUSE if arguments.spell else PAUSE, screen)
        rate = round(stream.samplerate)
    answers.write(MICROPHONE, recognizer(waveform, rate) if speller is None else speller(waveform, rate))
    return 0


def _spell_microphone(arguments: argparse.Namespace, speller: "Speller", words: "WordList | None") -> int:
    from speechmlp.audio.microphone import listen, open_microphone
    from speechmlp.recognition.continuous import Spelled, spell_continuously
    from speechmlp.recognition.live import LiveSpeller

    screen = sys.stderr if sys.stderr.isatty() else None
    spelled = Spelled(arguments.format, words, arguments.best, screen)
    with open_microphone() as stream, closing(listen(stream)) as heard, Interruption() as interruption:
        live = LiveSpeller(speller, round(stream.samplerate))
        interruption.wait()
        print("Say letters, one after another (Ctrl-C ends)", file=sys.stderr, flush=True)
        try:
            spell_continuously(heard, live, spelled, ended=interruption)
        finally:
            offers = ", ".join(f"{word} {100 * probability:.1f}%" for word, probability in spelled.offers())
            print(
                f"spelled: {spelled.text or 'no letters'}",
                *([f"words: {offers}"] if offers else []),
                sep="\n",
                file=sys.stderr,
            )
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    _check(arguments)
    import_torchaudio()
    from speechmlp.models.segments import load_scorer
    from speechmlp.recognition.output import Answers
    from speechmlp.recognition.recognizer import Recognizer, load_recognizer
    from speechmlp.recognition.speller import Speller
    from speechmlp.recognition.word_list import WordList

    recognizer = load_recognizer(arguments.checkpoint, arguments.device)
    words = WordList.read(arguments.words, recognizer.labels) if arguments.words else None
    if arguments.reject_below is not None:
        changed = replace(recognizer.checkpoint, reject_below=arguments.reject_below)
        recognizer = Recognizer(changed, recognizer.device)
    if arguments.judge and (warning := recognizer.add_judge(arguments.judge, arguments.judge_model)):
        print(f"warning: {warning}", file=sys.stderr)
    speller = Speller(recognizer, load_scorer()) if arguments.spell or arguments.continuous else None
    if speller is not None and speller.warning:
        print(f"warning: {speller.warning}", file=sys.stderr)
    if speller is not None and arguments.continuous:
        return _spell_microphone(arguments, speller, words)
    answers = Answers(arguments.format, words, arguments.best)
    answer = _answer_microphone if arguments.microphone else _answer_files
    return answer(arguments, recognizer, speller, answers)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(
        make_parser(),
        _predict,
        argv,
        if_memory_is_short="take shorter recordings, a smaller model or, if it is the GPU's, --device cpu",
    )


if __name__ == "__main__":
    sys.exit(main())
