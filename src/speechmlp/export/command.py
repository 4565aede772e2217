"""Exports a model: `speechmlp export [--checkpoint F] [--format onnx|int8]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from speechmlp.environment import import_torch
from speechmlp.errors import run_command

KINDS = ("onnx", "int8")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp export",
        description="Export a model with its front end: 16000 samples in, 26 probabilities out. The file is compared "
        "with PyTorch on odd waveforms before it is kept.",
        epilog="example: speechmlp export --checkpoint runs/NAME/best.pt --format int8",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    parser.add_argument(
        "--format",
        choices=KINDS,
        default="onnx",
        help="onnx: float32; int8: quantised, half the size (%(default)s)",
    )
    parser.add_argument("--output", metavar="FILE", help="the file (default: named after the model)")
    return parser


def _export(arguments: argparse.Namespace) -> int:
    import_torch()
    from speechmlp.export.formats import FORMATS, export
    from speechmlp.recognition.recognizer import WEIGHTS, load_recognizer
    from speechmlp.runs.folder import model_name

    checkpoint = load_recognizer(arguments.checkpoint, "cpu").checkpoint
    source = Path(arguments.checkpoint or WEIGHTS)
    name = model_name(source)
    output = Path(arguments.output or f"{name}{FORMATS[arguments.format].suffix}")
    parity = export(checkpoint, name, arguments.format, output)
    print(f"Model: {source}, {checkpoint.model.num_parameters():,} parameters")
    print(
        f"Compared with PyTorch on {parity.compared} odd waveforms: {parity.compared - parity.other_letters} equal "
        f"letters, probabilities within {parity.difference:.1g}"
    )
    if parity.undecided:
        print(f"Not compared: {parity.undecided} more, for which PyTorch's own answer depends on rounding")
    print(f"Wrote {output}: {output.stat().st_size:,} bytes")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _export, argv)
