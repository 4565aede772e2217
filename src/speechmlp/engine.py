"""Learning and predicting: loops over batches on a device. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances.
"""

import math
import os
import time
from collections.abc import Callable, Iterator

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
from speechmlp.step import TrainingStep
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
def predict(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE) -> tuple[Tensor, Tensor]:
    """Returns logits float32 [N, 26] and labels int64 [N] of every utterance, in the corpus's order.

    Of several processes each predicts its share, and each gets all.
    """
    model.eval()
    mine = processes.share(torch.arange(len(corpus)))
    batches, total = corpus.batches(EVALUATION_BATCH, mine), num_batches(len(mine), EVALUATION_BATCH)
    logits = [torch.empty(0, NUM_LETTERS, device=corpus.device)]
    for batch in tqdm(batches, "predicting", total, leave=False, disable=None if processes.first else True):
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


class Learner(nn.Module):
    """What a step computes from a batch, as one module: that is what DistributedDataParallel takes."""

    def __init__(self, model: SpeechClassifier, config: TrainingConfig, teachers: Teachers | None) -> None:
        super().__init__()
        self.model, self.config, self.teachers = model, config, teachers

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss to descend, and the labels' part of it, in nats."""
        config = self.config
        features, front_end_loss = self.model.training_features(batch.waveforms)
        targets = _targets(batch.labels, config.label_smoothing)
        if config.mixup:
            features, targets = _mix(features, targets, config.mixup)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = self.model.network(features)
        loss = F.cross_entropy(logits.float(), targets)
        sought = loss if self.teachers is None else self.teachers.loss(logits.float(), features, loss)
        return sought + front_end_loss, loss


def _epoch_seed(config: TrainingConfig, epoch: int) -> int:
    return (config.seed << 24) + epoch


def _train_epoch(
    learn: TrainingStep,
    model: SpeechClassifier,
    corpus: DeviceCorpus,
    sampler: Sampler,
    config: TrainingConfig,
    epoch: int,
    processes: Processes,
    partial: PartialEpoch | None,
    interrupted: Callable[[], bool],
) -> tuple[float, float]:
    """Learns an epoch's utterances, or the rest of them; returns the mean loss and the last learning rate."""
    # Order, dropout and augmentation depend on seed and epoch alone, so a resumed epoch repeats exactly.
    seed = _epoch_seed(config, epoch)
    torch.manual_seed(processes.seed(seed))
    order = sampler.order(torch.Generator().manual_seed(seed))
    model.train()
    sizes = batch_sizes(len(order), config.batch_size)
    steps = len(sizes)
    total = torch.zeros((), dtype=torch.float64)
    done = 0
    if partial is not None:
        done, total = partial.steps, total + partial.loss
        partial.restore_generators(corpus.device)
    lr = 0.0
    learn.watch.begin(epoch, done)
    bar = tqdm(
        corpus.batches(config.batch_size, order[done * config.batch_size :], processes.share),
        f"epoch {epoch}/{config.epochs}",
        steps,
        leave=False,
        disable=None if processes.first else True,
        initial=done,
    )
    for step, (batch, size) in enumerate(zip(bar, sizes[done:], strict=True), start=(epoch - 1) * steps + done):
        lr = config.optimizer.lr * lr_share(config.schedule, step, config.epochs * steps)
        loss = learn(batch, size, lr, step)
        # Summed on the device: no waiting in the step.
        total = total.to(loss.device) + loss * (processes.weight(size) * size / processes.count)
        done += 1
        if done % LOOK_EVERY == 0:
            learn.watch.look()
        if done < steps and interrupted():
            raise Interrupted(PartialEpoch.here(epoch, done, len(order), config.batch_size, total))
    learn.watch.look()
    return processes.add(total).item() / len(order), lr


def batch_positions(sampler: Sampler, config: TrainingConfig, epoch: int, step: int) -> list[int]:
    """Returns which utterances a step of an epoch learns, as positions in the training corpus."""
    order = sampler.order(torch.Generator().manual_seed(_epoch_seed(config, epoch)))
    return torch.split(order, batch_sizes(len(order), config.batch_size))[step].tolist()


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
    best = kept_epoch(history, config)
    learner = processes.averaging(Learner(model, config, teachers))
    learn = TrainingStep(learner, model, average, config, optimizer, processes)
    before = history[-1].valid_loss if history else math.nan
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        begun = partial if partial is not None and partial.epoch == epoch else None
        train_loss, lr = _train_epoch(learn, model, corpus, sampler, config, epoch, processes, begun, interrupted)
        used = model if average is None else average
        with dead_layers(used.network, warn):
            logits, labels = predict(used, valid, processes)
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
