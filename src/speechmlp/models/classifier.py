"""The classifier: front end, augmentation, normaliser and dense layers, from samples to one logit for each label.

Dimension key: `B` batch, `T` samples, `C` channels or bands, `F` frames, `L` labels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from speechmlp.config.schema import (
    AlignedConfig,
    AugmentConfig,
    Config,
    GatedMLPConfig,
    LogMelConfig,
    MFCCConfig,
    MixerConfig,
    MLPConfig,
    RawConfig,
)
from speechmlp.models.aligned import Aligned
from speechmlp.models.augmentation import Augment
from speechmlp.models.blocks import GatedBlock, MixerBlock
from speechmlp.models.features import MFCC, FrontEnd, LogMel, Normalizer, Raw

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Output(nn.Linear):
    """The last layer: [B, W] -> logits [B, L].

    It starts small, so that the first loss is near ln L. With a gate it has one output more, whose sigmoid scales the
    logits: near one if there is a letter, and near zero, which makes all letters equally probable, if there is none.
    The ranking of the letters does not change.

    Args:
        inputs: W.
        labels: L.
        gate: whether there is one.
    """

    def __init__(self, inputs: int, labels: int, gate: bool) -> None:
        super().__init__(inputs, labels + gate)
        self.labels, self.gate = labels, gate
        nn.init.normal_(self.weight, std=0.1 / math.sqrt(inputs))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [B, L] of [B, W]."""
        outputs = super().forward(x)
        return outputs[:, : self.labels] * outputs[:, self.labels :].sigmoid() if self.gate else outputs


class MLP(nn.Module):
    """Dense layers: features [B, C, F] -> logits [B, L].

    Each hidden layer is linear, then normalisation, activation and dropout as configured. Weights start with He's
    variance (2015) for rectifiers and Glorot's (2010) with the activation's gain for tanh and sigmoid.

    Args:
        config: widths, activation, normalisation and dropout.
        inputs: C x F.
        labels: L.
    """

    def __init__(self, config: MLPConfig, inputs: int, labels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in config.hidden:
            linear = nn.Linear(inputs, width)
            if config.activation in ("tanh", "sigmoid"):
                nn.init.xavier_uniform_(linear.weight, nn.init.calculate_gain(config.activation))
            else:
                nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers.append(linear)
            if config.norm == "batch":
                layers.append(nn.BatchNorm1d(width))
            elif config.norm == "layer":
                layers.append(nn.LayerNorm(width))
            layers.append(ACTIVATIONS[config.activation]())
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
            inputs = width
        self.layers = nn.Sequential(*layers, Output(inputs, labels, config.gate))

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits [B, L] of features [B, C, F]."""
        return self.layers(features.flatten(1))  # type: ignore[no-any-return]


class TokenMLP(nn.Module):
    """Dense layers whose weights are shared over frames: features [B, C, F] -> logits [B, L].

    Linear embedding of each frame plus a trained vector for its position, mixer or gated blocks, layer norm, a few
    trained weighted means over frames, one output layer. There is no convolution, recurrence or attention: every
    weight belongs to a dense layer.

    Args:
        config: widths, number of blocks and dropout.
        shape: C and F.
        labels: L.
    """

    def __init__(self, config: MixerConfig | GatedMLPConfig, shape: tuple[int, int], labels: int) -> None:
        super().__init__()
        channels, frames = shape
        self.embed = nn.Linear(channels, config.width)
        self.position = nn.Parameter(torch.zeros(frames, config.width))
        self.blocks = nn.Sequential(*(self._block(config, frames) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(config.width)
        self.pool = nn.Linear(frames, config.pool)
        self.dropout = nn.Dropout(config.dropout)
        self.output = Output(config.pool * config.width, labels, config.gate)

    @staticmethod
    def _block(config: MixerConfig | GatedMLPConfig, frames: int) -> nn.Module:
        if isinstance(config, MixerConfig):
            return MixerBlock(frames, config.width, config.token_hidden, config.channel_hidden, config.dropout)
        return GatedBlock(frames, config.width, config.channel_hidden, config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits [B, L] of features [B, C, F]."""
        frames, width = self.position.shape
        embedded = self.embed(features.permute(2, 0, 1)) + self.position[:, None]  # [F, B, W]
        mixed = self.blocks(embedded.view(-1, width)).view(frames, -1, width)
        # Normalised before the frames are joined: ONNX Runtime would fuse the sum and the norm to something slower.
        normal = self.norm(mixed).view(frames, -1)
        pooled = torch.addmm(self.pool.bias[:, None], self.pool.weight, normal).view(len(self.pool.bias), -1, width)
        return self.output(self.dropout(pooled.permute(1, 2, 0).flatten(1)))  # type: ignore[no-any-return]


class SpeechClassifier(nn.Module):
    """Spoken-letter classifier: waveforms float32 [B, T], of a second at 16 kHz by default -> logits [B, L].

    In training mode it augments as configured; in evaluation mode it does not.

    Args:
        config: its `labels` and its sections `input`, `front_end`, `augment` and `model` are read.

    Attributes:
        audio: rate and length of the waveforms.
        labels: the L of them, in the order of the logits.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.audio = config.input.audio
        self.front_end: FrontEnd
        match config.front_end:
            case RawConfig():
                self.front_end = Raw(self.audio)
            case MFCCConfig():
                self.front_end = MFCC(config.front_end, self.audio)
            case LogMelConfig():
                self.front_end = LogMel(config.front_end, self.audio)
            case AlignedConfig():
                self.front_end = Aligned(config.front_end, self.audio)
        shape, self.labels = self.front_end.shape, config.labels
        self.augment = Augment(config.augment or AugmentConfig())
        self.normalizer = Normalizer(config.front_end.normalizer, shape[0])
        self.network: MLP | TokenMLP
        if isinstance(config.model, MLPConfig):
            self.network = MLP(config.model, math.prod(shape), len(self.labels))
        else:
            self.network = TokenMLP(config.model, shape, len(self.labels))
        self.float()  # whatever torch's default is

    def training_features(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Returns augmented, normalised features [B, C, F] of waveforms [B, T], and a loss of the front end's own."""
        with torch.no_grad():
            waveforms, ends = self.augment.waveforms(waveforms)
        features, loss = self.front_end.training_features(waveforms, ends, self.augment)
        with torch.no_grad():
            return self.augment.mask(self.normalizer(features)), loss

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns logits [B, L] of waveforms [B, T]; of several readings, the mean of the log-probabilities."""
        if self.training:
            return self.network(self.training_features(waveforms)[0])  # type: ignore[no-any-return]
        return self.of_readings(self.front_end(waveforms))

    def of_readings(self, readings: Tensor, reference: Tensor | None = None) -> Tensor:
        """Returns logits [B, L] of a front end's features; of several readings, the mean of the log-probabilities.

        Args:
            readings: [R, B, C, F].
            reference: [R, B, C, F], from which mean and deviation for normalisation are computed instead.
        """
        basis = None if reference is None else reference.flatten(0, 1)
        logits: Tensor = self.network(self.normalizer(readings.flatten(0, 1), basis))
        return logits if len(readings) == 1 else logits.log_softmax(1).view(len(readings), -1, self.num_labels).mean(0)

    @property
    def num_labels(self) -> int:
        """L."""
        return len(self.labels)

    @torch.no_grad()
    def take_weights(self, other: "SpeechClassifier") -> None:
        """Copies the weights of a model with the same front end and layers, perhaps with other labels.

        The rows of the last layer are copied for the labels that both have, and that of the gate; others stay.
        """
        weights = dict(other.state_dict())
        if self.labels != other.labels:
            own = [row for row, label in enumerate(self.labels) if label in other.labels]
            others = [other.labels.index(self.labels[row]) for row in own]
            (head,) = (name for name, module in self.named_modules() if isinstance(module, Output))
            for name in (f"{head}.weight", f"{head}.bias"):
                kept, given = self.state_dict()[name].clone(), weights[name]
                kept[own], kept[len(self.labels) :] = given[others], given[len(other.labels) :]
                weights[name] = kept
        self.load_state_dict(weights)

    def num_parameters(self) -> int:
        """Returns the number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())
