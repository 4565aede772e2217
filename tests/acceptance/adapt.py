"""Adapts the model in the package to voices that it does not know, and reports their mistakes before and after.

The voices are those of people and accented spellers that are for validation, and of prompts. Each voice's takes are
divided into two folds: `adapt` gets one, which it divides further as it does for any user, and the other tests what
came of it; then the other way round. If the new model is not kept, the starting one counts as the result. Most of these
voices say a letter once, so most letters that are tested were not among those adapted to; those that were are counted
separately.

    python -m tests.acceptance.adapt --data ../shared/data --spellers data/alphanumeric/manifest.tsv

Other people are measured, and trained on, if the corpora of configs/adapt.yaml are at hand; `corpus.mix=[]` is the
model adapted without them.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import predict
from speechmlp.runs.checkpoint import PACKAGED, load_checkpoint
from speechmlp.training.adapting import WORSE, adapt
from speechmlp.training.voice import FEWEST
from tests.acceptance.disturbances import indexed

LEAST = 0.5
"""Smallest fraction of the mistakes on held-out takes that should be gone."""
CPU = torch.device("cpu")
Voices = dict[str, list[Utterance]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.adapt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="FOLDER", help="prompts and people")
    parser.add_argument("--spellers", metavar="FILE", help="manifest whose validation split is taken too")
    parser.add_argument("--voices", type=int, metavar="N", help="of each kind at most, evenly spaced (default: all)")
    parser.add_argument("--minutes", type=float, default=10, help="no further voice after these (%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change how to adapt")
    return parser


def _indexed_voices(folder: Path, **wanted: str) -> Voices:
    voices: Voices = defaultdict(list)
    for row in indexed(folder, **wanted):
        path = (folder / row["path"]).absolute()
        voices[row["speaker"]].append(Utterance(path, row["letter"].upper(), row["speaker"]))
    return voices


def _spellers(manifest: str) -> Voices:
    voices: Voices = defaultdict(list)
    for utterance in read_manifest(manifest):
        if utterance.split == "valid":
            voices[utterance.speaker].append(utterance)
    return voices


def _kinds(arguments: argparse.Namespace) -> Iterator[tuple[str, Voices]]:
    if arguments.spellers is not None:
        yield "accented spellers", _spellers(arguments.spellers)
    if arguments.data is not None:
        yield "people", _indexed_voices(Path(arguments.data) / "people", use="valid")
        yield "prompts", _indexed_voices(Path(arguments.data) / "prompts")


def _folds(takes: Iterable[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Returns two halves; takes of one letter are in both, as far as there are several."""
    ordered = sorted(takes, key=lambda one: (one.letter, one.path, one.start or 0))
    return ordered[0::2], ordered[1::2]


def _chosen(voices: Voices, most: int | None) -> list[list[Utterance]]:
    """Returns the takes of voices that can be adapted to with either fold."""
    usable = [
        takes
        for _, takes in sorted(voices.items())
        if min(len({one.letter for one in fold}) for fold in _folds(takes)) >= FEWEST
    ]
    step = 1 if most is None else max(1, len(usable) // most)
    return usable[::step][:most]


def _wrong(model: SpeechClassifier, letters: SpokenLetters) -> list[str]:
    """Returns the letters of a fold that are not recognised."""
    logits, labels = predict(model, letters.to(CPU))
    missed = (logits.argmax(1) != labels).tolist()
    return [one.letter for one, wrong in zip(letters.utterances, missed, strict=True) if wrong]


class _Totals:
    """Mistakes of a kind of voices."""

    def __init__(self) -> None:
        self.voices = 0
        self.counts: Counter[str] = Counter()
        self.lost: list[float] = []

    def add(self, half: Sequence[Utterance], other: Sequence[Utterance], config: Config, folder: Path) -> None:
        """Adapts to one half of a voice's takes and tests on the other."""
        for name, takes in (("half", half), ("other", other)):
            write_manifest(folder / f"{name}.tsv", takes)
        found = adapt(folder / "half.tsv", config=config)
        letters = SpokenLetters.from_manifest(folder / "other.tsv", None, folder / "cache", outside=True)
        start = load_checkpoint(PACKAGED).model.eval()
        adapted = {one.letter for one in half}
        before = _wrong(start, letters)
        after = before if found.checkpoint is None else _wrong(found.checkpoint.model, letters)
        self.counts["takes"] += len(letters)
        self.counts["same"] += sum(one.letter in adapted for one in letters.utterances)
        self.counts["kept"] += found.checkpoint is not None
        self.counts["not kept"] += found.checkpoint is None
        for when, wrong in (("before", before), ("after", after)):
            self.counts[when] += len(wrong)
            self.counts[f"{when} same"] += sum(letter in adapted for letter in wrong)
        if found.others is not None:
            self.lost.append((found.others.before - found.others.after) / found.others.count)

    def line(self, name: str) -> str:
        """Says it in a line."""
        of = self.counts
        lost = f"at most {100 * max(self.lost):.2f} % of others' letters lost" if self.lost else "others not measured"
        return (
            f"{name}: {self.voices} voices, mistakes {of['before']} -> {of['after']} of {of['takes']} takes, "
            f"{of['before same']} -> {of['after same']} of {of['same']} whose letter was adapted to; "
            f"kept {of['kept']} of {of['kept'] + of['not kept']} models; {lost}"
        )


def _check(arguments: argparse.Namespace) -> int:
    config = load_config("adapt", arguments.overrides)
    until = time.monotonic() + 60 * arguments.minutes
    failed, every = False, _Totals()
    for kind, voices in _kinds(arguments):
        totals = _Totals()
        for takes in _chosen(voices, arguments.voices):
            if time.monotonic() > until:
                print(f"{kind}: stopped after {arguments.minutes:g} minutes", flush=True)
                break
            halves = _folds(takes)
            for half, other in (halves, halves[::-1]):
                with tempfile.TemporaryDirectory() as scratch:
                    try:
                        totals.add(half, other, config, Path(scratch))
                    except UserError as error:
                        print(f"{takes[0].speaker}: {error.problems[0]}", flush=True)
            totals.voices += 1
            print(totals.line(f"{kind}, so far"), flush=True)
        print(totals.line(kind), flush=True)
        every.voices += totals.voices
        every.counts += totals.counts
        every.lost += totals.lost
    print(every.line("All"))
    failed = every.counts["after"] > (1 - LEAST) * every.counts["before"]
    return int(failed or max(every.lost, default=0.0) > WORSE)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
