"""Stores a temperature in a checkpoint, so that its probabilities are calibrated: `speechmlp calibrate`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp calibrate",
        description="Store in a checkpoint the temperature that calibrates its probabilities: fitted on utterances, or "
        "given. Training fits it on validation utterances by itself. This is for models that were trained on those too "
        "(corpus.learn: train+valid), for other recordings, and for going back (--temperature 1).",
        epilog="example: speechmlp calibrate --checkpoint runs/NAME/best.pt --manifest other.tsv --split valid",
    )
    parser.add_argument("--checkpoint", metavar="FILE", required=True, help="a best.pt; changed in place")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifest", metavar="FILE", help="utterances that the model was not trained on")
    source.add_argument("--like", metavar="FILE", help="take temperature and threshold of this checkpoint, a sibling's")
    source.add_argument("--temperature", type=float, metavar="T", help="take this one")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="of the manifest; all of it by default")
    return parser


def _calibrate(arguments: argparse.Namespace) -> int:
    import_torchaudio()
    import torch

    from speechmlp.data.dataset import SpokenLetters
    from speechmlp.data.packed import open_packed
    from speechmlp.evaluation.metrics import fit_reject_below, fit_temperature
    from speechmlp.models.inference import predict
    from speechmlp.runs.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(arguments.checkpoint)
    if checkpoint.training is not None:
        raise UserError(f"{arguments.checkpoint}: expected a best.pt; a last.pt is for going on with training")
    if arguments.manifest:
        packed = open_packed(checkpoint.config.corpus.model_copy(update={"manifest": arguments.manifest}))
        letters = SpokenLetters(packed, arguments.split)
        logits, labels = predict(checkpoint.model, letters.to(torch.device("cpu")))
        temperature = fit_temperature(logits, labels)
        reject_below = fit_reject_below(logits / temperature)
    elif arguments.like:
        sibling = load_checkpoint(arguments.like)
        temperature, reject_below = sibling.temperature, sibling.reject_below
    else:
        temperature, reject_below = arguments.temperature, checkpoint.reject_below
    if not 0.01 <= temperature <= 100:
        raise UserError(f"--temperature: expected 0.01 to 100, found {temperature}")
    save_checkpoint(
        Path(arguments.checkpoint),
        checkpoint.config,
        checkpoint.model,
        checkpoint.history,
        temperature=temperature,
        reject_below=reject_below,
    )
    print(f"Temperature: {checkpoint.temperature:.3f} -> {temperature:.3f}: {arguments.checkpoint}")
    print(f"Rejects below a probability of: {checkpoint.reject_below:.3f} -> {reject_below:.3f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _calibrate, argv)


if __name__ == "__main__":
    sys.exit(main())
