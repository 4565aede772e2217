"""Checks a corpus before training: `speechmlp audit --manifest F [--doubt] [--checkpoint F] [--judge whisper]`."""

import argparse
import sys
from collections.abc import Sequence

from speechmlp.config.command_line import judge_options
from speechmlp.environment import import_torch
from speechmlp.errors import run_command

PROGRAM, JSON = "audit", "audit.json"


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp audit",
        description="Check a corpus before training: splits, copies, damaged recordings, doubtful labels.",
        epilog="Exit status: 1 if an accuracy would be meaningless, 2 if the manifest cannot be read, otherwise 0.",
    )
    parser.add_argument("--manifest", metavar="FILE", required=True, help="the utterances: TSV, CSV or JSON lines")
    parser.add_argument("--doubt", action="store_true", help="find labels that may be wrong, and how sure that is")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="the trained model that helps to judge labels, instead of the one in the package; implies --doubt",
    )
    judge_options(parser, "a second model that helps to judge labels, and was trained on other data; implies --doubt")
    parser.add_argument(
        "--labels",
        metavar="NAME",
        nargs="+",
        help="that recordings may have: letters (A to Z, the default without --checkpoint), digits, alphanumeric, or "
        "texts, as in --labels letters space stop",
    )
    parser.add_argument("--outside", action="store_true", help="recordings may lie outside the manifest's folder")
    parser.add_argument(
        "--report", metavar="FOLDER", default="audit", help="folder for the page and the JSON (%(default)s)"
    )
    parser.add_argument("--text", action="store_true", help="only print; write no page")
    return parser


def _audit(arguments: argparse.Namespace) -> int:
    import_torch()
    from speechmlp.audit.corpus import audit_corpus
    from speechmlp.audit.findings import format_audit
    from speechmlp.audit.page import render_audit
    from speechmlp.evaluation.html_page import load_pyplot, require_own_folder, write_page
    from speechmlp.labels import labels_of

    if not arguments.text:
        load_pyplot()  # fails before the work, not after it
        require_own_folder(arguments.report, PROGRAM, [JSON])
    audit, utterances, sounds = audit_corpus(
        arguments.manifest,
        arguments.doubt,
        arguments.checkpoint,
        arguments.outside,
        labels_of(arguments.labels),
        arguments.judge,
        arguments.judge_model,
    )
    print(format_audit(audit))
    if not arguments.text:
        page = render_audit(audit, utterances, sounds)
        written = write_page(arguments.report, PROGRAM, page, {JSON: audit.model_dump_json(indent=2) + "\n"})
        print(f"Report: {written}")
    return 0 if audit.sound else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _audit, argv)


if __name__ == "__main__":
    sys.exit(main())
