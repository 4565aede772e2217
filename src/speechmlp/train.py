"""Trains a classifier: `python -m speechmlp.train --config FILE [key=value ...]`."""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

from speechmlp.config_file import load_config, override_config
from speechmlp.environment import keep_freed_memory, require_torch
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
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="with --config and output.name: go on with the run of that name where it has a checkpoint",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value, as in training.epochs=20")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    # torch is imported late, so that --help and mistakes in the configuration answer at once.
    config = load_config(arguments.config, arguments.overrides) if arguments.config else None
    require_torch()
    keep_freed_memory()
    import torch
    from tqdm import tqdm

    from speechmlp.board import Board
    from speechmlp.checkpoint import load_checkpoint, save_checkpoint
    from speechmlp.dataset import DeviceCorpus, Sampler, SpokenLetters
    from speechmlp.distillation import Teachers, same_features
    from speechmlp.distributed import join_processes
    from speechmlp.engine import (
        EpochRecord,
        fit_normalizer,
        kept_epoch,
        make_deterministic,
        predict,
        select_device,
        train,
    )
    from speechmlp.metrics import fit_reject_below, fit_temperature
    from speechmlp.models import SpeechClassifier
    from speechmlp.optim import build_optimizer
    from speechmlp.packing import open_packed
    from speechmlp.quick_check import quick_check
    from speechmlp.runlog import BEST, LAST, checkpointed_run, create_run, write_metrics

    processes = join_processes()
    history: list[EpochRecord] = []
    last = None
    if config is not None and arguments.go_on:
        wanted = config
        arguments.resume = processes.from_first(lambda: checkpointed_run(wanted))
        config = None if arguments.resume else config
    if config is None:
        last = processes.from_first(lambda: load_checkpoint(Path(arguments.resume) / LAST))
        config, history = override_config(last.config, arguments.overrides), last.history
        if arguments.go_on and history and history[-1].stop:
            print(f"Done: {arguments.resume}: {history[-1].stop}")
            return 0
        if len(history) >= config.training.epochs:
            raise UserError(
                f"{arguments.resume}: all {config.training.epochs} epochs are done; "
                "add training.epochs=N with a larger N to go on"
            )
    device = select_device(config.device)
    if config.training.deterministic:
        make_deterministic(device)

    packed = open_packed(config.corpus)
    validation = SpokenLetters(packed, "valid")
    main = SpokenLetters(packed, *(("train", "valid") if config.corpus.learn == "train+valid" else ("train",)))
    mixed = [
        SpokenLetters(open_packed(config.corpus.model_copy(update={"manifest": mix.manifest})), "train")
        for mix in config.corpus.mix
    ]
    negatives = [
        SpokenLetters(open_packed(config.corpus.model_copy(update={"manifest": mix.manifest}), letters=False), "train")
        for mix in config.corpus.negatives
    ]
    training = [main, *mixed, *negatives]
    corpus, valid = DeviceCorpus.join([letters.to(device) for letters in training]), validation.to(device)
    weights = [mix.weight for mix in (*config.corpus.mix, *config.corpus.negatives)]
    sampler = Sampler(corpus.labels, [len(letters) for letters in training], weights, config.training.balance)

    torch.manual_seed(config.training.seed)
    model = processes.sharing_statistics(SpeechClassifier(config).to(device))
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    if last is None:
        fit_normalizer(model, corpus, processes)
    teachers = None
    if distill := config.training.distill:
        trained = [load_checkpoint(path) for path in distill.teachers]
        for path, teacher in zip(distill.teachers, trained, strict=True):
            if not same_features(teacher.config, config):
                raise UserError(
                    f"{path}: its front end reads other features; expected the front_end of this configuration"
                )
        teachers = Teachers(distill, [teacher.model.to(device) for teacher in trained])
    board = Board() if config.output.tensorboard and processes.first else None
    average = copy.deepcopy(model).eval() if config.training.ema else None
    if last is None:
        run = processes.from_first(lambda: create_run(config, Path(arguments.config).stem))
    else:
        run = Path(arguments.resume)
        try:
            state = last.training or {}
            model.load_state_dict(state["model"] or last.model.state_dict())
            optimizer.load_state_dict(state["optimizer"])
            if average is not None:
                average.load_state_dict(last.model.state_dict())
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{run}: the overrides change the model or optimizer; start a new run instead") from error
        if processes.first:
            write_metrics(run, history)

    for finding in quick_check(packed) if config.corpus.audit and processes.first else ():
        tqdm.write(f"audit: {finding.line()}", file=sys.stderr)
    for problem in packed.skipped if processes.first else ():
        tqdm.write(f"left out: {problem}", file=sys.stderr)
    how = "decoded" if packed.decoded else "already decoded"
    print(f"Corpus: {config.corpus.manifest}: {len(main)} training and {len(validation)} validation letters ({how})")
    further = zip((*config.corpus.mix, *config.corpus.negatives), training[1:], strict=True)
    for mix, utterances in further:
        print(f"Mixed in: {mix.manifest}: {mix.weight:g} for each of them, out of {len(utterances)}")
    print(f"Model: {model.num_parameters():,} parameters on {device}")
    print(f"Run: {run}", flush=True)
    used = model if average is None else average
    if board is not None:
        board.open(run, len(history))
    parts = (model, average, corpus, sampler, valid, config.training, optimizer, history, teachers, processes)
    for record in train(*parts):
        history.append(record)
        if not processes.first:
            continue
        learnt = None if average is None else model.state_dict()
        save_checkpoint(run / LAST, config, used, history, {"optimizer": optimizer.state_dict(), "model": learnt})
        if record.best:
            save_checkpoint(run / BEST, config, used, history)
        write_metrics(run, history)
        if board is not None:
            board.epoch(record)
        tqdm.write(
            f"epoch {record.epoch}/{config.training.epochs}  train loss {record.train_loss:.4f}  "
            f"valid loss {record.valid_loss:.4f}  valid accuracy {100 * record.valid_accuracy:.2f}%"
            f"{'  best' if record.best and config.training.keep == 'best' else ''}"
        )
        sys.stdout.flush()
        if record.stop:
            print(f"Stopped: {record.stop}")
    kept = kept_epoch(history, config.training)
    if kept is not None and processes.first:
        learnt_too = ", which were learnt too" if config.corpus.learn == "train+valid" else ""
        which = config.training.keep.capitalize()
        share = f"{100 * kept.valid_accuracy:.2f}% of the validation letters{learnt_too}"
        print(f"{which}: {share}, epoch {kept.epoch}, {run / BEST}")
        best = load_checkpoint(run / BEST)
        logits, labels = predict(best.model.to(device), valid)
        if board is not None:
            board.close(kept.epoch, logits, labels, valid)
        if config.corpus.learn == "train":  # learnt utterances would make every model look too sure
            temperature = fit_temperature(logits, labels)
            reject_below = fit_reject_below(logits / temperature)
            save_checkpoint(
                run / BEST, best.config, best.model, best.history, temperature=temperature, reject_below=reject_below
            )
            print(f"Temperature: {temperature:.3f}, fitted on the validation letters")
            print(f"Declines what is less probable than {reject_below:.3f}, as one in 20 of them is")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _train, argv)


if __name__ == "__main__":
    sys.exit(main())
