"""Trains a classifier: `python -m speechmlp.train --config FILE [key=value ...]`."""

import argparse
import copy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.config_file import load_config, override_config
from speechmlp.environment import keep_freed_memory, require_torch
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    from speechmlp.config import Config
    from speechmlp.interruption import Interruption


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
    from speechmlp.interruption import Interruption

    with Interruption() as interruption:
        return _run(arguments, config, interruption)


def _run(arguments: argparse.Namespace, config: "Config | None", interruption: "Interruption") -> int:
    keep_freed_memory()
    import torch
    from tqdm import tqdm

    from speechmlp.board import Board
    from speechmlp.checkpoint import load_checkpoint, save_checkpoint
    from speechmlp.dataset import DeviceCorpus, Sampler, SpokenLetters
    from speechmlp.distillation import Teachers, same_features
    from speechmlp.engine import (
        EpochRecord,
        batch_positions,
        finished,
        fit_normalizer,
        kept_epoch,
        make_deterministic,
        predict,
        select_device,
        train,
    )
    from speechmlp.interruption import Interrupted, PartialEpoch
    from speechmlp.metrics import fit_reject_below, fit_temperature
    from speechmlp.models import SpeechClassifier
    from speechmlp.optim import build_optimizer, restore_optimizer
    from speechmlp.packing import open_packed
    from speechmlp.quick_check import quick_check
    from speechmlp.runlog import BEST, CONFIG, LAST, create_run, lock_run, write_metrics
    from speechmlp.watch import NonFiniteError

    history: list[EpochRecord] = []
    last = partial = lock = None
    if config is None:
        run = Path(arguments.resume)
        lock = lock_run(run)
        if (run / LAST).exists() or not (run / CONFIG).exists():
            last = load_checkpoint(run / LAST)
            config, history = override_config(last.config, arguments.overrides), last.history
            write_metrics(run, history)
        else:  # it ended before there was anything to go on from
            config = override_config(load_config(run / CONFIG), arguments.overrides)
        if reason := finished(history, config.training):
            raise UserError(
                f"{run}: training is over ({reason}); change what ended it to go on, as in training.epochs=N with a "
                "larger N"
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
    model = SpeechClassifier(config).to(device)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    if last is None:
        fit_normalizer(model, corpus)
    teachers = None
    if distill := config.training.distill:
        trained = [load_checkpoint(path) for path in distill.teachers]
        for path, teacher in zip(distill.teachers, trained, strict=True):
            if not same_features(teacher.config, config):
                raise UserError(
                    f"{path}: its front end reads other features; expected the front_end of this configuration"
                )
        teachers = Teachers(distill, [teacher.model.to(device) for teacher in trained])
    board = Board() if config.output.tensorboard else None
    average = copy.deepcopy(model).eval() if config.training.ema else None
    if lock is None:
        run = create_run(config, Path(arguments.config).stem)
        lock = lock_run(run)
    if last is not None:
        try:
            state = last.training or {}
            model.load_state_dict(state["model"] or last.model.state_dict())
            restore_optimizer(optimizer, state["optimizer"])
            if average is not None:
                average.load_state_dict(last.model.state_dict())
            partial = PartialEpoch.read(state["partial"]) if state.get("partial") else None
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{run}: the overrides change the model or optimizer; start a new run instead") from error
        size = (sampler.count, config.training.batch_size)
        if partial is not None and (
            partial.epoch != len(history) + 1 or (partial.utterances, partial.batch_size) != size
        ):
            raise UserError(
                f"{run}: it ended within an epoch of {partial.utterances} utterances by {partial.batch_size}, "
                f"found {size[0]} by {size[1]}; finish it with the corpus and training.batch_size that it began with"
            )

    for finding in quick_check(packed) if config.corpus.audit else ():
        tqdm.write(f"audit: {finding.line()}", file=sys.stderr)
    for problem in packed.skipped:
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

    def save_last(begun: PartialEpoch | None = None) -> None:
        learnt = None if average is None else model.state_dict()
        state = {"optimizer": optimizer.state_dict(), "model": learnt, "partial": begun and vars(begun)}
        save_checkpoint(run / LAST, config, used, history, state)

    def keep_best() -> list[str]:
        """Makes best.pt ready for use; returns what there is to say about it."""
        kept = kept_epoch(history, config.training)
        assert kept is not None
        learnt_too = ", which were learnt too" if config.corpus.learn == "train+valid" else ""
        which = config.training.keep.capitalize()
        share = f"{100 * kept.valid_accuracy:.2f}% of the validation letters{learnt_too}"
        lines = [f"Stopped: {history[-1].stop}", f"{which}: {share}, epoch {kept.epoch}, {run / BEST}"]
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
            lines.append(f"Temperature: {temperature:.3f}, fitted on the validation letters")
            lines.append(f"Declines what is less probable than {reject_below:.3f}, as one in 20 of them is")
        return lines

    told: set[str] = set()

    def warn(warning: str) -> None:
        kind = warning.rpartition(": ")[2]
        if kind not in told:  # once, and not after every epoch
            tqdm.write(f"warning: {warning}", file=sys.stderr)
        told.add(kind)

    epochs = train(
        model,
        average,
        corpus,
        sampler,
        valid,
        config.training,
        optimizer,
        history,
        teachers,
        partial,
        interruption,
        warn,
    )
    interruption.wait()
    where = ""
    try:
        for record in epochs:
            history.append(record)
            if board is not None:
                board.epoch(record)
            # last.pt comes last: what it says is done is done, and a process killed before repeats the epoch.
            if record.best:
                save_checkpoint(run / BEST, config, used, history)
            lines = keep_best() if record.stop else []
            save_last()
            write_metrics(run, history)
            tqdm.write(
                f"epoch {record.epoch}/{config.training.epochs}  train loss {record.train_loss:.4f}  "
                f"valid loss {record.valid_loss:.4f}  valid accuracy {100 * record.valid_accuracy:.2f}%"
                f"{'  best' if record.best and config.training.keep == 'best' else ''}"
            )
            print(*lines, sep="\n", end="\n" if lines else "", flush=True)
            if interruption() and not record.stop:
                where = f"interrupted after epoch {record.epoch}"
                break
    except Interrupted as ended:
        save_last(ended.partial)
        where = str(ended)
    except NonFiniteError as error:
        positions = batch_positions(sampler, config.training, len(history) + 1, error.step)
        names = [utterance.id for part in training for utterance in part.utterances]
        good = f"the last good checkpoint is {run / LAST}" if (run / LAST).exists() else "there is no checkpoint yet"
        raise UserError(f"{error}; {good}", f"its utterances: {', '.join(names[at] for at in positions)}") from error
    if where:
        again = f"python -m speechmlp.train --resume {shlex.quote(str(run))}"
        print(f"{where}; saved, go on with: {again}", file=sys.stderr)
        return 128 + (interruption.number or 0)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _train, argv)


if __name__ == "__main__":
    sys.exit(main())
