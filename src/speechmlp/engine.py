"""What is computed from batches on a device: features' statistics, predictions, losses. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances.
"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.config import TrainingConfig
from speechmlp.dataset import Batch, DeviceCorpus
from speechmlp.distillation import Teachers
from speechmlp.distributed import Processes
from speechmlp.errors import UserError
from speechmlp.labels import NUM_LETTERS
from speechmlp.models import SpeechClassifier
from speechmlp.sampling import num_batches

EVALUATION_BATCH = 256
"""Large enough to fill two cores, small enough that features of a batch stay in cache."""

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
