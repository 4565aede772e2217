"""Detects numerical problems in training: values that are not finite, a constant loss, dead ReLUs.

Dimension key: `P` parameters with gradients.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from speechmlp.errors import UserError


class NonFiniteError(UserError):
    """A step's loss or gradients are not finite.

    Attributes:
        step: of the epoch, 0 for the first.
    """

    def __init__(self, problem: str, step: int) -> None:
        super().__init__(problem)
        self.step = step


class StepWatch:
    """Finds the first step of an epoch whose loss or gradients are not finite.

    The details are kept in tensors on the device, so that a CUDA graph can write them. On the CPU they are checked
    after every step, because that takes no time there.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._names: list[str] = []
        self._epoch = 0
        device = next(model.parameters()).device
        self._step = torch.zeros((), dtype=torch.int64, device=device)  # the next one
        self._first = torch.zeros_like(self._step)  # that is bad
        self._bad = torch.zeros((), dtype=torch.bool, device=device)
        self._loss = torch.zeros((), device=device)
        self._sizes: Tensor | None = None  # [2 P]

    def begin(self, epoch: int, step: int) -> None:
        """Starts an epoch, or continues it.

        Args:
            epoch: for the message.
            step: of it, 0 for the first.
        """
        self._epoch = epoch
        self._step.fill_(step)

    def __call__(self, loss: Tensor) -> None:
        """Checks a step after its backward pass and before its update.

        Raises:
            NonFiniteError: this step is not finite, on the CPU; on CUDA `look` says so.
        """
        trained = {name: weight for name, weight in self._parameters.items() if weight.grad is not None}
        weights = [weight.detach() for weight in trained.values()]
        gradients = [weight.grad for weight in trained.values() if weight.grad is not None]
        if loss.device.type == "cpu":
            # Sums are not finite either if a term is not, and take far less time than norms or the update.
            sums = torch.stack([loss.detach(), *(gradient.sum() for gradient in gradients)])
            if sums.isfinite().all():
                self._step += 1
                return
        sizes = torch.stack(torch._foreach_norm([*gradients, *weights], math.inf))  # [2 P], NaN where one is
        bad = ~(loss.detach().isfinite() & sizes[: len(gradients)].isfinite().all())
        if self._sizes is None:
            self._names, self._sizes = list(trained), torch.zeros_like(sizes)
        # The first bad step is kept.
        new = bad & ~self._bad
        for kept, found in ((self._sizes, sizes), (self._loss, loss.detach()), (self._first, self._step)):
            kept.copy_(torch.where(new, found, kept))
        self._bad |= bad
        self._step += 1
        if loss.device.type == "cpu":
            self.look()

    def look(self) -> None:
        """Checks the steps so far; on CUDA it waits for them.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        if self._sizes is None or not self._bad.item():
            return
        gradients, weights = self._sizes.cpu().chunk(2)
        broken = int((~gradients.isfinite()).sum())
        name, size = self._names[int(weights.argmax())], weights.max().item()
        step = int(self._first.item())
        largest = self._names[int(gradients.nan_to_num(math.inf, math.inf).argmax())]
        raise NonFiniteError(
            f"epoch {self._epoch}, step {step + 1} of it: the training loss is {self._loss.item():g}, gradients of "
            f"{broken} of {len(self._names)} layers are not finite; largest weights: {name} (up to {size:.3g}), "
            f"largest gradient: {largest}; try a smaller training.optimizer.lr or training.clip_grad_norm",
            step,
        )


@contextmanager
def dead_layers(network: nn.Module, warn: Callable[[str], None]) -> Iterator[None]:
    """Warns of ReLUs that are zero for all utterances that pass a network in this context."""
    alive: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del module, inputs
            alive[name] = alive.get(name, torch.zeros((), device=output.device)) + (output > 0).sum()

        return look

    rectifiers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.ReLU)]
    handles = [module.register_forward_hook(hook(name)) for name, module in rectifiers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    dead = [name for name, count in alive.items() if not count]
    if dead:
        warn(
            f"the network is dead: every ReLU of {', '.join(dead)} is zero for every validation letter, so that no "
            "layer before it is trained; try a smaller training.optimizer.lr or another model.activation"
        )


def has_not_moved(before: float, after: float) -> bool:
    """Returns whether a loss is the same up to rounding."""
    return abs(after - before) <= 1e-5 * abs(before)
