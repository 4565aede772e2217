"""Changes some training labels at random and reports how many of them are among the most doubted ones.

The figure that the audit's doubts stand for: 3 % changed, and the fraction of them among the 5 % most doubted.

    python -m tests.acceptance.label_doubt
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from speechmlp.audit.label_errors import cross_validate, doubt, folds_of
from speechmlp.audit.reading import inspect
from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.labels import NUM_LETTERS, label_of


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.label_doubt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--changed", type=float, metavar="FRACTION", default=0.03, help="of the labels (%(default)s)")
    parser.add_argument("--looked-at", type=float, metavar="FRACTION", default=0.05, help="most doubted (%(default)s)")
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="draws of the changed labels (%(default)s)")
    parser.add_argument(
        "--least", type=float, metavar="FRACTION", default=0.6, help="to be found, or fail (%(default)s)"
    )
    return parser


def _training(manifest: str) -> Sequence[Utterance]:
    utterances = [utterance for utterance in read_manifest(manifest) if utterance.split in ("train", None)]
    if not utterances:
        raise UserError(f"{manifest}: expected training utterances, found none")
    return utterances


def _check(arguments: argparse.Namespace) -> int:
    utterances = _training(arguments.manifest)
    inspection = inspect(utterances, keep_features=True)
    known = [utterances[place] for place in inspection.sounds]
    labels = torch.tensor([label_of(utterance.letter) for utterance in known])
    folds = folds_of([utterance.speaker for utterance in known], [utterance.id for utterance in known])
    assert inspection.features is not None
    worst = 1.0
    for seed in range(arguments.seeds):
        generator = torch.Generator().manual_seed(seed)
        count = max(1, round(arguments.changed * len(labels)))
        changed = torch.randperm(len(labels), generator=generator)[:count]
        given = labels.clone()
        given[changed] = (given[changed] + torch.randint(1, NUM_LETTERS, (count,), generator=generator)) % NUM_LETTERS
        probabilities = cross_validate(inspection.features, given, folds, seed=seed)
        doubts = doubt(probabilities, given)
        top = doubts.margin.argsort(descending=True)[: round(arguments.looked_at * len(labels))]
        found = float(torch.isin(changed, top).float().mean())
        accuracy = float((probabilities.argmax(1) == labels).float().mean())
        worst = min(worst, found)
        print(
            f"seed {seed}: {count} of {len(labels)} labels changed, {100 * found:.1f}% of them among the {len(top)} "
            f"most doubted; {int(doubts.confident.sum())} counted as wrong; "
            f"accuracy on unheard speakers {100 * accuracy:.1f}%",
            flush=True,
        )
    return 0 if worst >= arguments.least else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
