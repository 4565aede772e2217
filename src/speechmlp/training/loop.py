"""The training loop: epochs, their steps, and validation after each. Knows neither YAML nor files."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.config.schema import TrainingConfig
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.sampler import Sampler, batch_sizes, num_batches
from speechmlp.errors import UserError
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.runs.history import EpochRecord, next_record
from speechmlp.training.distributed import ALONE, Processes
from speechmlp.training.divergence import dead_layers, has_not_moved
from speechmlp.training.losses import Learner, Teachers, predict_shared
from speechmlp.training.optimizers import scheduled_lr, set_lr
from speechmlp.training.partial import Interrupted, PartialEpoch
from speechmlp.training.remaining import Remaining
from speechmlp.training.step import TrainingStep

CHECK_EVERY = 100
"""Steps after which their losses are read and checked; on CUDA that means waiting for them."""


@dataclass(frozen=True)
class Task:
    """A model, what it is trained on, and how far it has come.

    Attributes:
        model: on the corpus's device; changed in place.
        corpus: the training utterances.
        sampler: which of them an epoch consists of.
        valid: the validation set; never trained on.
        config: the training section.
        average: the moving average of the model's weights, validated instead of it; changed in place. None without
            `ema`.
        history: records of the epochs already done; empty for a new run. Not changed.
        partial: the epoch after those in `history`, if it has begun.
        processes: that train the model, each on a part of every batch; all of them get the same records.
        warn: called with what does not stop training and should be known.
        remaining: the time until the last epoch ends; started here.
        checked: positions int64 [M] of training letters whose accuracy is recorded after each epoch; None for none.
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
    remaining: Remaining = field(default_factory=Remaining)
    checked: Tensor | None = None


class _LossSum:
    """Sum of the losses of an epoch's steps. Recent ones stay on the device, so that no step waits for its loss."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._recent: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        self._recent.append(loss)

    def read(self) -> float:
        if self._recent:
            for loss in torch.stack(self._recent).tolist():
                self._total += loss
            self._recent.clear()
        return self._total


def _epoch_seed(config: TrainingConfig, epoch: int) -> int:
    return (config.seed << 24) + epoch


def _epoch_order(sampler: Sampler, config: TrainingConfig, epoch: int) -> Tensor:
    return sampler.order(torch.Generator().manual_seed(_epoch_seed(config, epoch)))


def batch_positions(sampler: Sampler, config: TrainingConfig, epoch: int, step: int) -> list[int]:
    """Returns which utterances are in the batch of an epoch's step, as positions in the training corpus."""
    order = _epoch_order(sampler, config, epoch)
    return torch.split(order, batch_sizes(len(order), config.batch_size))[step].tolist()


def _begin_epoch(task: Task, epoch: int) -> tuple[Tensor, int, float]:
    """Seeds the generators; returns the order of the utterances, how many steps are done, and the sum of their losses.

    Order, dropout and augmentation depend on the seed and the epoch alone, so that a resumed epoch repeats exactly.
    """
    torch.manual_seed(task.processes.seed(_epoch_seed(task.config, epoch)))
    order = _epoch_order(task.sampler, task.config, epoch)
    if task.partial is None or task.partial.epoch != epoch:
        return order, 0, 0.0
    task.partial.restore_generators(task.corpus.device)
    return order, task.partial.steps, task.partial.loss


def _right(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


def _validate(task: Task, epoch: int) -> tuple[float, float, float | None]:
    """Returns loss, in nats, and accuracy on the validation set; and the accuracy on the training letters checked."""
    used = task.model if task.average is None else task.average
    with dead_layers(used.network, task.warn):
        logits, labels = predict_shared(used, task.valid, task.processes)
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise UserError(f"epoch {epoch}: the validation loss is {loss}; try a smaller training.optimizer.lr")
    if task.checked is None:
        return loss, _right(logits, labels), None
    return loss, _right(logits, labels), _right(*predict_shared(used, task.corpus, task.processes, task.checked))


def train(
    task: Task,
    optimizer: torch.optim.Optimizer,
    teachers: Teachers | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[EpochRecord]:
    """Trains after the epochs in the history, until there is a reason to stop.

    Args:
        task: the model and what it is trained on.
        optimizer: of the model's parameters.
        teachers: trained models whose probabilities are trained on as well.
        interrupted: asked after every step whether to stop.

    Yields:
        A record after each further epoch, before the next one begins: what is to be saved is saved then.

    Raises:
        NonFiniteError: a loss or a gradient is not finite.
        UserError: the validation loss is not finite.
        Interrupted: `interrupted` said so; after a step, and never after an epoch's last one.
    """
    config, corpus, processes = task.config, task.corpus, task.processes
    learner = processes.averaging(Learner(task.model, config, teachers))
    do_step = TrainingStep(learner, task.model, task.average, config, optimizer, processes)
    history = list(task.history)
    steps = num_batches(task.sampler.count, config.batch_size)  # of an epoch
    total_steps = config.epochs * steps
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        order, done, total = _begin_epoch(task, epoch)
        losses = _LossSum(total)
        if epoch == len(task.history) + 1:
            task.remaining.begin((epoch - 1) * steps + done)
        task.model.train()
        do_step.watch.begin(epoch, done)
        batches = corpus.positions(config.batch_size, order[done * config.batch_size :])
        title, hidden = f"epoch {epoch}/{config.epochs}", None if processes.first else True
        with tqdm(batches, title, steps, leave=False, disable=hidden, initial=done) as progress:
            for positions in progress:
                step, size = (epoch - 1) * steps + done, len(positions)
                lr = scheduled_lr(config, step, total_steps)
                set_lr(optimizer, lr)
                loss = do_step(corpus.take(processes.part(positions)), size, step)
                losses.add(loss * (processes.weight(size) * size / processes.count))
                done += 1
                if not progress.disable:
                    progress.set_postfix_str(f"run: {task.remaining.text(step + 1, total_steps)}", refresh=False)
                if done % CHECK_EVERY == 0:
                    do_step.watch.look()
                    losses.read()
                if done < steps and interrupted():
                    so_far = losses.read()
                    raise Interrupted(
                        PartialEpoch.here(epoch, done, len(order), config.batch_size, so_far, corpus.device)
                    )
        do_step.watch.look()
        all_losses = processes.add(torch.tensor(losses.read(), dtype=torch.float64, device=corpus.device))
        train_loss = all_losses.item() / len(order)

        valid_loss, valid_accuracy, train_accuracy = _validate(task, epoch)
        before = history[-1].valid_loss if history else math.nan
        if has_not_moved(before, valid_loss) and lr > 0.01 * config.optimizer.lr:  # slow at a schedule's end is meant
            task.warn(f"epoch {epoch}: the loss has not moved; try another training.optimizer.lr")
        seconds = round(time.perf_counter() - started, 3)
        record = next_record(
            history, config, epoch * steps, lr, train_loss, valid_loss, valid_accuracy, seconds, train_accuracy
        )
        history.append(record)
        yield record
        if record.stop:
            return
