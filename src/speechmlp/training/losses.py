"""Statistics of features, losses and predictions of batches. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.config.schema import TrainingConfig
from speechmlp.data.dataset import Batch, DeviceCorpus
from speechmlp.labels import NUM_LETTERS
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import EVALUATION_BATCH, predict_logits
from speechmlp.training.distillation import Teachers
from speechmlp.training.distributed import ALONE, Processes


@torch.no_grad()
def fit_normalizer(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE) -> None:
    """Sets the feature statistics of the training set in a model whose normaliser is of the kind `corpus`."""
    if model.normalizer.kind != "corpus":
        return
    sums = torch.zeros(3, len(model.normalizer.mean), dtype=torch.float64, device=corpus.device)
    for batch in corpus.batches(EVALUATION_BATCH, processes.share(torch.arange(len(corpus)))):
        double = model.front_end(batch.waveforms).flatten(0, 1).double()  # [R x B, C, F]
        count = torch.full_like(sums[0], double.shape[0] * double.shape[2])
        sums += torch.stack([count, double.sum((0, 2)), double.square().sum((0, 2))])
    count, total, squares = processes.add(sums)
    mean = total / count
    model.normalizer.set_statistics(mean, (squares / count - mean.square()).clamp_min(0).sqrt())


@torch.inference_mode()
def predict_shared(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes) -> tuple[Tensor, Tensor]:
    """Returns what `predict` does; each process computes a part, and each gets all of it.

    The first one shows a progress bar.
    """
    mine = processes.share(torch.arange(len(corpus)))
    logits = predict_logits(model, corpus, mine, bar=processes.first)
    return processes.whole(logits, len(corpus)).cpu(), corpus.labels.cpu()


def _targets(labels: Tensor, smoothing: float) -> Tensor:
    """Returns target probabilities [B, 26] of labels [B].

    For a non-letter all letters are equally probable (outlier exposure, Hendrycks et al., 2019).
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
    """The loss of a batch, as one module, which is what DistributedDataParallel takes."""

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
        objective = loss if self.teachers is None else self.teachers.loss(logits.float(), features, loss)
        return objective + front_end_loss, loss
