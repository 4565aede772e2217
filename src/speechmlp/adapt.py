"""Adapts a trained classifier to a voice: `speechmlp adapt RECORDINGS [--speaker NAME] [key=value ...]`."""

import argparse
import sys
from collections.abc import Sequence

from speechmlp.config.command_line import OverridesParser
from speechmlp.config.loading import load_config
from speechmlp.environment import import_torchaudio
from speechmlp.errors import run_command

REFUSED = 1
"""Exit status if the adapted model is not kept."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = OverridesParser(
        prog="speechmlp adapt",
        description="Adapt a trained classifier to a voice with a few takes of its letters. Some takes are held out, "
        "to report the accuracy before and after. The new model is written only if it did not get worse, for this "
        f"voice and for everybody else; otherwise the exit status is {REFUSED}.",
        epilog="example: speechmlp adapt recordings/ --output anna.pt; then: speechmlp predict --checkpoint anna.pt",
    )
    parser.add_argument("recordings", metavar="RECORDINGS", help="folder <letter>/*, or a manifest")
    parser.add_argument("--speaker", metavar="NAME", help="the voice, if there are several")
    parser.add_argument("--output", metavar="FILE", default="adapted.pt", help="the new model (default: %(default)s)")
    parser.add_argument(
        "--config", metavar="FILE", default="adapt", help="how to adapt (default: the shipped %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value, as in training.epochs=20")
    return parser


def _adapt(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    import_torchaudio()
    from tqdm import tqdm

    from speechmlp.training.adapting import adapt

    with tqdm(total=100, leave=False, disable=None, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

        def show(fraction: float, what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.update(round(100 * fraction) - bar.n)

        found = adapt(
            arguments.recordings, speaker=arguments.speaker, output=arguments.output, config=config, progress=show
        )
    for note in found.notes:
        print(note, file=sys.stderr)
    for line in found.lines():
        print(line)
    if found.refused is not None:
        print(f"Not kept: {found.refused}; the starting model stays as it is, and {arguments.output} is not written")
        return REFUSED
    print(f"Adapted: {arguments.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _adapt, argv)


if __name__ == "__main__":
    sys.exit(main())
