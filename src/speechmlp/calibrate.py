"""Stores a temperature in a checkpoint, so that its probabilities are calibrated: `speechmlp calibrate`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.config.command_line import OverridesParser
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    from speechmlp.runs.checkpoint import Checkpoint

FEWEST = 10
"""Letters that must be left if some are left out."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = OverridesParser(
        prog="speechmlp calibrate",
        description="Store in a checkpoint the temperature that calibrates its probabilities: fitted on utterances, or "
        "given. Training fits it on validation utterances by itself. This is for models that were trained on those too "
        "(corpus.learn: train+valid), for other recordings, and for undoing it (--temperature 1).",
        epilog="example: speechmlp calibrate --checkpoint runs/NAME/best.pt --manifest a.tsv b.tsv --split valid",
    )
    parser.add_argument("--checkpoint", metavar="FILE", required=True, help="a best.pt; changed in place")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifest", metavar="FILE", nargs="+", help="utterances that the model was not trained on")
    source.add_argument("--like", metavar="FILE", help="copy temperature and threshold of this checkpoint")
    source.add_argument("--temperature", type=float, metavar="T", help="take this one")
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), help="of manifests that have splits; everything by default"
    )
    parser.add_argument(
        "--negatives", metavar="FILE", nargs="+", help="manifests of non-letters, to measure how many are rejected"
    )
    parser.add_argument("--outside", action="store_true", help="recordings may lie outside the manifests' folders")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="how manifests are read, as in corpus.shared_speakers=true"
    )
    return parser


def _fitted(checkpoint: "Checkpoint", arguments: argparse.Namespace) -> "Checkpoint":
    """Returns the checkpoint with a temperature and a threshold of its own, fitted on the letters of manifests.

    Raises:
        UserError: a manifest or a recording cannot be read, or the model was trained on all of the letters.
    """
    import torch

    from speechmlp.config.command_line import override_reading
    from speechmlp.data.dataset import SpokenLetters, load_negatives
    from speechmlp.data.packed import open_packed
    from speechmlp.evaluation.calibration import calibrate
    from speechmlp.evaluation.known import find_known
    from speechmlp.models.inference import predict, predict_logits

    cpu = torch.device("cpu")
    overrides = [*arguments.overrides, *(["corpus.outside=true"] if arguments.outside else [])]
    config = override_reading(checkpoint.config, overrides)
    corpus, packs = config.corpus, []
    logits, labels, left_out = [], [], 0
    for manifest in arguments.manifest:
        reading = corpus.model_copy(update={"manifest": manifest})
        packed = open_packed(reading, labels=config.labels, audio=config.input.audio)
        packs.append(packed)
        has_splits = any(utterance.split is not None for utterance in packed.utterances)
        letters = SpokenLetters(packed, arguments.split if has_splits else None)
        known, missing = find_known(checkpoint, letters.utterances, letters.fingerprints())
        for absent in missing:
            print(
                f"warning: {arguments.checkpoint}: was trained on {absent}, which cannot be read here; letters of it "
                "must not be among these",
                file=sys.stderr,
            )
        left_out += sum(known)
        if any(known):
            print(
                f"warning: {manifest}: left out {sum(known)} of {len(known)} letters, which the model was trained on "
                "and is too sure about",
                file=sys.stderr,
            )
        new = torch.tensor([position for position, one in enumerate(known) if not one], dtype=torch.int64)
        if not len(new):
            continue
        logits.append(predict_logits(checkpoint.model, letters.to(cpu), new))
        labels.append(letters.labels[new])
    if sum(map(len, labels)) < FEWEST and left_out:
        raise UserError(
            f"{', '.join(arguments.manifest)}: expected {FEWEST} letters or more that the model was not "
            f"trained on, found {sum(map(len, labels))}; "
            "choose another --split or manifest"
        )
    negatives = load_negatives(corpus, arguments.negatives, arguments.split, packs[0])[0] if arguments.negatives else []
    others = torch.cat([predict(checkpoint.model, part.to(cpu))[0] for part in negatives]) if negatives else None
    split = f" ({arguments.split})" if arguments.split else ""
    on = f"letters of {', '.join(arguments.manifest)}{split}"
    temperature, reject_below, found = calibrate(torch.cat(logits), torch.cat(labels), others, on)
    return replace(checkpoint, temperature=temperature, reject_below=reject_below, calibration=found)


def _calibrate(arguments: argparse.Namespace) -> int:
    if arguments.overrides and not arguments.manifest:
        raise UserError("command line: key=value says how --manifest is read; expected --manifest FILE")
    import_torchaudio()
    from speechmlp.evaluation.text import format_calibration
    from speechmlp.labels import describe
    from speechmlp.runs.checkpoint import load_checkpoint, rewrite_checkpoint

    old = load_checkpoint(arguments.checkpoint)
    if old.training is not None:
        raise UserError(f"{arguments.checkpoint}: expected a best.pt; a last.pt is for resuming training")
    if arguments.manifest:
        new = _fitted(old, arguments)
    elif arguments.like:
        sibling = load_checkpoint(arguments.like)
        if sibling.config.labels != old.config.labels:
            found = describe(sibling.config.labels)
            raise UserError(f"{arguments.like}: expected the labels of {arguments.checkpoint}, found {found}")
        new = replace(
            old,
            temperature=sibling.temperature,
            reject_below=sibling.reject_below,
            calibration=sibling.calibration
            and replace(sibling.calibration, on=f"{sibling.calibration.on} by {arguments.like}"),
        )
    else:
        new = replace(old, temperature=arguments.temperature, calibration=None)
    if not 0.01 <= new.temperature <= 100:
        raise UserError(f"--temperature: expected 0.01 to 100, found {new.temperature}")
    rewrite_checkpoint(Path(arguments.checkpoint), new)
    print(f"Temperature: {old.temperature:.3f} -> {new.temperature:.3f}: {arguments.checkpoint}")
    print(f"Rejects below a probability of: {old.reject_below:.3f} -> {new.reject_below:.3f}")
    if new.calibration is not None:
        print("\n".join(format_calibration(new.temperature, new.reject_below, new.calibration)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _calibrate, argv)


if __name__ == "__main__":
    sys.exit(main())
