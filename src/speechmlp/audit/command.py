"""Checks a corpus before training: `speechmlp audit --manifest F [--doubt | --checkpoint F]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from speechmlp.environment import import_torch
from speechmlp.errors import run_command

PAGE = "index.html"


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp audit",
        description="Check a corpus before training: splits, copies, damaged recordings, doubtful labels.",
        epilog="Exit status: 1 if an accuracy would be meaningless, 2 if the manifest cannot be read, otherwise 0.",
    )
    parser.add_argument("--manifest", metavar="FILE", required=True, help="the utterances: TSV, CSV or JSON lines")
    parser.add_argument("--doubt", action="store_true", help="find labels that are probably wrong, by cross-validation")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a trained model that helps to judge labels; implies --doubt"
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
    from speechmlp.audit.page import render_audit
    from speechmlp.audit.text import format_audit
    from speechmlp.evaluation.pictures import load_pyplot
    from speechmlp.files import whole_folder

    if not arguments.text:
        load_pyplot()  # fails before the work, not after it
    audit, utterances, sounds = audit_corpus(
        arguments.manifest, arguments.doubt, arguments.checkpoint, arguments.outside
    )
    print(format_audit(audit))
    if not arguments.text:
        page = render_audit(audit, utterances, sounds)
        with whole_folder(arguments.report, mark=PAGE) as folder:
            (folder / "audit.json").write_text(audit.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (folder / PAGE).write_text(page, encoding="utf-8")
        print(f"Report: {Path(arguments.report) / PAGE}")
    return 0 if audit.sound else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _audit, argv)
