"""Distillation: training on the probabilities of teachers as well as on labels.

Dimension key: `B` batch, `C` bands, `F` frames or tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.config.schema import Config, DistillConfig
from speechmlp.models.classifier import SpeechClassifier


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
        """Returns the models' mean probabilities [B, 26] of features [B, C, F] at the temperature."""
        each = [(model.network(features).float() / self.temperature).softmax(1) for model in self._models]
        return torch.stack(each).mean(0)

    def loss(self, logits: Tensor, features: Tensor, label_loss: Tensor) -> Tensor:
        """Returns the weighted sum of the loss on the labels and the divergence from the teachers.

        Args:
            logits: float32 [B, 26] of the student.
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
