"""Learning-rate schedules, as functions of the step."""

import math

from speechmlp.config.schema import ConstantConfig, CosineConfig, OneCycleConfig

Schedule = ConstantConfig | CosineConfig | OneCycleConfig


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def lr_share(schedule: Schedule, step: int, num_steps: int) -> float:
    """Returns the learning rate of a step as a fraction of the configured one: a pure function of the step.

    Args:
        schedule: constant, cosine or one_cycle.
        step: 0 to num_steps - 1.
        num_steps: number of optimizer steps of the run.
    """
    if isinstance(schedule, ConstantConfig):
        return 1.0
    rise = round(schedule.warmup * num_steps)
    if step < rise:
        progress = (step + 1) / rise
        return progress if isinstance(schedule, CosineConfig) else _half_cosine(schedule.initial, 1.0, progress)
    return _half_cosine(1.0, schedule.final, (step - rise) / max(1, num_steps - 1 - rise))
