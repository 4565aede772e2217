"""Statistics of features, losses, with those of distillation, and predictions of batches. Knows neither YAML nor files.

Dimension key: `B` batch, `N` utterances, `C` bands, `F` frames or tokens, `L` labels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.config.schema import Config, DistillConfig, TrainingConfig
from speechmlp.data.dataset import Batch, DeviceCorpus
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import EVALUATION_BATCH, predict_logits
from speechmlp.training.distributed import ALONE, Processes


@torch.no_grad()
def fit_normalizer(model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes = ALONE) -> None:
    """Sets the feature statistics of the training set in a model whose normaliser is of the kind `corpus`."""
    if model.normalizer.kind != "corpus":
        return
    sums = torch.zeros(3, len(model.normalizer.mean), dtype=torch.float64, device=corpus.device)
    for batch in corpus.batches(EVALUATION_BATCH, processes.part(torch.arange(len(corpus)))):
        double = model.front_end(batch.waveforms).flatten(0, 1).double()  # [R x B, C, F]
        count = torch.full_like(sums[0], double.shape[0] * double.shape[2])
        sums += torch.stack([count, double.sum((0, 2)), double.square().sum((0, 2))])
    count, total, squares = processes.add(sums)
    mean = total / count
    model.normalizer.set_statistics(mean, (squares / count - mean.square()).clamp_min(0).sqrt())


@torch.inference_mode()
def predict_shared(
    model: SpeechClassifier, corpus: DeviceCorpus, processes: Processes, positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns logits and labels as `predict` does; each process computes a part, and each gets all of it.

    The first one shows a progress bar.

    Args:
        model: the classifier.
        corpus: the utterances.
        processes: that share the work.
        positions: int64 [M] of the utterances to predict; None for all of them.
    """
    chosen = torch.arange(len(corpus)) if positions is None else positions
    logits = predict_logits(model, corpus, processes.part(chosen), bar=processes.first)
    return processes.whole(logits, len(chosen)).cpu(), corpus.labels.cpu()[chosen]


def _targets(labels: Tensor, smoothing: float, num_labels: int) -> Tensor:
    """Returns target probabilities [B, L] of labels [B].

    For a non-letter all labels are equally probable (outlier exposure, Hendrycks et al., 2019).
    """
    certain = F.one_hot(labels, num_labels + 1)[:, :num_labels] * (1 - smoothing)
    return certain + (1 - certain.sum(1, keepdim=True)) / num_labels


def _mix(features: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Returns features [B, C, F] and targets [B, L] mixed with those of others (mixup, Zhang et al., 2018)."""
    strength = torch.full((), alpha, device=features.device)
    draw = torch.distributions.Beta(strength, strength, validate_args=False).sample((len(features),))
    fraction = torch.maximum(draw, 1 - draw).to(features)
    other = torch.randperm(len(features), device=features.device)
    wide = fraction.view(-1, *[1] * (features.dim() - 1))
    mixed = wide * features + (1 - wide) * features[other]
    return mixed, fraction[:, None] * targets + (1 - fraction[:, None]) * targets[other]


class Teachers:
    """Trained models that get the same augmented features as the student (Hinton, Vinyals & Dean, 2015).

    Only the models' networks and normalisers are used, not their front ends.

    Args:
        config: weight and temperature.
        models: on the student's device, in evaluation mode.
    """

    def __init__(self, config: DistillConfig, models: Sequence[SpeechClassifier]) -> None:
        self.weight, self.temperature = config.weight, config.temperature
        self._models = models

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Returns the models' mean probabilities [B, L] of features [B, C, F] at the temperature."""
        each = [(model.network(features).float() / self.temperature).softmax(1) for model in self._models]
        return torch.stack(each).mean(0)

    def loss(self, logits: Tensor, features: Tensor, label_loss: Tensor) -> Tensor:
        """Returns the weighted sum of the loss on the labels and the divergence from the teachers.

        Args:
            logits: float32 [B, L] of the student.
            features: [B, C, F], the student's input.
            label_loss: the student's mean cross-entropy against the labels, in nats.
        """
        student = (logits / self.temperature).log_softmax(1)
        divergence = F.kl_div(student, self.probabilities(features), reduction="batchmean")
        # The gradient of the divergence is inversely proportional to the square of the temperature.
        return (1 - self.weight) * label_loss + self.weight * self.temperature**2 * divergence


def same_features(one: Config, other: Config) -> bool:
    """Returns whether the networks of two configurations get the same features, whatever they are trained on."""
    finding = {
        "endpoints",
        "endpoint_width",
        "endpoint_blocks",
    }  # they locate the letter; they do not change what is read there
    ours, theirs = (config.front_end.model_dump(exclude=finding) for config in (one, other))
    return ours == theirs and ours.get("normalizer") != "corpus"  # its statistics come from the training set


class Learner(nn.Module):
    """The loss of a batch, as one module, which is what DistributedDataParallel takes."""

    def __init__(self, model: SpeechClassifier, config: TrainingConfig, teachers: Teachers | None) -> None:
        super().__init__()
        self.model, self.config, self.teachers = model, config, teachers

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss to minimise, and the labels' part of it, in nats."""
        features, front_end_loss = self.model.training_features(batch.waveforms)
        targets = _targets(batch.labels, self.config.label_smoothing, self.model.num_labels)
        if self.config.mixup:
            features, targets = _mix(features, targets, self.config.mixup)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.model.network(features)
        loss = F.cross_entropy(logits.float(), targets)
        objective = loss if self.teachers is None else self.teachers.loss(logits.float(), features, loss)
        return objective + front_end_loss, loss
