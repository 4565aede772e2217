"""Trains a classifier: `python -m speechmlp.train --config FILE [key=value ...]`."""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.config_file import load_config, override_config
from speechmlp.environment import require_torch
from speechmlp.errors import UserError, run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m speechmlp.train",
        description="Train a spoken-letter classifier.",
        epilog="example: python -m speechmlp.train --config configs/seed.yaml model.activation=tanh training.epochs=20",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--config", metavar="FILE", help="YAML file of the experiment; the shipped ones are in configs/"
    )
    source.add_argument("--resume", metavar="RUN", help="run folder to go on with, from its last checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value, as in training.epochs=20")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    # torch is imported late, so that --help and mistakes in the configuration answer at once.
    config = load_config(arguments.config, arguments.overrides) if arguments.config else None
    require_torch()
    import torch
    from tqdm import tqdm

    from speechmlp.checkpoint import load_checkpoint, save_checkpoint
    from speechmlp.dataset import DeviceCorpus, Sampler, SpokenLetters
    from speechmlp.engine import EpochRecord, fit_normalizer, make_deterministic, select_device, train
    from speechmlp.models import SpeechClassifier
    from speechmlp.optim import build_optimizer
    from speechmlp.packing import open_packed
    from speechmlp.runlog import BEST, LAST, create_run, write_metrics

    history: list[EpochRecord] = []
    last = None
    if config is None:
        last = load_checkpoint(Path(arguments.resume) / LAST)
        config, history = override_config(last.config, arguments.overrides), last.history
        if len(history) >= config.training.epochs:
            raise UserError(
                f"{arguments.resume}: all {config.training.epochs} epochs are done; "
                "add training.epochs=N with a larger N to go on"
            )
    device = select_device(config.device)
    if config.training.deterministic:
        make_deterministic(device)

    packed = open_packed(config.corpus)
    validation, main = SpokenLetters(packed, "valid"), SpokenLetters(packed, "train")
    mixed = [
        SpokenLetters(open_packed(config.corpus.model_copy(update={"manifest": mix.manifest})), "train")
        for mix in config.corpus.mix
    ]
    training = [main, *mixed]
    corpus, valid = DeviceCorpus.join([letters.to(device) for letters in training]), validation.to(device)
    weights = [mix.weight for mix in config.corpus.mix]
    sampler = Sampler(corpus.labels, [len(letters) for letters in training], weights, config.training.balance)

    torch.manual_seed(config.training.seed)
    model = SpeechClassifier(config).to(device)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    if last is None:
        fit_normalizer(model, corpus)
    average = copy.deepcopy(model).eval() if config.training.ema else None
    if last is None:
        run = create_run(config, Path(arguments.config).stem)
    else:
        run = Path(arguments.resume)
        try:
            kept = last.training or {}
            model.load_state_dict(kept["model"] or last.model.state_dict())
            optimizer.load_state_dict(kept["optimizer"])
            if average is not None:
                average.load_state_dict(last.model.state_dict())
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{run}: the overrides change the model or optimizer; start a new run instead") from error
        write_metrics(run, history)

    for problem in packed.skipped:
        tqdm.write(f"left out: {problem}", file=sys.stderr)
    how = "decoded" if packed.decoded else "already decoded"
    print(f"Corpus: {config.corpus.manifest}: {len(main)} training and {len(validation)} validation letters ({how})")
    for mix, letters in zip(config.corpus.mix, mixed, strict=True):
        print(f"Mixed in: {mix.manifest}: {mix.weight:g} for each of them, out of {len(letters)}")
    print(f"Model: {model.num_parameters():,} parameters on {device}")
    print(f"Run: {run}", flush=True)
    best = None
    used = model if average is None else average
    for record in train(model, average, corpus, sampler, valid, config.training, optimizer, history):
        history.append(record)
        learnt = None if average is None else model.state_dict()
        save_checkpoint(run / LAST, config, used, history, {"optimizer": optimizer.state_dict(), "model": learnt})
        if record.best:
            best = record
            save_checkpoint(run / BEST, config, used, history)
        write_metrics(run, history)
        tqdm.write(
            f"epoch {record.epoch}/{config.training.epochs}  train loss {record.train_loss:.4f}  "
            f"valid loss {record.valid_loss:.4f}  valid accuracy {100 * record.valid_accuracy:.2f}%"
            f"{'  best' if record.best else ''}"
        )
        sys.stdout.flush()
        if record.stop:
            print(f"Stopped: {record.stop}")
    best = best or max(history, key=lambda record: (record.valid_accuracy, -record.valid_loss))
    print(f"Best: {100 * best.valid_accuracy:.2f}% of the validation letters, epoch {best.epoch}, {run / BEST}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _train, argv)


if __name__ == "__main__":
    sys.exit(main())
