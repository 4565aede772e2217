"""Evaluates a trained classifier: `speechmlp evaluate [--checkpoint F] [--manifest F] [--split test]`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from speechmlp.audio.condition_names import parse_condition
from speechmlp.config.command_line import OverridesParser, judge_options
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = OverridesParser(
        prog="speechmlp evaluate",
        description="Report the accuracy of a trained spoken-letter classifier.",
        epilog="example: speechmlp evaluate --checkpoint packaged --manifest my_recordings.csv corpus.margin=0",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="the model, or packaged for the one in the package; the best one of the newest run by default",
    )
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
    parser.add_argument(
        "--spelling",
        action="store_true",
        help="report the letter error rate of spelled words; --manifest has columns path and text, and optionally "
        "speaker, split and groups such as accent; the model in the package by default",
    )
    parser.add_argument(
        "--joined",
        type=float,
        nargs="+",
        metavar="SECONDS",
        help="with --spelling: --manifest has single letters, which are joined to words with pauses of so many seconds",
    )
    parser.add_argument(
        "--group-by",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        help="accuracy by the values of these columns of the manifest, such as accent, device or age; numbers become "
        "bands; by accent, if there is such a column",
    )
    parser.add_argument("--compare", metavar="FILE", help="another checkpoint, on the same utterances")
    judge_options(parser, "add a second model's log-probabilities")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    parser.add_argument("--report", metavar="FOLDER", help="write a page with pictures and sounds, and the JSON, there")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="how recordings are read, as in corpus.shared_speakers=true"
    )
    return parser


LONGEST_PAUSE = 10.0
"""Seconds."""
LETTERS_ONLY = ("overrides", "sweep", "negatives", "compare", "judge", "group_by", "report", "skip_limit")
"""Options that do not go with --spelling."""


def _check_spelling(arguments: argparse.Namespace) -> None:
    """Checks the options of --spelling.

    Raises:
        UserError: one is missing, wrong, or for single letters only.
    """
    if not arguments.spelling:
        if arguments.joined is not None:
            raise UserError("--joined: expected together with --spelling")
        return
    problems = [
        f"{'key=value' if name == 'overrides' else '--' + name.replace('_', '-')}: not possible with --spelling"
        for name in LETTERS_ONLY
        if getattr(arguments, name) not in (None, False, [])
    ]
    if arguments.condition != "clean":
        problems.append("--condition: not possible with --spelling")
    if arguments.manifest is None:
        problems.append("--spelling: expected --manifest FILE, with columns path and text")
    problems += [
        f"--joined: expected 0 to {LONGEST_PAUSE:g} seconds, found {pause:g}"
        for pause in arguments.joined or ()
        if not 0 <= pause <= LONGEST_PAUSE
    ]
    if problems:
        raise UserError(*problems)


def _evaluate_spelling(arguments: argparse.Namespace) -> int:
    import_torchaudio()
    from speechmlp.evaluation.spelling import format_spelling
    from speechmlp.files import write_text
    from speechmlp.recognition.evaluate_spelling import evaluate_joined, evaluate_names
    from speechmlp.recognition.speller import load_speller

    speller = load_speller(arguments.checkpoint, arguments.device)
    name = arguments.checkpoint or "the model in the package"
    print(f"Checkpoint: {name}")
    if speller.warning:
        print(f"warning: {speller.warning}", file=sys.stderr)
    options: dict[str, Any] = {
        "name": name,
        "split": arguments.split,
        "outside": arguments.outside,
        "on_error": arguments.on_error or "fail",
        "warn": partial(print, file=sys.stderr),
    }
    found = []
    for pause in [None] if arguments.joined is None else arguments.joined:
        if pause is None:
            evaluation = evaluate_names(speller, arguments.manifest, **options)
        else:
            evaluation = evaluate_joined(speller, arguments.manifest, pause, **options)
        part = f", split {evaluation.split}" if evaluation.split else ""
        joined = "" if pause is None else f"; letters joined to words with pauses of {pause:g} s"
        print(f"Words: {arguments.manifest}{part}{joined}")
        print(format_spelling(evaluation.scores))
        found.append(evaluation.model_dump_json(indent=2))
    if arguments.json:
        write_text(Path(arguments.json), "[" + ",\n".join(found) + "]\n")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    parse_condition(arguments.condition)
    _check_spelling(arguments)
    if arguments.spelling:
        return _evaluate_spelling(arguments)
    # torch is imported late, so that --help and a wrong condition answer at once.
    import_torchaudio()
    from speechmlp.evaluation.html_page import PAGE
    from speechmlp.evaluation.run import evaluate
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
        group_by=arguments.group_by,
        device=arguments.device,
        judge=arguments.judge,
        judge_model=arguments.judge_model,
        overrides=arguments.overrides,
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
    return run_command(
        make_parser(),
        _evaluate,
        argv,
        if_memory_is_short="take a smaller model (model.hidden, model.width) or, if it is the GPU's, --device cpu",
    )


if __name__ == "__main__":
    sys.exit(main())
