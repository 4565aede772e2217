#!/usr/bin/env python3
"""Trains the network that finds whole letters in running speech, for `predict --spell`.

It is trained on stretches that are one whole letter, and on others: shifted, cut, joined, other words, and pauses. They
are drawn from AN4's training speakers and from spelled names, both aligned with their transcripts, and from words
joined from single letters, with pauses, fillers and other words between them. Names, letters and other words are those
that `speechmlp prepare` wrote into `--data`: names.tsv, manifest.tsv and non_letters.tsv of the corpora that are there;
only the split train is used. The last line reports how it does on AN4's validation speakers. The same seed gives the
same weights.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.config.loading import load_config
from speechmlp.config.schema import AugmentConfig
from speechmlp.errors import UserError, run_command
from speechmlp.models.augmentation import Augment
from speechmlp.models.segments import WEIGHTS, SegmentScorer, save_scorer
from speechmlp.training.segments import accuracy, train_scorer
from speechmlp.training.spelled_rows import read_an4, read_names, read_pool

ROOT = Path(__file__).resolve().parents[2]


CORPORA = {
    "names.tsv": ("alphanumeric",),
    "manifest.tsv": ("people", "an4", "voices", "synthetic", "kokoro"),
    "non_letters.tsv": ("words", "an4", "alphanumeric"),
}
"""Manifests, and the folders of the corpora that have them."""


def _found(data: Path, corpora: Sequence[str], name: str) -> list[Path]:
    return [data / corpus / name for corpus in corpora if (data / corpus / name).is_file()]


def _train(arguments: argparse.Namespace) -> int:
    for name in ("steps", "most"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name}: expected 1 or more, found {getattr(arguments, name)}")
    config = load_config(arguments.config, [])
    data = Path(arguments.data)
    manifests = {kind: _found(data, corpora, kind) for kind, corpora in CORPORA.items()}
    if not manifests["manifest.tsv"]:
        raise UserError(f"{data}: expected corpora such as an4/manifest.tsv, found none; see speechmlp prepare --help")
    trained_on, held_out = read_an4(arguments.source, arguments.workers)
    names = [one for manifest in manifests["names.tsv"] for one in read_names(manifest, arguments.workers)]
    pool = read_pool(
        manifests["manifest.tsv"],
        manifests["non_letters.tsv"],
        names,
        arguments.most,
        arguments.seed,
        arguments.workers,
    )
    # The few names together are drawn as often as half of AN4.
    length = sum(one.weight for one in names)
    factor = arguments.names_weight * sum(one.weight for one in trained_on) / max(length, 1e-9)
    spoken = [*trained_on, *(one.times(factor) for one in names)]
    scorer = SegmentScorer()
    augment = Augment(config.augment or AugmentConfig())
    train_scorer(scorer, spoken, pool, augment, arguments.steps, arguments.lr, arguments.seed)
    save_scorer(Path(arguments.output), scorer)
    letters = sum(len(recordings) for voices in pool.letters for recordings in voices.values())
    print(
        f"Trained on: {len(trained_on)} utterances, {len(names)} names, {letters} single letters, "
        f"{len(pool.others)} other words; {sum(one.numel() for one in scorer.parameters()):,} parameters"
    )
    whole, named = accuracy(scorer, held_out)
    print(
        f"On {len(held_out)} validation utterances: whole letter or not {100 * whole:.2f}% right, "
        f"which letter {100 * named:.2f}% right"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", metavar="PATH", required=True, help="the AN4 folder")
    parser.add_argument("--data", metavar="FOLDER", default="data", help="folder of the corpora (%(default)s)")
    parser.add_argument("--output", metavar="FILE", default=str(WEIGHTS), help="(%(default)s)")
    parser.add_argument(
        "--config", metavar="FILE", default=str(ROOT / "configs" / "letters.yaml"), help="whose augmentation is used"
    )
    parser.add_argument("--names-weight", type=float, default=0.5, help="of the names, relative to AN4 (%(default)s)")
    parser.add_argument("--most", type=int, default=1500, metavar="N", help="recordings of each manifest (%(default)s)")
    parser.add_argument("--steps", type=int, default=6000, metavar="N", help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, metavar="RATE", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="aligning processes; one a core by default")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _train, None))
