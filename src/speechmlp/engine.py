"""What is computed from batches on a device: features' statistics, predictions, losses. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances.
"""

import os

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
def predict(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE) -> tuple[Tensor, Tensor]:
    """Returns logits float32 [N, 26] and labels int64 [N] of every utterance, in the corpus's order.

    Of several processes each predicts its share, and each gets all. The first one shows a progress bar.
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
        """Returns the loss to minimise, and the labels' part of it, in nats."""
        features, front_end_loss = self.model.training_features(batch.waveforms)
        targets = _targets(batch.labels, self.config.label_smoothing)
        if self.config.mixup:
            features, targets = _mix(features, targets, self.config.mixup)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.model.network(features)
        loss = F.cross_entropy(logits.float(), targets)
        sought = loss if self.teachers is None else self.teachers.loss(logits.float(), features, loss)
        return sought + front_end_loss, loss
