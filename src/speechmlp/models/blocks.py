"""Dense layers that share their weights over frames: mixing and gating, no convolution, recurrence or attention.

Data is laid out frame by frame, each with all utterances: rows [F x B, W]. A dense layer across channels is then one
matrix product, and so is one across frames, with [F, B x W]; nothing has to be transposed.

Dimension key: `B` batch, `F` frames (tokens), `W` width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def across_frames(frames: int, layers: Iterable[nn.Module], rows: Tensor) -> Tensor:
    """Returns rows [G x B, W] of rows [F x B, W]: dense layers from F to G frames, for every utterance and channel."""
    x = rows.view(frames, -1)
    for layer in layers:
        x = torch.addmm(layer.bias[:, None], layer.weight, x) if isinstance(layer, nn.Linear) else layer(x)
    return x.view(-1, rows.shape[1])


class SharedDropout(nn.Module):
    """Dropout with one mask for all frames of an utterance: rows [F x B, W] -> rows [F x B, W].

    A mask for every cell would take a noticeable part of a training step on a CPU.

    Args:
        p: fraction of channels that are zeroed.
        frames: F.
    """

    def __init__(self, p: float, frames: int) -> None:
        super().__init__()
        self.p, self.frames = p, frames

    def forward(self, rows: Tensor) -> Tensor:
        """Returns rows with whole channels zeroed in training."""
        if not self.training or self.p == 0:
            return rows
        x = rows.view(self.frames, -1, rows.shape[1])
        keep = torch.rand(x.shape[1:], device=x.device) >= self.p
        return (x * (keep.to(x.dtype) / (1 - self.p))).flatten(0, 1)


class MixerBlock(nn.Module):
    """MLP across frames, then across channels, each after layer norm, with a residual (Tolstikhin et al., 2021).

    Args:
        frames: F.
        width: W.
        token_hidden: hidden width of the MLP across frames.
        channel_hidden: hidden width of the MLP across channels.
        dropout: fraction of hidden channels that are zeroed in training.
    """

    def __init__(self, frames: int, width: int, token_hidden: int, channel_hidden: int, dropout: float) -> None:
        super().__init__()
        self.frames = frames
        self.token_norm = nn.LayerNorm(width)
        self.token_mlp = nn.Sequential(nn.Linear(frames, token_hidden), nn.GELU(), nn.Linear(token_hidden, frames))
        self.channel_norm = nn.LayerNorm(width)
        self.channel_mlp = nn.Sequential(
            nn.Linear(width, channel_hidden),
            nn.GELU(),
            SharedDropout(dropout, frames),
            nn.Linear(channel_hidden, width),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Returns mixed rows [F x B, W] of rows [F x B, W]."""
        rows = rows + across_frames(self.frames, self.token_mlp, self.token_norm(rows))
        return rows + self.channel_mlp(self.channel_norm(rows))  # type: ignore[no-any-return]


class GatedBlock(nn.Module):
    """One half of the channels gates the other after a dense layer across frames (gMLP, Liu et al., 2021).

    The gate starts as a constant one, as the source prescribes.

    Args:
        frames: F.
        width: W.
        channel_hidden: channels of each half.
        dropout: fraction of gated channels that are zeroed in training.
    """

    def __init__(self, frames: int, width: int, channel_hidden: int, dropout: float) -> None:
        super().__init__()
        self.frames = frames
        self.norm = nn.LayerNorm(width)
        self.content = nn.Linear(width, channel_hidden)  # two layers: halves of one would be copied to be normalised
        self.gating = nn.Linear(width, channel_hidden)
        self.gate_norm = nn.LayerNorm(channel_hidden)
        self.gate = nn.Linear(frames, frames)
        nn.init.normal_(self.gate.weight, std=1e-3)
        nn.init.ones_(self.gate.bias)
        self.contract = nn.Sequential(SharedDropout(dropout, frames), nn.Linear(channel_hidden, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Returns gated rows [F x B, W] of rows [F x B, W]."""
        normal = self.norm(rows)
        gate = across_frames(self.frames, [self.gate], self.gate_norm(F.gelu(self.gating(normal))))
        return rows + self.contract(F.gelu(self.content(normal)) * gate)  # type: ignore[no-any-return]
