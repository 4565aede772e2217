"""Dense layers that share their weights over frames: mixing and gating, no convolution, recurrence or attention.

Frames come first, [F, B, W]: a dense layer across frames is then one product of its weights with [F, B x W], with
nothing to transpose on the way.

Dimension key: `B` batch, `F` frames (tokens), `W` width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def across_frames(layer: nn.Module, x: Tensor) -> Tensor:
    """Returns [G, B, W] of [F, B, W]: a dense layer from F to G frames, for every utterance and channel."""
    assert isinstance(layer, nn.Linear)
    mixed = torch.addmm(layer.bias[:, None], layer.weight, x.flatten(1))
    return mixed.view(-1, *x.shape[1:])


class SharedDropout(nn.Module):
    """Dropout with one mask for all frames of an utterance: [F, B, W] -> [F, B, W].

    A fresh mask for every cell is a noticeable part of a training step on a CPU.
    """

    def __init__(self, p: float) -> None:
        """Keeps the probability.

        Args:
            p: share of channels that are zeroed.
        """
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Returns x with whole channels zeroed in training."""
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape[1:], device=x.device) >= self.p
        return x * (keep.to(x.dtype) / (1 - self.p))


class MixerBlock(nn.Module):
    """MLP across frames, then across channels, each after layer norm, with a residual (Tolstikhin et al., 2021)."""

    def __init__(self, frames: int, width: int, token_hidden: int, channel_hidden: int, dropout: float) -> None:
        """Builds the two MLPs.

        Args:
            frames: F.
            width: W.
            token_hidden: hidden width of the MLP across frames.
            channel_hidden: hidden width of the MLP across channels.
            dropout: share of hidden channels that are zeroed in training.
        """
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.token_mlp = nn.Sequential(nn.Linear(frames, token_hidden), nn.GELU(), nn.Linear(token_hidden, frames))
        self.channel_norm = nn.LayerNorm(width)
        self.channel_mlp = nn.Sequential(
            nn.Linear(width, channel_hidden), nn.GELU(), SharedDropout(dropout), nn.Linear(channel_hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns mixed frames [F, B, W] of frames [F, B, W]."""
        enter, activation, leave = self.token_mlp
        x = x + across_frames(leave, activation(across_frames(enter, self.token_norm(x))))
        return x + self.channel_mlp(self.channel_norm(x))  # type: ignore[no-any-return]


class GatedBlock(nn.Module):
    """One half of the channels gates the other after a dense layer across frames (gMLP, Liu et al., 2021)."""

    def __init__(self, frames: int, width: int, channel_hidden: int, dropout: float) -> None:
        """Builds the layers; the gate starts as a constant one, as the source prescribes.

        Args:
            frames: F.
            width: W.
            channel_hidden: channels of each half.
            dropout: share of gated channels that are zeroed in training.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * channel_hidden)
        self.gate_norm = nn.LayerNorm(channel_hidden)
        self.gate = nn.Linear(frames, frames)
        nn.init.normal_(self.gate.weight, std=1e-3)
        nn.init.ones_(self.gate.bias)
        self.contract = nn.Sequential(SharedDropout(dropout), nn.Linear(channel_hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns gated frames [F, B, W] of frames [F, B, W]."""
        kept, gate = F.gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        gate = across_frames(self.gate, self.gate_norm(gate))
        return x + self.contract(kept * gate)  # type: ignore[no-any-return]
