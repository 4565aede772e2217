"""The state of training between two steps, to continue from there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartialEpoch:
    """An epoch interrupted between two steps: all that continuing needs except weights and optimizer.

    Attributes:
        epoch: 1 for the first.
        steps: done of it.
        utterances: of the whole epoch.
        batch_size: of its steps.
        loss: sum over the utterances trained on.
        random: state of torch's generator on the CPU.
        cuda: state of the device's generator; None on the CPU.
    """

    epoch: int
    steps: int
    utterances: int
    batch_size: int
    loss: float
    random: Tensor
    cuda: Tensor | None

    @classmethod
    def here(
        cls, epoch: int, steps: int, utterances: int, batch_size: int, loss: float, device: torch.device
    ) -> "PartialEpoch":
        """Returns the current state of training on a device, with that of the generators."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(epoch, steps, utterances, batch_size, loss, torch.get_rng_state(), cuda)

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> "PartialEpoch":
        """Returns the one in a checkpoint.

        Raises:
            ValueError, TypeError: it is not valid.
        """
        partial = cls(**state)
        counts = (partial.epoch, partial.steps, partial.utterances, partial.batch_size)
        if not all(type(count) is int and count > 0 for count in counts) or not math.isfinite(partial.loss):
            raise ValueError(counts)
        if partial.steps * partial.batch_size >= partial.utterances:
            raise ValueError(counts)
        torch.Generator().set_state(partial.random)  # raises if it is not a state
        return partial

    def restore_generators(self, device: torch.device) -> None:
        """Restores the states of the generators."""
        torch.set_rng_state(self.random)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


class Interrupted(Exception):  # noqa: N818 - not an error
    """Training was interrupted, after a step.

    Attributes:
        partial: the interrupted epoch.
    """

    def __init__(self, partial: PartialEpoch) -> None:
        super().__init__(f"in epoch {partial.epoch} after {partial.steps} steps of it")
        self.partial = partial
