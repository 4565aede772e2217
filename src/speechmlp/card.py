"""Writes the card of a trained model: `speechmlp card RUN`."""

import argparse
import sys
from collections.abc import Sequence

from speechmlp.environment import import_torchaudio
from speechmlp.errors import run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp card",
        description="Write a model card with the field names of the Hugging Face Hub: data with licences, speakers by "
        "accent, scores with intervals by group, what is rejected, and what the model is not for. Without "
        "--evaluation, the model is evaluated on the test split of its own corpus.",
        epilog="example: speechmlp card runs/NAME --license mit",
    )
    parser.add_argument("model", metavar="RUN", help="a run folder, or a checkpoint")
    parser.add_argument(
        "--output", metavar="FILE", help="the card (default: README.md in the run folder); replaced if it is a card"
    )
    parser.add_argument(
        "--evaluation", metavar="FILE", nargs="+", default=[], help="what evaluate --json wrote of this model"
    )
    parser.add_argument(
        "--license", metavar="NAME", default="unknown", help="of the weights, such as mit or apache-2.0 (%(default)s)"
    )
    parser.add_argument("--name", metavar="NAME", help="of the model (default: that of its run)")
    return parser


def _card(arguments: argparse.Namespace) -> int:
    import_torchaudio()
    from speechmlp.evaluation.card import write_card

    written = write_card(
        arguments.model,
        arguments.output,
        evaluations=arguments.evaluation,
        licence=arguments.license,
        name=arguments.name,
    )
    print(f"Card: {written}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _card, argv)


if __name__ == "__main__":
    sys.exit(main())
