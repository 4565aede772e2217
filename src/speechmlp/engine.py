"""Learning and predicting: loops over batches on a device. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances.
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.config import TrainingConfig
from speechmlp.dataset import Batch, DeviceCorpus
from speechmlp.distillation import Teachers
from speechmlp.distributed import Processes
from speechmlp.errors import UserError
from speechmlp.history import EpochRecord, kept_epoch, stop_reason
from speechmlp.interruption import Interrupted, PartialEpoch
from speechmlp.labels import NUM_LETTERS
from speechmlp.models import SpeechClassifier
from speechmlp.optim import lr_share
from speechmlp.sampling import Sampler, batch_sizes, num_batches
from speechmlp.step import TrainingStep, Update
from speechmlp.watch import dead_layers, has_not_moved

EVALUATION_BATCH = 256
"""Large enough to fill two cores, small enough that features of a batch stay in cache."""

LOOK_EVERY = 100
"""Steps after which it is looked whether all were finite; on CUDA that means waiting for them."""

ALONE = Processes()


def select_device(name: str) -> torch.device:
    """Returns the device of a configuration's `device` value.

    Raises:
        UserError: CUDA is asked for and absent, or has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device: {name} is asked for, but no CUDA device can be used here; take cpu or auto")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UserError(f"device: expected cuda:0 to cuda:{torch.cuda.device_count() - 1}, found {name}")
    return device


def make_deterministic(device: torch.device) -> None:
    """Makes CUDA kernels give the same bits every time; the CPU does so by itself."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


@torch.no_grad()
def fit_normalizer(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE) -> None:
    """Stores the training corpus's feature statistics in a model whose normaliser is of the kind `corpus`."""
    if model.normalizer.kind != "corpus":
        return
    sums = torch.zeros(3, len(model.normalizer.mean), dtype=torch.float64, device=corpus.device)
    for batch in corpus.batches(EVALUATION_BATCH, processes.share(torch.arange(len(corpus)))):
        double = model.readings(batch.waveforms).flatten(0, 1).double()  # [R x B, C, F]
        count = torch.full_like(sums[0], double.shape[0] * double.shape[2])
        sums += torch.stack([count, double.sum((0, 2)), double.square().sum((0, 2))])
    count, total, squares = processes.add(sums)
    mean = total / count
    model.normalizer.set_statistics(mean, (squares / count - mean.square()).clamp_min(0).sqrt())


@torch.inference_mode()
def predict(
    model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE, bar: bool = True
) -> tuple[Tensor, Tensor]:
    """Returns logits float32 [N, 26] and labels int64 [N] of every utterance, in the corpus's order.

    Of several processes each predicts its share, and each gets all. The first one shows a progress bar, if any does.
    """
    model.eval()
    mine = processes.share(torch.arange(len(corpus)))
    batches, total = corpus.batches(EVALUATION_BATCH, mine), num_batches(len(mine), EVALUATION_BATCH)
    logits = [torch.empty(0, NUM_LETTERS, device=corpus.device)]
    for batch in tqdm(batches, "predicting", total, leave=False, disable=None if bar and processes.first else True):
        logits.append(model(batch.waveforms).float())
    return processes.whole(torch.cat(logits), len(corpus)).cpu(), corpus.labels.cpu()


def _targets(labels: Tensor, smoothing: float) -> Tensor:
    """Returns the probabilities to learn, [B, 26], of labels [B].

    Where there is no letter all are equally probable (outlier exposure, Hendrycks et al., 2019).
    """
    certain = F.one_hot(labels, NUM_LETTERS + 1)[:, :NUM_LETTERS] * (1 - smoothing)
    return certain + (1 - certain.sum(1, keepdim=True)) / NUM_LETTERS


def _mix(features: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Returns features [B, C, F] and targets [B, 26] mixed with those of others (mixup, Zhang et al., 2018)."""
    strength = torch.full((), alpha, device=features.device)
    draw = torch.distributions.Beta(strength, strength, validate_args=False).sample((len(features),))
    share = torch.maximum(draw, 1 - draw).to(features)
    other = torch.randperm(len(features), device=features.device)
    wide = share.view(-1, *[1] * (features.dim() - 1))
    mixed = wide * features + (1 - wide) * features[other]
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[other]


def lesson(features: Tensor, labels: Tensor, config: TrainingConfig) -> tuple[Tensor, Tensor]:
    """Returns the features [B, C, F] to learn and the probabilities [B, 26] of each, of features and labels [B]."""
    targets = _targets(labels, config.label_smoothing)
    return _mix(features, targets, config.mixup) if config.mixup else (features, targets)


def losses(
    network: Callable[[Tensor], Tensor],
    features: Tensor,
    targets: Tensor,
    config: TrainingConfig,
    teachers: Teachers | None,
) -> tuple[Tensor, Tensor]:
    """Returns a network's loss to descend, and the labels' part of it, in nats.

    Args:
        network: from features [B, C, F] to logits [B, 26].
        features: to learn.
        targets: [B, 26], the probabilities to learn.
        config: the training section.
        teachers: trained models to learn from beside the labels.
    """
    with torch.autocast(features.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits = network(features)
    loss = F.cross_entropy(logits.float(), targets)
    return (loss if teachers is None else teachers.loss(logits.float(), features, loss)), loss


class Learner(nn.Module):
    """What a step computes from a batch, as one module: that is what DistributedDataParallel takes."""

    def __init__(self, model: SpeechClassifier, config: TrainingConfig, teachers: Teachers | None) -> None:
        super().__init__()
        self.model, self.config, self.teachers = model, config, teachers

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss to descend, and the labels' part of it, in nats."""
        features, front_end_loss = self.model.training_features(batch.waveforms)
        features, targets = lesson(features, batch.labels, self.config)
        sought, loss = losses(self.model.network, features, targets, self.config, self.teachers)
        return sought + front_end_loss, loss


def _epoch_seed(config: TrainingConfig, epoch: int) -> int:
    return (config.seed << 24) + epoch


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


def _epoch(
    watch: Watch,
    model: SpeechClassifier,
    corpus: DeviceCorpus,
    sampler: Sampler,
    config: TrainingConfig,
    epoch: int,
    processes: Processes,
    partial: PartialEpoch | None,
    interrupted: Callable[[], bool],
    bar: bool,
) -> Generator[Wanted, Tensor, tuple[float, float]]:
    """Wants the steps of an epoch, or the rest of them; returns the mean loss and the last learning rate."""
    # Order, dropout and augmentation depend on seed and epoch alone, so a resumed epoch repeats exactly.
    seed = _epoch_seed(config, epoch)
    torch.manual_seed(processes.seed(seed))
    order = sampler.order(torch.Generator().manual_seed(seed))
    model.train()
    sizes = batch_sizes(len(order), config.batch_size)
    steps = len(sizes)
    total, done = 0.0, 0
    if partial is not None:
        done, total = partial.steps, partial.loss
        partial.restore_generators(corpus.device)
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
    positions = corpus.positions(config.batch_size, order[done * config.batch_size :])
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
                here = PartialEpoch.here(epoch, done, len(order), config.batch_size, so_far(), corpus.device)
                raise Interrupted(here)
    watch.look()
    mine = torch.tensor(so_far(), dtype=torch.float64, device=corpus.device)
    return processes.add(mine).item() / len(order), lr


def batch_positions(sampler: Sampler, config: TrainingConfig, epoch: int, step: int) -> list[int]:
    """Returns which utterances a step of an epoch learns, as positions in the training corpus."""
    order = sampler.order(torch.Generator().manual_seed(_epoch_seed(config, epoch)))
    return torch.split(order, batch_sizes(len(order), config.batch_size))[step].tolist()


def course(
    model: SpeechClassifier,
    average: SpeechClassifier | None,
    corpus: DeviceCorpus,
    sampler: Sampler,
    valid: DeviceCorpus,
    config: TrainingConfig,
    history: list[EpochRecord],
    watch: Watch,
    processes: Processes = ALONE,
    partial: PartialEpoch | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda _: None,
    bar: bool = True,
) -> Course:
    """Returns the course of training that `train` runs, for someone else to do its steps.

    Args:
        model: as for `train`, and so all that is not told here.
        average: of weights.
        corpus: to learn.
        sampler: of an epoch.
        valid: the validation split.
        config: the training section.
        history: before.
        watch: of the steps.
        processes: that learn together.
        partial: the epoch that has begun.
        interrupted: whether to end.
        warn: told what should be known.
        bar: whether to show the progress of an epoch.

    Raises:
        NonFiniteError: the watch says so.
        UserError: the validation loss is not finite.
        Interrupted: it was asked to end.
    """
    best = kept_epoch(history, config)
    before = history[-1].valid_loss if history else math.nan
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        begun = partial if partial is not None and partial.epoch == epoch else None
        train_loss, lr = yield from _epoch(
            watch, model, corpus, sampler, config, epoch, processes, begun, interrupted, bar
        )
        used = model if average is None else average
        with dead_layers(used.network, warn):
            logits, labels = predict(used, valid, processes, bar)
        valid_loss = F.cross_entropy(logits, labels).item()
        if not math.isfinite(valid_loss):
            raise UserError(f"epoch {epoch}: the validation loss is {valid_loss}; try a smaller training.optimizer.lr")
        if has_not_moved(before, valid_loss) and lr > 0.01 * config.optimizer.lr:  # slow at a schedule's end is meant
            warn(f"epoch {epoch}: the loss has not moved; try another training.optimizer.lr")
        before = valid_loss
        valid_accuracy = (logits.argmax(1) == labels).double().mean().item()
        result = (valid_accuracy, -valid_loss)
        is_best = config.keep == "last" or best is None or result > (best.valid_accuracy, -best.valid_loss)
        best_epoch = epoch if is_best or best is None else best.epoch
        record = EpochRecord(
            epoch=epoch,
            step=epoch * num_batches(sampler.count, config.batch_size),
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
    model: SpeechClassifier,
    average: SpeechClassifier | None,
    corpus: DeviceCorpus,
    sampler: Sampler,
    valid: DeviceCorpus,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    history: list[EpochRecord],
    teachers: Teachers | None = None,
    processes: Processes = ALONE,
    partial: PartialEpoch | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda _: None,
) -> Iterator[EpochRecord]:
    """Trains after the epochs in `history`, and yields a record after each further epoch, until a reason to stop.

    Args:
        model: on the corpus's device; changed in place.
        average: the moving average of the model's weights, validated in its place; changed in place. None without
            `ema`.
        corpus: the training utterances.
        sampler: which of them an epoch learns.
        valid: the validation split; never learnt from.
        config: the training section.
        optimizer: of the model's parameters.
        history: records of the epochs already done; empty for a new run. Not changed.
        teachers: trained models to learn from beside the labels.
        processes: that learn together, each a share of every batch; all of them get the same records.
        partial: the epoch after those in `history`, where it has begun.
        interrupted: asked after every step whether to end.
        warn: told what does not stop training and should be known.

    Raises:
        NonFiniteError: a loss or a gradient is not finite.
        UserError: the validation loss is not finite.
        Interrupted: it was asked to end; after a step, and never after an epoch's last one.
    """
    learner = processes.averaging(Learner(model, config, teachers))
    learn = TrainingStep(learner, Update(model, average, config, optimizer), config.cuda_graphs, processes)
    steps = course(
        model,
        average,
        corpus,
        sampler,
        valid,
        config,
        history,
        learn.watch,
        processes,
        partial,
        interrupted,
        warn,
        processes.first,
    )
    loss = None
    with closing(steps):
        while True:
            try:
                found = steps.send(loss)
            except StopIteration:
                return
            if isinstance(found, EpochRecord):
                loss = None
                yield found
            else:
                batch = corpus.take(processes.share(found.positions))
                loss = learn(batch, len(found.positions), found.lr, found.number)
