"""One training run, from a configuration to the files in its folder."""

import copy
import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from speechmlp.config.schema import Config, MLPConfig
from speechmlp.errors import UserError, out_of_memory
from speechmlp.evaluation.advice import advise
from speechmlp.evaluation.calibration import calibrate
from speechmlp.evaluation.metrics import find_baseline
from speechmlp.evaluation.text import format_baseline, format_calibration
from speechmlp.interruption import Interruption
from speechmlp.labels import describe
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import make_deterministic, predict, select_device
from speechmlp.runs.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, rewrite_checkpoint, save_checkpoint
from speechmlp.runs.folder import BEST, LAST, create_run, lock_run, write_metrics
from speechmlp.runs.history import EpochRecord, kept_epoch
from speechmlp.training.corpora import Corpora
from speechmlp.training.distributed import ALONE, Processes
from speechmlp.training.divergence import NonFiniteError
from speechmlp.training.loop import Task, batch_positions, train
from speechmlp.training.losses import Teachers, fit_normalizer, same_features
from speechmlp.training.optimizers import build_optimizer, restore_optimizer
from speechmlp.training.partial import Interrupted, PartialEpoch
from speechmlp.training.remaining import Remaining
from speechmlp.training.resume import Start, load_start
from speechmlp.training.tensorboard import Board


def load_teachers(config: Config, device: torch.device) -> Teachers | None:
    """Returns the teachers; None without `distill`.

    Raises:
        UserError: a checkpoint cannot be read, or its front end differs.
    """
    if config.training.distill is None:
        return None
    trained = [load_checkpoint(find_checkpoint(path)) for path in config.training.distill.teachers]
    for path, teacher in zip(config.training.distill.teachers, trained, strict=True):
        if teacher.config.labels != config.labels:
            raise UserError(f"{path}: its labels are {describe(teacher.config.labels)}; expected those of the student")
        if teacher.config.input != config.input:
            raise UserError(f"{path}: expected the input of this configuration, found {teacher.config.input!r}")
        if not same_features(teacher.config, config):
            raise UserError(
                f"{path}: its front end computes other features; expected the front_end of this configuration"
            )
    return Teachers(config.training.distill, [teacher.model.to(device) for teacher in trained])


def _describe_head(labels: tuple[str, ...], before: tuple[str, ...]) -> str:
    """Returns what to say about the last layer of a model that starts from one with other labels; nothing if equal."""
    if labels == before:
        return ""
    kept, new = ([label for label in labels if (label in before) == known] for known in (True, False))
    dropped = [label for label in before if label not in labels]
    parts = [("kept for", kept), ("new for", new), ("dropped for", dropped)]
    return "; its last layer: " + ", ".join(f"{how} {describe(some)}" for how, some in parts if some)


@dataclass(frozen=True)
class Fit:
    """A run of training that has ended.

    Attributes:
        run: its folder, with best.pt, last.pt, metrics.jsonl, config.yaml and environment.json.
        history: records of all its epochs.
        signal: number of the signal that interrupted it; None if it came to its end.
    """

    run: Path
    history: tuple[EpochRecord, ...]
    signal: int | None = None


def fit(
    config: Config | Start,
    name: str = "run",
    *,
    processes: Processes = ALONE,
    interruption: Interruption | None = None,
) -> Fit:
    """Trains a classifier and writes its run folder; prints how training goes.

    SIGINT (Ctrl-C) and SIGTERM end training after the current step and save everything.

    Args:
        config: what to train, as `load_config` returns it; or a run to continue, as `resume` returns it.
        name: of the run folder, followed by the time, if the configuration names none.
        processes: that train the model together, as `join_processes` returns them.
        interruption: an entered one, if signals before this call count too.

    Returns:
        The run folder and a record of each epoch: losses in nats, accuracies as fractions from 0 to 1.

    Raises:
        UserError: the configuration, a corpus, a checkpoint or the folder cannot be used, training is over already, or
            losses are not finite.

    Example:
        >>> from speechmlp.config.loading import load_config
        >>> config = load_config("configs/quickstart.yaml", ["training.epochs=3"])  # doctest: +SKIP
        >>> trained = fit(config)  # doctest: +SKIP
        >>> trained.history[-1].valid_accuracy  # doctest: +SKIP
        0.8846
    """
    start = config if isinstance(config, Start) else Start(config)
    if start.over is not None:
        raise UserError(
            f"{start.run}: training is over ({start.over}); change what ended it to go on, as in training.epochs=N "
            "with a larger N"
        )
    with Interruption() if interruption is None else nullcontext(interruption) as entered:
        training = TrainingRun(start, name, processes)
        if processes.first:
            training.print_summary()
        signal = training.finish(entered)
        return Fit(training.run, tuple(training.history), signal)


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f}%"


class TrainingRun:
    """A model in training and its folder.

    Making one opens the corpora, builds the model or takes it from the checkpoint, and makes the folder of a new run.

    Args:
        start: a new run, or one to continue.
        name: of a new run, if its configuration has none.
        processes: that train the model together.

    Attributes:
        run: the folder.
        used: the model that is validated and kept: the average of weights if there is one.
        history: records of the epochs done.

    Raises:
        UserError: something in the configuration, the corpora, the checkpoint or the folder is wrong.
    """

    def __init__(self, start: Start, name: str, processes: Processes = ALONE) -> None:
        config, trained = load_start(start.config) if start.last is None else (start.config, None)
        self.config = config
        self.processes = processes
        self.device = select_device(config.device)
        if config.training.deterministic:
            make_deterministic(self.device)
        self.corpora = Corpora.open(config, self.device)
        self._require_two_for_batch_norm()
        self._head = ""
        torch.manual_seed(config.training.seed)
        model = SpeechClassifier(config)
        if trained is not None:
            model.take_weights(trained.model)
            self._head = _describe_head(config.labels, trained.config.labels)
        self.model = processes.sharing_statistics(model.to(self.device))
        self.optimizer = build_optimizer(config.training.optimizer, self.model.parameters())
        if start.last is None and trained is None:
            fit_normalizer(self.model, self.corpora.corpus, processes)
        self.teachers = load_teachers(config, self.device)
        self.trained_on = self.corpora.fingerprints() if processes.first else None
        for earlier in (trained, start.last):
            if earlier is not None and earlier.trained_on is not None and self.trained_on is not None:
                self.trained_on |= earlier.trained_on
        self.board = Board() if config.output.tensorboard and processes.first else None
        self.average = copy.deepcopy(self.model).eval() if config.training.ema else None
        self.used = self.model if self.average is None else self.average
        self.history: list[EpochRecord] = []
        self.partial: PartialEpoch | None = None
        early = config.training.patience is not None or config.training.stop_at_loss is not None
        self.remaining = Remaining(at_most=early)
        self._warned: set[str] = set()
        self._lock = start.lock  # held until this process ends
        if start.run is None:
            self.run = processes.from_first(lambda: create_run(config, name))
            if processes.first:
                self._lock = lock_run(self.run)
        else:
            self.run = start.run
        if start.last is not None:
            self._restore(start.last)

    def _require_two_for_batch_norm(self) -> None:
        """Checks that no batch of batch normalisation has a single utterance.

        Raises:
            UserError: an epoch has one utterance, or fewer than two for each process.
        """
        model, count = self.config.model, self.corpora.sampler.count
        if isinstance(model, MLPConfig) and model.norm == "batch" and count < 2:
            raise UserError(
                f"{self.config.corpus.manifest}: expected 2 or more training utterances with model.norm batch, found "
                f"{count}; add recordings, or choose model.norm=layer"
            )

    def _restore(self, last: Checkpoint) -> None:
        """Restores weights, optimizer and progress from a checkpoint."""
        self.history = last.history
        try:
            state = last.training or {}
            self.model.load_state_dict(state["model"] or last.model.state_dict())
            restore_optimizer(self.optimizer, state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(last.model.state_dict())
            self.partial = PartialEpoch.read(state["partial"]) if state.get("partial") else None
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            if out_of_memory(error):
                raise
            raise UserError(
                f"{self.run}: the overrides change the model or optimizer; start a new run instead"
            ) from error
        if self.partial is None:
            return
        if self.processes.count > 1:
            raise UserError(
                f"{self.run}: one process was interrupted within epoch {self.partial.epoch}; continue with one process"
            )
        begun = (self.partial.utterances, self.partial.batch_size)
        size = (self.corpora.sampler.count, self.config.training.batch_size)
        if self.partial.epoch != len(self.history) + 1 or begun != size:
            raise UserError(
                f"{self.run}: it ended within an epoch of {begun[0]} utterances by {begun[1]}, found {size[0]} by "
                f"{size[1]}; finish it with the corpus and training.batch_size that it began with"
            )

    def print_summary(self) -> None:
        """Prints the corpora, the size of the model, and the folder."""
        self.corpora.print_summary(self.config)
        if self.config.training.start_from is not None and not self.history:
            print(f"Start: {self.config.training.start_from}, whose front_end and model sections are used{self._head}")
        processes = f", {self.processes.count} processes" if self.processes.count > 1 else ""
        print(f"Model: {self.model.num_parameters():,} parameters on {self.device}{processes}")
        print(f"Run: {self.run}", flush=True)

    def task(self) -> Task:
        """Returns the task of the training loop."""
        return Task(
            self.model,
            self.corpora.corpus,
            self.corpora.sampler,
            self.corpora.valid,
            self.config.training,
            self.average,
            self.history,
            self.partial,
            self.processes,
            self._warn,
            self.remaining,
            self.corpora.checked(),
        )

    def _warn(self, warning: str) -> None:
        kind = warning.rpartition(": ")[2]
        if kind not in self._warned and self.processes.first:  # once, and not after every epoch
            tqdm.write(f"warning: {warning}", file=sys.stderr)
        self._warned.add(kind)

    def _save_last(self, begun: PartialEpoch | None = None) -> None:
        weights = None if self.average is None else self.model.state_dict()
        state = {"optimizer": self.optimizer.state_dict(), "model": weights, "partial": begun and vars(begun)}
        save_checkpoint(self.run / LAST, self.config, self.used, self.history, state, trained_on=self.trained_on)

    def _keep_best(self) -> list[str]:
        """Makes best.pt ready for use; returns lines about it."""
        kept = kept_epoch(self.history, self.config.training)
        assert kept is not None
        also_trained = ", which were trained on too" if self.config.corpus.learn == "train+valid" else ""
        which = self.config.training.keep.capitalize()
        accuracy = f"{100 * kept.valid_accuracy:.2f}% of the validation letters{also_trained}"
        lines = [f"Stopped: {self.history[-1].stop}", f"{which}: {accuracy}, epoch {kept.epoch}, {self.run / BEST}"]
        best = load_checkpoint(self.run / BEST)
        model = best.model.to(self.device)
        logits, labels = predict(model, self.corpora.valid)
        best = replace(best, history=self.history)  # those after the kept one too
        if self.config.corpus.learn == "train":  # on utterances trained on, every model is overconfident
            negatives = [predict(model, part)[0] for part in self.corpora.valid_negatives(self.config)]
            others = torch.cat(negatives) if negatives else None
            temperature, reject_below, found = calibrate(logits, labels, others, "validation letters")
            best = replace(best, temperature=temperature, reject_below=reject_below, calibration=found)
            lines += format_calibration(best.temperature, best.reject_below, found)
        else:
            lines.append(
                "Rejects nothing: temperature and threshold need letters that it was not trained on (calibrate)"
            )
        rewrite_checkpoint(self.run / BEST, best)
        if self.board is not None:
            calibrated = logits / best.temperature
            valid = (self.corpora.valid, self.corpora.valid_utterances)
            self.board.close(kept.epoch, calibrated, labels, best.reject_below, *valid)
        baseline, train = find_baseline(labels, self.config.labels), kept.train_accuracy
        lines.append(format_baseline(baseline, train_accuracy=train))
        advice = advise(self.config, baseline, kept.valid_accuracy, train, None)
        if self.config.corpus.learn == "train" and advice is not None:
            lines.append(f"What this means: {advice}")
        return lines

    def keep(self, record: EpochRecord) -> None:
        """Writes what the last epoch in the history changed, and prints its figures."""
        if self.board is not None:
            self.board.epoch(record)
        # last.pt is written after best.pt: if the process is killed in between, the epoch is repeated.
        if record.best:
            save_checkpoint(self.run / BEST, self.config, self.used, self.history, trained_on=self.trained_on)
        lines = self._keep_best() if record.stop else []
        self._save_last()
        write_metrics(self.run, self.history)
        epochs = self.config.training.epochs
        left = "" if record.stop else self.remaining.text(record.step, record.step // record.epoch * epochs)
        tqdm.write(
            f"epoch {record.epoch}/{epochs}  "
            f"train loss {record.train_loss:.4f}  valid loss {record.valid_loss:.4f}  "
            f"train accuracy {_percent(record.train_accuracy)}  valid accuracy {_percent(record.valid_accuracy)}"
            f"{'  best' if record.best and self.config.training.keep == 'best' else ''}"
            f"{f'  {left}' if left else ''}"
        )
        for line in lines:
            print(line, flush=True)

    def explained(self, error: NonFiniteError) -> UserError:
        """Returns the error with the last good checkpoint and the utterances of the step."""
        last = self.run / LAST
        positions = batch_positions(self.corpora.sampler, self.config.training, len(self.history) + 1, error.step)
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        names = ", ".join(self.corpora.ids_at(positions))
        return UserError(f"{error}; {good}", f"its utterances: {names}")

    def finish(self, interruption: Interruption) -> int | None:
        """Trains to the end or until a signal interrupts it; returns the signal's number or None.

        A single process saves after the step. Several processes end at once and repeat the epoch later, because a
        signal does not reach them at the same step.

        Raises:
            UserError: a loss or a gradient is not finite, or a file cannot be written.
        """
        if self.board is not None:
            self.board.open(self.run, len(self.history), self.config)
        epochs = train(self.task(), self.optimizer, self.teachers, interruption)
        if self.processes.count == 1:
            interruption.wait()
        try:
            for record in epochs:
                self.history.append(record)
                if self.processes.first:
                    self.keep(record)
                if interruption() and not record.stop:
                    return self._interrupted(f"after epoch {record.epoch}", interruption)
        except Interrupted as ended:
            self._save_last(ended.partial)
            return self._interrupted(str(ended), interruption)
        except NonFiniteError as error:
            raise self.explained(error) from error
        return None

    def _interrupted(self, where: str, interruption: Interruption) -> int | None:
        again = f"speechmlp train --resume {shlex.quote(str(self.run))}"
        print(f"interrupted {where}; saved, go on with: {again}", file=sys.stderr)
        return interruption.number
