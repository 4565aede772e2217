"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from speechmlp.config import AdamConfig, AdamWConfig, ConstantConfig, CosineConfig, OneCycleConfig, SGDConfig

Schedule = ConstantConfig | CosineConfig | OneCycleConfig


def build_optimizer(
    config: AdamConfig | AdamWConfig | SGDConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Returns the configured optimizer; its update is fused into one kernel for all parameters.

    Weight decay acts on matrices only: biases, norms and places have no scale that it should shrink.
    """
    every = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in every if parameter.ndim > 1]},
        {"params": [parameter for parameter in every if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            fused=True,
        )
    kind = torch.optim.AdamW if isinstance(config, AdamWConfig) else torch.optim.Adam
    return kind(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def lr_share(schedule: Schedule, step: int, num_steps: int) -> float:
    """Returns the learning rate of a step as a share of the configured one: a pure function of the step.

    Args:
        schedule: constant, cosine or one_cycle.
        step: 0 to num_steps - 1.
        num_steps: all optimizer steps of the run.
    """
    if isinstance(schedule, ConstantConfig):
        return 1.0
    rise = round(schedule.warmup * num_steps)
    if step < rise:
        share = (step + 1) / rise
        return share if isinstance(schedule, CosineConfig) else _half_cosine(schedule.initial, 1.0, share)
    return _half_cosine(1.0, schedule.final, (step - rise) / max(1, num_steps - 1 - rise))
