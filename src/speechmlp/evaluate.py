"""Evaluates a trained classifier: `speechmlp evaluate [--checkpoint F] [--manifest F] [--split test]`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from speechmlp.audio.condition_names import parse_condition
from speechmlp.environment import import_torchaudio
from speechmlp.errors import run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp evaluate",
        description="Report the accuracy of a trained spoken-letter classifier.",
        epilog="example: speechmlp evaluate --manifest my_recordings.csv",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="the model; the best one of the newest run by default")
    parser.add_argument(
        "--runs", metavar="FOLDER", default="runs", help="folder of the runs, for the newest one (%(default)s)"
    )
    parser.add_argument("--manifest", metavar="FILE", help="the utterances; those of the model's own corpus by default")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="test by default, or every utterance of a manifest without splits",
    )
    parser.add_argument(
        "--condition",
        metavar="NAME",
        default="clean",
        help="listening condition: clean, telephone, white_10db, babble_5db, reverb_400ms, gain_-20db, shift_-200ms, "
        "speed_115 and the like (%(default)s)",
    )
    parser.add_argument("--sweep", action="store_true", help="evaluate over the levels of every condition too")
    parser.add_argument("--on-error", choices=("fail", "skip"), help="what to do with recordings that cannot be read")
    parser.add_argument(
        "--skip-limit",
        type=float,
        metavar="FRACTION",
        help="largest fraction that skip leaves out; the model's own by default",
    )
    parser.add_argument("--outside", action="store_true", help="recordings may lie outside the manifest's folder")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument(
        "--negatives",
        metavar="FILE",
        nargs="*",
        help="manifests of recordings without a letter, which should be rejected; those of the model's own "
        "configuration by default, none with --manifest",
    )
    parser.add_argument("--compare", metavar="FILE", help="another checkpoint, on the same utterances")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    parser.add_argument("--report", metavar="FOLDER", help="write a page with pictures and sounds, and the JSON, there")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    parse_condition(arguments.condition)
    # torch is imported late, so that --help and a wrong condition answer at once.
    import_torchaudio()
    from speechmlp.evaluation.run import PAGE, evaluate
    from speechmlp.evaluation.text import format_evaluation
    from speechmlp.files import write_text

    evaluation = evaluate(
        arguments.checkpoint,
        runs=arguments.runs,
        manifest=arguments.manifest,
        split=arguments.split,
        condition=arguments.condition,
        sweep=arguments.sweep,
        negatives=arguments.negatives,
        compare_with=arguments.compare,
        on_error=arguments.on_error,
        skip_limit=arguments.skip_limit,
        outside=arguments.outside,
        device=arguments.device,
        report=arguments.report,
        log=print,
        warn=partial(print, file=sys.stderr),
    )
    print(format_evaluation(evaluation))
    if arguments.json:
        write_text(Path(arguments.json), evaluation.model_dump_json(indent=2) + "\n")
    if arguments.report:
        print(f"Report: {Path(arguments.report) / PAGE}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
