"""Prepares a corpus, recordings and manifest: `speechmlp prepare NAME`."""

import argparse
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
    from speechmlp.data.manifest import Utterance


class Corpus(NamedTuple):
    """A corpus that can be prepared."""

    purpose: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


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


def _splits(utterances: Iterable["Utterance"]) -> str:
    splits = Counter(utterance.split for utterance in utterances)
    return ", ".join(f"{split}: {splits[split]}" for split in ("train", "valid", "test"))


def _synthetic_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/synthetic")
    _speakers(parser, 120, "synthetic speakers")
    _seed(parser)
    _workers(parser)


def _synthetic(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.synthetic import prepare_synthetic

    started = time.perf_counter()
    utterances = prepare_synthetic(
        arguments.output, arguments.speakers, arguments.takes, arguments.seed, arguments.workers
    )
    rate = len(utterances) / (time.perf_counter() - started)
    print(f"Synthetic: {len(utterances)} letters of {arguments.speakers} speakers, {rate:.0f} letters a second")
    print(_splits(utterances))
    print(f"Manifest: {arguments.output}/manifest.tsv")
    return 0


def _voices_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/voices")
    parser.add_argument(
        "--engines", nargs="+", metavar="NAME", help="some of hibari, piper, pico and flite; all of them by default"
    )
    _speakers(parser, 10, "speakers of each voice")
    _seed(parser, "decides pitch and tempo")


def _voices(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.voices import VOICES, prepare_voices

    engines = list(dict.fromkeys(arguments.engines or VOICES))
    for engine in engines:
        if engine not in VOICES:
            raise unknown(f"--engines: unknown engine {engine!r}", engine, VOICES)
    utterances = prepare_voices(arguments.output, engines, arguments.speakers, arguments.takes, arguments.seed)
    letters = Counter(utterance.speaker.split("-")[0] for utterance in utterances)
    print(f"Voices: {len(utterances)} letters of {len({utterance.speaker for utterance in utterances})} speakers")
    print(", ".join(f"{engine}: {letters[engine]}" for engine in engines))
    print(f"Manifest: {arguments.output}/manifest.tsv")
    return 0


def _kokoro_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/kokoro")
    parser.add_argument(
        "--voices",
        metavar="FILE",
        help="what npm pack kokoro-js@1.2.1 writes, or bundled: five voices, no download; npm downloads it by default",
    )
    _speakers(parser, 120, "voices and mixtures of voices")
    _seed(parser)
    _workers(parser)


def _kokoro(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.kokoro import prepare_kokoro

    utterances, failures = prepare_kokoro(
        arguments.output, arguments.voices, arguments.speakers, arguments.takes, arguments.seed, arguments.workers
    )
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"Kokoro: {len(utterances)} letters of {speakers} speakers, {len(failures)} rows not aligned")
    print(*(f"not aligned: {failure}" for failure in failures), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


def _noises_options(parser: argparse.ArgumentParser) -> None:
    _output(parser, "data/noises")
    parser.add_argument("--sources", type=int, metavar="N", default=150, help="of each kind (%(default)s)")
    _seed(parser, "decides every sample")


def _noises(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.noises import KINDS, prepare_noises

    utterances = prepare_noises(arguments.output, arguments.sources, arguments.seed)
    print(f"Noises: {len(utterances)} seconds of {len(KINDS)} kinds: {', '.join(KINDS)}")
    print(_splits(utterances))
    print(f"Manifest: {arguments.output}/non_letters.tsv")
    return 0


def _an4_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", help="AN4 folder or tar archive; downloaded by default")
    parser.add_argument("--url", help="archive to download; CMU's by default")
    _output(parser, "data/an4")
    _workers(parser)


def _an4(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.an4 import URL, prepare_an4

    summary = prepare_an4(arguments.source, arguments.url or URL, arguments.output, arguments.workers)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


def _isolet_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that contains isolet1 to isolet5")
    _output(parser, "data/isolet")


def _isolet(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.isolet import prepare_isolet

    summary = prepare_isolet(arguments.source, arguments.output)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


def _ti46_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder that contains ti_alpha")
    _output(parser, "data/ti46")


def _ti46(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.ti46 import prepare_ti46

    summary = prepare_ti46(arguments.source, arguments.output)
    print(*summary.lines(), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


def _long_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of recordings, as anna/1.wav and 1.txt")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="the corpus's folder")
    parser.add_argument("--spell", action="store_true", help="the transcripts' words are spelled: jam means J A M")
    _fractions(parser)
    _workers(parser)


def _long(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.folder import require_shares
    from speechmlp.corpora.long import prepare_long

    require_shares(arguments.valid, arguments.test)
    source, output = arguments.source, arguments.output
    summary = prepare_long(source, output, arguments.spell, arguments.valid, arguments.test, arguments.workers)
    print(*summary.lines(), f"Manifest: {output}/manifest.tsv", sep="\n")
    return 0


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of letter folders, or a manifest file")
    parser.add_argument("--output", metavar="FILE", required=True, help="the manifest to write, a .tsv file")
    _fractions(parser)


def _folder(arguments: argparse.Namespace) -> int:
    from speechmlp.corpora.folder import assign_splits, read_source, require_shares, warning_of
    from speechmlp.data.manifest import write_manifest

    require_shares(arguments.valid, arguments.test)
    target = Path(arguments.output)
    if target.suffix != ".tsv":
        raise UserError(f"{target}: expected a name that ends in .tsv")
    utterances, by_speaker = assign_splits(read_source(arguments.source), arguments.valid, arguments.test)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(target, utterances)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"Folder: {len(utterances)} letters of {speakers} speakers")
    print(_splits(utterances))
    if (warning := warning_of(utterances, by_speaker)) is not None:
        print(warning)
    root = target.parent.resolve()
    if not all(utterance.path.resolve().is_relative_to(root) for utterance in utterances):
        print("Recordings lie outside the manifest's folder: train with corpus.outside=true")
    print(f"Manifest: {target}")
    return 0


CORPORA = {
    "synthetic": Corpus("letters by eSpeak NG, in many accents and voices", _synthetic_options, _synthetic),
    "voices": Corpus("letters by Hibari, Piper's Joe, SVOX Pico and Flite", _voices_options, _voices),
    "kokoro": Corpus("letters spelled by Kokoro's 54 voices and mixtures of them", _kokoro_options, _kokoro),
    "noises": Corpus("non-letters: silence, noises and tones, generated", _noises_options, _noises),
    "an4": Corpus("letters of CMU AN4, cut out by forced alignment", _an4_options, _an4),
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
    return CORPORA[arguments.corpus].run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return exit_status(lambda: _prepare(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
