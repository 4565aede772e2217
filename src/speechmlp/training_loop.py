"""The training loop: epochs, their steps, and a look at the validation split after each. Knows neither YAML nor files.

Dimension key: `B` batch.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.config import TrainingConfig
from speechmlp.dataset import DeviceCorpus
from speechmlp.distillation import Teachers
from speechmlp.distributed import Processes
from speechmlp.engine import ALONE, Learner, predict
from speechmlp.errors import UserError
from speechmlp.history import EpochRecord, kept_epoch, stop_reason
from speechmlp.interruption import Interrupted, PartialEpoch
from speechmlp.models import SpeechClassifier
from speechmlp.optim import lr_share
from speechmlp.sampling import Sampler, batch_sizes, num_batches
from speechmlp.step import TrainingStep, Update
from speechmlp.watch import dead_layers, has_not_moved

LOOK_EVERY = 100
"""Steps after which it is looked whether all were finite; on CUDA that means waiting for them."""


@dataclass(frozen=True)
class Task:
    """A model, what it learns, and how far it has come.

    Attributes:
        model: on the corpus's device; changed in place.
        corpus: the training utterances.
        sampler: which of them an epoch learns.
        valid: the validation split; never learnt from.
        config: the training section.
        average: the moving average of the model's weights, validated in its place; changed in place. None without
            `ema`.
        history: records of the epochs already done; empty for a new run. Not changed.
        partial: the epoch after those in `history`, where it has begun.
        processes: that learn together, each a share of every batch; all of them get the same records.
        warn: told what does not stop training and should be known.
    """

    model: SpeechClassifier
    corpus: DeviceCorpus
    sampler: Sampler
    valid: DeviceCorpus
    config: TrainingConfig
    average: SpeechClassifier | None = None
    history: Sequence[EpochRecord] = ()
    partial: PartialEpoch | None = None
    processes: Processes = ALONE
    warn: Callable[[str], None] = lambda _: None


class Wanted(NamedTuple):
    """A step that training wants done.

    Attributes:
        positions: int64 [B], in the training corpus, of the utterances to learn.
        lr: learning rate.
        number: of the step, 0 for a run's first.
    """

    positions: Tensor
    lr: float
    number: int


class Watch(Protocol):
    """What looks at steps, such as `StepWatch`."""

    def begin(self, epoch: int, step: int) -> None:
        """Starts an epoch, or goes on within it."""

    def look(self) -> None:
        """Looks at what the steps left; raises NonFiniteError where one of them is not finite."""


Course = Generator[Wanted | EpochRecord, Tensor | None, None]
"""Yields the steps that it wants done, and is sent the loss of each; yields a record after every epoch."""


def _epoch_seed(config: TrainingConfig, epoch: int) -> int:
    return (config.seed << 24) + epoch


def batch_positions(sampler: Sampler, config: TrainingConfig, epoch: int, step: int) -> list[int]:
    """Returns which utterances a step of an epoch learns, as positions in the training corpus."""
    order = sampler.order(torch.Generator().manual_seed(_epoch_seed(config, epoch)))
    return torch.split(order, batch_sizes(len(order), config.batch_size))[step].tolist()


def _epoch(
    task: Task, watch: Watch, epoch: int, interrupted: Callable[[], bool], bar: bool
) -> Generator[Wanted, Tensor, tuple[float, float]]:
    """Wants the steps of an epoch, or the rest of them; returns the mean loss and the last learning rate."""
    config, processes, device = task.config, task.processes, task.corpus.device
    # Order, dropout and augmentation depend on seed and epoch alone, so a resumed epoch repeats exactly.
    seed = _epoch_seed(config, epoch)
    torch.manual_seed(processes.seed(seed))
    order = task.sampler.order(torch.Generator().manual_seed(seed))
    task.model.train()
    sizes = batch_sizes(len(order), config.batch_size)
    steps = len(sizes)
    total, done = 0.0, 0
    if task.partial is not None and task.partial.epoch == epoch:
        done, total = task.partial.steps, task.partial.loss
        task.partial.restore_generators(device)
    recent: list[Tensor] = []  # losses that stay on the device for a while: no waiting in the step

    def so_far() -> float:
        nonlocal total
        if recent:
            for loss in torch.stack(recent).tolist():
                total += loss
            recent.clear()
        return total

    lr = 0.0
    watch.begin(epoch, done)
    positions = task.corpus.positions(config.batch_size, order[done * config.batch_size :])
    with tqdm(
        positions, f"epoch {epoch}/{config.epochs}", steps, leave=False, disable=None if bar else True, initial=done
    ) as chosen:
        for step, (these, size) in enumerate(zip(chosen, sizes[done:], strict=True), start=(epoch - 1) * steps + done):
            lr = config.optimizer.lr * lr_share(config.schedule, step, config.epochs * steps)
            loss = yield Wanted(these, lr, step)
            recent.append(loss * (processes.weight(size) * size / processes.count))
            done += 1
            if done % LOOK_EVERY == 0:
                watch.look()
                so_far()
            if done < steps and interrupted():
                here = PartialEpoch.here(epoch, done, len(order), config.batch_size, so_far(), device)
                raise Interrupted(here)
    watch.look()
    mine = torch.tensor(so_far(), dtype=torch.float64, device=device)
    return processes.add(mine).item() / len(order), lr


def course(task: Task, watch: Watch, interrupted: Callable[[], bool] = lambda: False, bar: bool = True) -> Course:
    """Returns the course of training that `train` runs, for someone else to do its steps.

    Args:
        task: what is learnt by what.
        watch: of the steps.
        interrupted: asked after every step whether to end.
        bar: whether to show the progress of an epoch.

    Raises:
        NonFiniteError: the watch says so.
        UserError: the validation loss is not finite.
        Interrupted: it was asked to end; after a step, and never after an epoch's last one.
    """
    config, history = task.config, task.history
    used = task.model if task.average is None else task.average
    best = kept_epoch(history, config)
    before = history[-1].valid_loss if history else math.nan
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        train_loss, lr = yield from _epoch(task, watch, epoch, interrupted, bar)
        with dead_layers(used.network, task.warn):
            logits, labels = predict(used, task.valid, task.processes, bar)
        valid_loss = F.cross_entropy(logits, labels).item()
        if not math.isfinite(valid_loss):
            raise UserError(f"epoch {epoch}: the validation loss is {valid_loss}; try a smaller training.optimizer.lr")
        if has_not_moved(before, valid_loss) and lr > 0.01 * config.optimizer.lr:  # slow at a schedule's end is meant
            task.warn(f"epoch {epoch}: the loss has not moved; try another training.optimizer.lr")
        before = valid_loss
        valid_accuracy = (logits.argmax(1) == labels).double().mean().item()
        result = (valid_accuracy, -valid_loss)
        is_best = config.keep == "last" or best is None or result > (best.valid_accuracy, -best.valid_loss)
        best_epoch = epoch if is_best or best is None else best.epoch
        record = EpochRecord(
            epoch=epoch,
            step=epoch * num_batches(task.sampler.count, config.batch_size),
            lr=lr,
            train_loss=train_loss,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            seconds=round(time.perf_counter() - started, 3),
            best=is_best,
            stop=stop_reason(config, epoch, train_loss, best_epoch),
        )
        best = record if is_best else best
        yield record
        if record.stop:
            return


def train(
    task: Task,
    optimizer: torch.optim.Optimizer,
    teachers: Teachers | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[EpochRecord]:
    """Trains after the epochs in the history, and yields a record after each further epoch, until a reason to stop.

    Args:
        task: what is learnt by what.
        optimizer: of the model's parameters.
        teachers: trained models to learn from beside the labels.
        interrupted: asked after every step whether to end.

    Raises:
        NonFiniteError: a loss or a gradient is not finite.
        UserError: the validation loss is not finite.
        Interrupted: it was asked to end; after a step, and never after an epoch's last one.
    """
    processes = task.processes
    learner = processes.averaging(Learner(task.model, task.config, teachers))
    update = Update(task.model, task.average, task.config, optimizer)
    learn = TrainingStep(learner, update, task.config.cuda_graphs, processes)
    loss = None
    with closing(course(task, learn.watch, interrupted, processes.first)) as steps:
        while True:
            try:
                found = steps.send(loss)
            except StopIteration:
                return
            if isinstance(found, EpochRecord):
                loss = None
                yield found
            else:
                batch = task.corpus.take(processes.share(found.positions))
                loss = learn(batch, len(found.positions), found.lr, found.number)
