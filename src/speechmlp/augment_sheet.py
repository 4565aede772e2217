"""Shows what a configuration's augmentation does: `speechmlp augment-sheet --config FILE`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from speechmlp.environment import import_torchaudio
from speechmlp.errors import run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp augment-sheet",
        description="Write a page that shows and plays training letters before and after augmentation.",
        epilog="example: speechmlp augment-sheet --config letters augment.telephone=1.0",
    )
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="YAML file of the experiment, or the name of a shipped one"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value")
    parser.add_argument("--output", metavar="FOLDER", default="runs/augment_sheet", help="replaced (%(default)s)")
    parser.add_argument("--letters", type=int, metavar="N", default=8, help="rows (%(default)s)")
    parser.add_argument("--versions", type=int, metavar="N", default=5, help="augmented ones of each (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides letters and draws (%(default)s)")
    return parser


def _sheet(arguments: argparse.Namespace) -> int:
    from speechmlp.config.loading import load_config

    config = load_config(arguments.config, arguments.overrides, partial(print, "note:", file=sys.stderr))
    import_torchaudio()
    from speechmlp.evaluation.augment_sheet import write_sheet

    versions = arguments.versions
    shown = write_sheet(config, arguments.config, arguments.output, arguments.letters, versions, arguments.seed)
    print(f"Sheet: {Path(arguments.output) / 'index.html'}: {shown} letters, {versions} versions of each")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _sheet, argv)


if __name__ == "__main__":
    sys.exit(main())
