"""Interrupting training between two steps by SIGINT or SIGTERM, and the state to continue from there."""

import math
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A request to end by SIGINT or SIGTERM, as a context.

    Before `wait` is called, both raise KeyboardInterrupt, so that temporary files are removed. Afterwards the first one
    is only recorded here, and a second one ends the program at once.

    Attributes:
        number: of the signal that was received; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        """Makes SIGTERM act as Ctrl-C. Does nothing outside of the main thread, which gets no signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the handlers of the signals."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Records the first signal from now on."""
        for number in self._before:
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Returns whether a signal was received."""
        return self.number is not None


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
