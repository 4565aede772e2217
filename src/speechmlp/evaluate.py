"""Evaluates a trained classifier: `python -m speechmlp.evaluate [--checkpoint F] [--manifest F] [--split test]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.environment import require_torch
from speechmlp.errors import UserError, run_command
from speechmlp.labels import CONDITIONS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m speechmlp.evaluate",
        description="Report the accuracy of a trained spoken-letter classifier.",
        epilog="example: python -m speechmlp.evaluate --manifest my_recordings.csv",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="the model; the best one of the newest run by default")
    parser.add_argument(
        "--runs", metavar="FOLDER", default="runs", help="where to look for the newest run (%(default)s)"
    )
    parser.add_argument("--manifest", metavar="FILE", help="the utterances; those of the model's own corpus by default")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="test by default, or every utterance of a manifest without splits",
    )
    parser.add_argument(
        "--condition",
        choices=CONDITIONS,
        default="clean",
        help="listen through a telephone band or in noise at 10 dB (%(default)s)",
    )
    parser.add_argument("--on-error", choices=("fail", "skip"), help="what to do about recordings that cannot be read")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    require_torch()
    from speechmlp.checkpoint import load_checkpoint
    from speechmlp.config_file import override_config
    from speechmlp.dataset import SpokenLetters
    from speechmlp.engine import predict, select_device
    from speechmlp.groups import find_groups
    from speechmlp.manifest import Split
    from speechmlp.metrics import score
    from speechmlp.packing import open_packed
    from speechmlp.report import format_scores
    from speechmlp.runlog import newest_checkpoint, write_text
    from speechmlp.scores import Evaluation

    path = Path(arguments.checkpoint) if arguments.checkpoint else newest_checkpoint(arguments.runs)
    checkpoint = load_checkpoint(path)
    overrides = {
        "corpus.manifest": arguments.manifest,
        "corpus.on_error": arguments.on_error,
        "device": arguments.device,
    }
    config = override_config(
        checkpoint.config, [f"{key}={json.dumps(value)}" for key, value in overrides.items() if value is not None]
    )
    device = select_device(config.device)
    packed = open_packed(config.corpus)
    has_splits = any(utterance.split is not None for utterance in packed.utterances)
    if arguments.split and not has_splits:
        raise UserError(f"{config.corpus.manifest}: has no splits; leave --split out to evaluate all of it")
    split: Split | None = (arguments.split or "test") if has_splits else None
    utterances = SpokenLetters(packed, *([split] if split else []))
    logits, labels = predict(checkpoint.model.to(device), utterances.heard(arguments.condition, device))
    scores = score(
        logits,
        labels,
        utterances.speakers,
        temperature=checkpoint.temperature,
        groups=find_groups(utterances.speakers, utterances.lengths, utterances.power()),
    )

    epoch = next((record.epoch for record in reversed(checkpoint.history) if record.best), len(checkpoint.history))
    print(f"Checkpoint: {path}{'' if arguments.checkpoint else ' (the newest run)'}, epoch {epoch}")
    print(f"Corpus: {config.corpus.manifest}, {f'split {split}' if split else 'every utterance (it has no splits)'}")
    if arguments.condition != "clean":
        print(f"Condition: {arguments.condition}")
    for problem in packed.skipped:
        print(f"left out: {problem}", file=sys.stderr)
    if packed.skipped:
        print(f"Left out: {len(packed.skipped)} recordings of the manifest that cannot be read")
    print(format_scores(scores))
    if arguments.json:
        evaluation = Evaluation(
            checkpoint=str(path),
            manifest=config.corpus.manifest,
            split=split,
            condition=arguments.condition,
            temperature=checkpoint.temperature,
            left_out=len(packed.skipped),
            scores=scores,
        )
        write_text(Path(arguments.json), evaluation.model_dump_json(indent=2) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
