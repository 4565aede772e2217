"""Prepares a corpus, recordings and manifest: `speechmlp prepare NAME`."""

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, exit_status, unknown

if TYPE_CHECKING:
    from speechmlp.corpora.judging import Judge

Prepared = tuple[Iterable[str], str | Path]
"""What is printed about a corpus, line by line, and the manifest that was written."""


class Corpus(NamedTuple):
    """A corpus that can be prepared."""

    purpose: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Prepared]


def _output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output", metavar="FOLDER", default=default, help="the corpus's folder (%(default)s)")


def _speakers(parser: argparse.ArgumentParser, number: int, what: str) -> None:
    parser.add_argument("--speakers", type=int, metavar="N", default=number, help=f"{what} (%(default)s)")
    parser.add_argument(
        "--takes", type=int, metavar="N", default=2, help="of each letter by each speaker (%(default)s)"
    )


def _seed(parser: argparse.ArgumentParser, what: str = "decides every choice") -> None:
    parser.add_argument("--seed", type=int, metavar="N", default=0, help=f"{what} (%(default)s)")


def _workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time; one a core by default")


def _fractions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--valid", type=float, default=0.1, help="fraction of speakers for validation (%(default)s)")
    parser.add_argument("--test", type=float, default=0.1, help="fraction of speakers for the test (%(default)s)")


def _labels_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        metavar="NAME",
        nargs="+",
        help="letters (A to Z, the default), digits, alphanumeric, or texts, as in --labels letters space stop",
    )


def _synthetic_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/synthetic")
    _labels_option(parser)
    _speakers(parser, 120, "synthetic speakers")
    _seed(parser)
    _workers(parser)


def _synthetic(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.synthetic import prepare_synthetic
    from speechmlp.data.splits import split_counts
    from speechmlp.labels import LETTERS, labels_of

    started = time.perf_counter()
    utterances = prepare_synthetic(
        arguments.output,
        arguments.speakers,
        arguments.takes,
        arguments.seed,
        arguments.workers,
        labels_of(arguments.labels) or LETTERS,
    )
    rate = len(utterances) / (time.perf_counter() - started)
    counts = f"Synthetic: {len(utterances)} letters of {arguments.speakers} speakers, {rate:.0f} letters a second"
    return [counts, split_counts(utterances)], f"{arguments.output}/manifest.tsv"


def _voices_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/voices")
    parser.add_argument(
        "--engines", nargs="+", metavar="NAME", help="some of hibari, piper, pico and flite; all of them by default"
    )
    _speakers(parser, 10, "speakers of each voice")
    _seed(parser, "decides pitch and tempo")


def _voices(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.voices import VOICES, prepare_voices

    engines = list(dict.fromkeys(arguments.engines or VOICES))
    for engine in engines:
        if engine not in VOICES:
            raise unknown(f"--engines: unknown engine {engine!r}", engine, VOICES)
    utterances = prepare_voices(arguments.output, engines, arguments.speakers, arguments.takes, arguments.seed)
    letters = Counter(utterance.speaker.split("-")[0] for utterance in utterances)
    lines = [
        f"Voices: {len(utterances)} letters of {len({utterance.speaker for utterance in utterances})} speakers",
        ", ".join(f"{engine}: {letters[engine]}" for engine in engines),
    ]
    return lines, f"{arguments.output}/manifest.tsv"


def _kokoro_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/kokoro")
    parser.add_argument(
        "--voices",
        metavar="FILE",
        help="what npm pack kokoro-js@1.2.1 writes, or bundled: five voices, no download; npm downloads it by default",
    )
    parser.add_argument(
        "--accents",
        nargs="+",
        metavar="NAME",
        default=[],
        help="accents instead of the usual names of letters: indian, spanish, french, italian, portuguese, chinese, "
        "japanese; one that is repeated gets more of the speakers",
    )
    _speakers(parser, 120, "voices and mixtures of voices")
    _seed(parser)
    _workers(parser)


def _kokoro(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.kokoro import LANGUAGES, prepare_kokoro

    for accent in arguments.accents:
        if accent not in LANGUAGES:
            raise unknown(f"--accents: unknown accent {accent!r}", accent, LANGUAGES)
    utterances, failures = prepare_kokoro(
        arguments.output,
        arguments.voices,
        arguments.speakers,
        arguments.takes,
        arguments.seed,
        arguments.workers,
        arguments.accents,
    )
    speakers = len({utterance.speaker for utterance in utterances})
    counts = f"Kokoro: {len(utterances)} letters of {speakers} speakers, {len(failures)} rows not aligned"
    return [counts, *(f"not aligned: {failure}" for failure in failures)], f"{arguments.output}/manifest.tsv"


def _noises_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/noises")
    parser.add_argument("--sources", type=int, metavar="N", default=150, help="of each kind (%(default)s)")
    _seed(parser, "decides every sample")


def _noises(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.noises import KINDS, prepare_noises
    from speechmlp.data.splits import split_counts

    utterances = prepare_noises(arguments.output, arguments.sources, arguments.seed)
    counts = f"Noises: {len(utterances)} seconds of {len(KINDS)} kinds: {', '.join(KINDS)}"
    return [counts, split_counts(utterances)], f"{arguments.output}/non_letters.tsv"


def _digits_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--digits",
        action="store_true",
        help="digits are labels too, and not non-letters; give it an --output of its own",
    )


def _an4_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", help="AN4 folder, tar or zip archive; downloaded by default")
    parser.add_argument(
        "--url",
        nargs="+",
        metavar="ADDRESS",
        help="archive to download, or several addresses of it, perhaps with #sha256=...; CMU's and GitHub's by default",
    )
    _output(parser, "data/an4")
    _digits_option(parser)
    _workers(parser)


def _an4(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.an4 import URLS, prepare_an4

    summary = prepare_an4(
        arguments.source, arguments.url or URLS, arguments.output, arguments.workers, digits=arguments.digits
    )
    return summary.lines(), f"{arguments.output}/manifest.tsv"


def _judge_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="FILE", help="model that decides which letters are kept; the package's")


def judge_of(checkpoint: str | None) -> "Judge":
    """Returns a model as a judge of letters that were cut out; None for the model in the package."""
    from speechmlp.audio_format import SAMPLE_RATE
    from speechmlp.recognition.recognizer import load_recognizer

    recognizer = load_recognizer(checkpoint)
    return lambda clips: [dict(found.ranked) for found in recognizer.many((clip, SAMPLE_RATE) for clip in clips)]


def _alphanumeric_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", help="folder or tar archive of the corpus; downloaded by default")
    _output(parser, "data/alphanumeric")
    _digits_option(parser)
    _judge_option(parser)
    _workers(parser)


def _alphanumeric(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.alphanumeric import prepare_alphanumeric

    judge = judge_of(arguments.checkpoint)
    summary = prepare_alphanumeric(
        arguments.source, arguments.output, judge, arguments.workers, digits=arguments.digits
    )
    return summary.lines(), f"{arguments.output}/manifest.tsv"


def _people_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", metavar="FOLDER", help="folder with recordings and index.tsv; downloaded by default"
    )
    _output(parser, "data/people")
    _judge_option(parser)


def _people(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.people import prepare_people

    summary = prepare_people(arguments.source, arguments.output, judge_of(arguments.checkpoint))
    return summary.lines(), f"{arguments.output}/manifest.tsv"


def _words_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", metavar="PATH", help="folder or tar archive of words; downloaded by default, 2.3 GB"
    )
    parser.add_argument("--each", type=int, metavar="N", default=1, help="words of each speaker (%(default)s)")
    _output(parser, "data/words")


def _words(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.words import lines, prepare_words
    from speechmlp.data.splits import split_counts

    utterances = prepare_words(arguments.source, arguments.output, arguments.each)
    return [*lines(utterances), split_counts(utterances)], f"{arguments.output}/non_letters.tsv"


def _isolet_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that contains isolet1 to isolet5")
    _output(parser, "data/isolet")


def _isolet(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.isolet import prepare_isolet

    summary = prepare_isolet(arguments.source, arguments.output)
    return summary.lines(), f"{arguments.output}/manifest.tsv"


def _ti46_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that contains ti_alpha")
    _output(parser, "data/ti46")


def _ti46(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.ti46 import prepare_ti46

    summary = prepare_ti46(arguments.source, arguments.output)
    return summary.lines(), f"{arguments.output}/manifest.tsv"


def _long_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of recordings, as anna/1.wav and 1.txt")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="the corpus's folder")
    parser.add_argument("--spell", action="store_true", help="the transcripts' words are spelled: jam means J A M")
    _fractions(parser)
    _workers(parser)


def _long(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.corpora.folder import require_fractions
    from speechmlp.corpora.long import prepare_long

    require_fractions(arguments.valid, arguments.test)
    source, output = arguments.source, arguments.output
    summary = prepare_long(source, output, arguments.spell, arguments.valid, arguments.test, arguments.workers)
    return [*summary.left_out.lines(), *summary.lines()], f"{output}/manifest.tsv"


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of letter folders, or a manifest file")
    _labels_option(parser)
    parser.add_argument("--output", metavar="FILE", required=True, help="the manifest to write, a .tsv file")
    _fractions(parser)


def _folder(arguments: argparse.Namespace) -> Prepared:
    from speechmlp.audio.recordings import LeftOut
    from speechmlp.corpora.folder import assign_splits, read_source, require_fractions, warning_of
    from speechmlp.data.manifest import path_within, similar_speakers, write_manifest
    from speechmlp.data.splits import split_counts
    from speechmlp.labels import LETTERS, as_setting, describe, labels_of

    require_fractions(arguments.valid, arguments.test)
    target = Path(arguments.output)
    if target.suffix != ".tsv":
        raise UserError(f"{target}: expected a name that ends in .tsv")
    labels = labels_of(arguments.labels) or LETTERS
    left_out = LeftOut()
    try:
        found = read_source(arguments.source, left_out, labels)
    finally:
        for line in left_out.lines():
            print(line)
    utterances, by_speaker = assign_splits(found, arguments.valid, arguments.test)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(target, utterances)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
    speakers = len({utterance.speaker for utterance in utterances})
    lines = [f"Folder: {len(utterances)} letters of {speakers} speakers", split_counts(utterances)]
    if unrecorded := set(labels) - {utterance.letter for utterance in utterances}:
        names = describe([label for label in labels if label in unrecorded])
        lines.append(f"Not recorded: {names}")
    if labels != LETTERS:
        lines.append(f"Train with {as_setting(labels)}")
    if (warning := warning_of(utterances, by_speaker)) is not None:
        lines.append(warning)
    for similar in itertools.chain(*similar_speakers(utterances)):
        lines.append(f"warning: names of speakers look alike: {similar}; give one person one name")
    if any(path_within(utterance.path, target.parent) is None for utterance in utterances):
        lines.append("Recordings lie outside the manifest's folder: train with corpus.outside=true")
    return lines, target


CORPORA = {
    "synthetic": Corpus("letters by eSpeak NG, in many accents and voices", _synthetic_options, _synthetic),
    "voices": Corpus("letters by Hibari, Piper's Joe, SVOX Pico and Flite", _voices_options, _voices),
    "kokoro": Corpus("letters spelled by Kokoro's 54 voices and mixtures of them", _kokoro_options, _kokoro),
    "noises": Corpus("non-letters: silence, noises and tones, generated", _noises_options, _noises),
    "an4": Corpus("letters of CMU AN4, cut out by forced alignment", _an4_options, _an4),
    "alphanumeric": Corpus("letters of spelled names, in many accents", _alphanumeric_options, _alphanumeric),
    "people": Corpus("isolated letters by people of public programs", _people_options, _people),
    "words": Corpus("non-letters: words of Google Speech Commands", _words_options, _words),
    "isolet": Corpus("manifests of ISOLET 1.3: published protocol and five folds", _isolet_options, _isolet),
    "ti46": Corpus("manifests of TI46's alphabet: by speaker, and the published split", _ti46_options, _ti46),
    "long": Corpus("letters of long recordings of spelled words, by their transcripts", _long_options, _long),
    "folder": Corpus("a manifest of your own recordings, with splits by speaker", _folder_options, _folder),
}


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp prepare",
        description="Prepare a corpus: recordings and a manifest of them.",
        epilog="Each explains itself: speechmlp prepare NAME --help",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=20),
    )
    named = parser.add_subparsers(title="corpora", dest="corpus", metavar="NAME", required=True)
    for name, corpus in CORPORA.items():
        corpus.options(named.add_parser(name, help=corpus.purpose, description=f"Prepare {corpus.purpose}."))
    return parser


def _prepare(words: Sequence[str]) -> int:
    if words and not words[0].startswith("-") and words[0] not in CORPORA:
        raise unknown(f"unknown corpus {words[0]!r}", words[0], CORPORA)
    arguments = make_parser().parse_args(words or ["--help"])
    import_torchaudio()
    lines, manifest = CORPORA[arguments.corpus].run(arguments)
    print(*lines, f"Manifest: {manifest}", sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return exit_status(lambda: _prepare(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
