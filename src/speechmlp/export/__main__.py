"""Exports a model: `speechmlp export [--checkpoint F] [--format onnx|int8|web]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.environment import import_torch
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    from speechmlp.export.portable import Parity
    from speechmlp.runs.checkpoint import Checkpoint

KINDS = ("onnx", "int8", "web")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp export",
        description="Export a model with its front end: samples in, the probability of each label out. The file is "
        "compared with PyTorch on odd waveforms before it is kept.",
        epilog="example: speechmlp export --checkpoint runs/NAME/best.pt --format int8",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    parser.add_argument(
        "--format",
        choices=KINDS,
        default="onnx",
        help="onnx: float32; int8: quantised, half the size; web: a folder with the page of serve, which recognises "
        "letters in the browser (%(default)s)",
    )
    parser.add_argument("--output", metavar="PATH", help="the file, or folder (default: named after the model)")
    parser.add_argument("--float32", action="store_true", help="of web: the float32 model instead of the int8 one")
    parser.add_argument(
        "--runtime",
        metavar="FOLDER",
        help="of web: a folder with the npm package onnxruntime-web, or its archive (default: downloaded once)",
    )
    parser.add_argument(
        "--card", metavar="FILE", help="write a model card there too, from an evaluation on the model's own test split"
    )
    return parser


def _export(arguments: argparse.Namespace) -> int:
    web = arguments.format == "web"
    for option, given in (("--float32", arguments.float32), ("--runtime", arguments.runtime)):
        if given and not web:
            raise UserError(f"{option}: only with --format web")
    import_torch()
    from speechmlp.export.formats import FORMATS, export
    from speechmlp.recognition.recognizer import load_recognizer
    from speechmlp.runs.checkpoint import find_checkpoint
    from speechmlp.runs.folder import model_name

    checkpoint = load_recognizer(arguments.checkpoint, "cpu").checkpoint
    source = find_checkpoint(arguments.checkpoint or "packaged")
    name = model_name(source)
    if arguments.card:  # what reads recordings is imported for it only
        from speechmlp.evaluation.card import require_own, write_card

        require_own(Path(arguments.card))
    if web:
        _export_web(arguments, checkpoint, source, name)
    else:
        output = Path(arguments.output or f"{name}{FORMATS[arguments.format].suffix}")
        _report(source, checkpoint, export(checkpoint, name, arguments.format, output))
        print(f"Wrote {output}: {output.stat().st_size:,} bytes")
    if arguments.card:
        print(f"Card: {write_card(source, arguments.card)}")
    return 0


def _export_web(arguments: argparse.Namespace, checkpoint: "Checkpoint", source: Path, name: str) -> None:
    from speechmlp.export.web import export_web

    output = Path(arguments.output or f"{name}-web")
    runtime = Path(arguments.runtime) if arguments.runtime else None
    written = export_web(checkpoint, name, "onnx" if arguments.float32 else "int8", output, runtime)
    _report(source, checkpoint, written.parity)
    print(f"Wrote {output}: {written.size:,} bytes; python -m http.server --directory {output} shows it")


def _report(source: Path, checkpoint: "Checkpoint", parity: "Parity") -> None:
    print(f"Model: {source}, {checkpoint.model.num_parameters():,} parameters")
    print(
        f"Compared with PyTorch on {parity.compared} odd waveforms: {parity.compared - parity.other_letters} equal "
        f"letters, probabilities within {parity.difference:.1g}"
    )
    if parity.undecided:
        print(f"Not compared: {parity.undecided} more, for which PyTorch's own answer depends on rounding")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(
        make_parser(),
        _export,
        argv,
        if_memory_is_short="export a model of smaller widths (model.hidden, model.width)",
    )


if __name__ == "__main__":
    sys.exit(main())
