"""Start and end of the letter: by energy above the noise, or by a small dense network.

Dimension key: `B` batch, `F` frames, `C` mel bands. Times are in frames from the beginning.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.models.blocks import MixerBlock

MIN_FRAMES = 4.0
"""Shortest letter: 40 ms."""


class EnergyEndpoints(nn.Module):
    """Endpoints by activity in four frequency bands: log-mel [B, F, C] -> start [B], end [B].

    The quietest frames are the noise; a frame's activity is its level above them, half the mean and half the maximum
    of four bands, so that a fricative counts as much as a vowel. The letter is the run of active frames around the
    loudest frame; gaps of up to 2 x `GAP` frames are bridged (the closure of a stop, the middle of X and W). If no
    frame is active, it is the middle third.

    Args:
        frames: F.
    """

    QUIET_FRAMES = 15
    THRESHOLD = 0.15
    """Of the strongest activity."""
    GAP = 9

    smoothing: Tensor

    def __init__(self, frames: int) -> None:
        super().__init__()
        time = torch.arange(frames)
        near = ((time[:, None] - time).abs() <= 1).float()
        self.register_buffer("smoothing", near / near.sum(1, keepdim=True), persistent=False)  # [F, F]

    def forward(self, log_mel: Tensor, threshold_factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns start and end [B], the end not included.

        Args:
            log_mel: natural-log energies [B, F, C]; C a multiple of 4.
            threshold_factor: [B, 1], scales the threshold (augmentation).
        """
        frames = log_mel.shape[1]
        power = log_mel.exp()
        quiet = power.sum(2).topk(min(self.QUIET_FRAMES, frames), largest=False).indices
        noise = power.gather(1, quiet[..., None].expand(-1, -1, power.shape[2])).mean(1, keepdim=True)
        smooth = self.smoothing @ power  # the mean of three frames
        level = (smooth / noise).log().clamp_min(0).reshape(-1, frames, 4, power.shape[2] // 4).mean(3)  # [B, F, 4]
        activity = 0.5 * level.mean(2) + 0.5 * level.amax(2)
        background = activity.topk(max(1, frames // 4), largest=False).values.amax(1, keepdim=True)
        activity = (activity - 1.25 * background - 0.1).clamp_min(0)
        threshold = self.THRESHOLD * activity.amax(1, keepdim=True)
        active = activity > (threshold if threshold_factor is None else threshold * threshold_factor)
        peak = F.avg_pool1d(activity[:, None], 9, 1, 4)[:, 0].argmax(1, keepdim=True)
        bridged = F.max_pool1d(active.float()[:, None], 2 * self.GAP + 1, 1, self.GAP)[:, 0] > 0.5
        time = torch.arange(frames, dtype=log_mel.dtype, device=log_mel.device)[None]
        left = torch.where(~bridged & (time < peak), time, -1).amax(1, keepdim=True)
        right = torch.where(~bridged & (time > peak), time, frames).amin(1, keepdim=True)
        inside = (time > left) & (time < right) & active
        start = torch.where(inside, time, frames).amin(1)
        end = torch.where(inside, time, -1).amax(1) + 1
        nothing = end <= start
        start = torch.where(nothing, frames // 3, start)
        end = torch.where(nothing, frames - frames // 3, end)
        return start, end


class EndpointNetwork(nn.Module):
    """Endpoints by a small MLP-Mixer: log-mel [B, F, C] -> start [B], end [B].

    Two logits a frame, a softmax over frames for each of start and end, and the mean time near its peak. It is
    trained together with the classifier, on recordings whose true ends are known because they are cut tightly and
    moved by the augmentation.

    Args:
        frames: F.
        channels: C.
        width: of a frame's embedding; each block's two MLPs are twice as wide inside.
        blocks: mixer blocks.
    """

    NEAR = 4
    """Frames on each side of the peak that the mean is taken over."""
    SOFTNESS = 2.5
    """Half the width, in frames, of the triangle around the true time that counts as correct."""

    time: Tensor

    def __init__(self, frames: int, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.zeros(frames, width))
        self.blocks = nn.Sequential(*(MixerBlock(frames, width, 2 * width, 2 * width, 0.0) for _ in range(blocks)))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))
        self.register_buffer("time", torch.arange(frames, dtype=torch.float32), persistent=False)

    def logits(self, log_mel: Tensor) -> Tensor:
        """Returns logits [B, F, 2] for the start and the end being at each frame."""
        # Means of means, here and in the front end, because some runtimes add one by one and round each time.
        centred = log_mel - log_mel.mean(2, keepdim=True).mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(2, keepdim=True).mean(1, keepdim=True).sqrt() + 0.3)
        frames, width = self.position.shape
        embedded = self.embed(scaled.transpose(0, 1)) + self.position[:, None]  # [F, B, W]
        mixed = self.blocks(embedded.view(-1, width)).view(frames, -1, width)
        return self.output(mixed).transpose(0, 1)  # type: ignore[no-any-return]

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Returns start and end [B]."""
        posterior = self.logits(log_mel).float().softmax(1)  # [B, F, 2]
        peak = F.avg_pool1d(posterior.transpose(1, 2), 5, 1, 2).argmax(2)  # [B, 2]
        time = self.time[None, :, None]
        near = posterior * ((time - peak[:, None]).abs() <= self.NEAR)
        start, end = ((near * time).sum(1) / near.sum(1).clamp_min(1e-9)).unbind(1)
        return start, torch.maximum(end, start + MIN_FRAMES)

    def loss(self, log_mel: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Returns the mean cross-entropy, in nats, against the true start and end [B]."""
        true = torch.stack([start, end], 1).clamp(0, len(self.time) - 1)
        target = (1 - (self.time[None, :, None] - true[:, None]).abs() / self.SOFTNESS).clamp_min(0)
        target = target / target.sum(1, keepdim=True)
        return -(target * self.logits(log_mel).float().log_softmax(1)).sum(1).mean()
