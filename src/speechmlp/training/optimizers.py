"""Optimizers."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from speechmlp.config.schedule import lr_share
from speechmlp.config.schema import (
    AdamConfig,
    AdamWConfig,
    MuonConfig,
    SGDConfig,
    TrainingConfig,
)


def orthogonalized(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Returns [G, R, C] near the nearest orthogonal matrices of float32 [G, R, C], R at most C.

    Newton-Schulz iteration (Jordan, 2024), the steps of `torch.optim.Muon`, which takes one matrix at a time. As there
    in bfloat16 on CUDA; on the CPU in float32, which is more exact and, without a matrix unit, no slower.
    """
    a, b, c = coefficients
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    # A matrix at a time: the norm of a stack rounds in another order.
    x = x / torch.stack([matrix.norm() for matrix in x]).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class StackedMuon(torch.optim.Muon):
    """`torch.optim.Muon` with the matrices of one shape, or of its transpose, in one product.

    A model of many small matrices spends most of Muon's time in starting products.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Updates the parameters from their gradients."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            stacks: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter, update in zip(
                parameters, torch._foreach_lerp(gradients, momenta, group["momentum"]), strict=True
            ):
                tall = len(parameter) > parameter.shape[1]
                wide = (parameter.mT, update.mT) if tall else (parameter, update)
                stacks[wide[0].shape[0], wide[0].shape[1]].append(wide)
            for (_, longer), pairs in stacks.items():
                moves = orthogonalized(
                    torch.stack([update for _, update in pairs]),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                )
                # Scaled to AdamW's usual step (Liu et al., 2025), "match_rms_adamw".
                moves = moves * (0.2 * math.sqrt(longer) * group["lr"])
                for (parameter, _), move in zip(pairs, moves, strict=True):
                    parameter.sub_(move)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices, AdamW for everything else, as one optimizer.

    Muon (Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix; its step is scaled to AdamW's
    usual size (Liu et al., 2025), so that one learning rate suits both.

    Args:
        config: learning rate, momenta and decay.
        groups: of parameters; those without a `weight_decay` of their own are matrices.
    """

    def __init__(self, config: MuonConfig, groups: list[dict[str, Any]]) -> None:
        matrices = [parameter for group in groups if "weight_decay" not in group for parameter in group["params"]]
        others = [group for group in groups if "weight_decay" in group]
        lr, capturable = _rate(config.lr, matrices)
        self._muon = StackedMuon(
            matrices,
            lr=lr,  # type: ignore[arg-type]
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = torch.optim.AdamW(
            others, lr=lr, betas=config.betas, eps=config.eps, fused=True, capturable=capturable
        )
        self.parts: dict[str, torch.optim.Optimizer] = {"muon": self._muon, "adamw": self._adamw}
        super().__init__(self._muon.param_groups + self._adamw.param_groups, {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The same objects, so that a new learning rate reaches both.
        self.param_groups = self._muon.param_groups + self._adamw.param_groups

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters from their gradients.

        Args:
            closure: computes gradients first, and returns the loss, as other loops want it.

        Returns:
            What the closure returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of both."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state of both."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


def _rate(lr: float, parameters: list[nn.Parameter]) -> tuple[float | Tensor, bool]:
    """Returns the learning rate as an optimizer keeps it, and whether a CUDA graph can repeat its steps.

    On CUDA it is a tensor there, so that a graph reads what `set_lr` writes.
    """
    device = parameters[0].device if parameters else torch.device("cpu")
    capturable = device.type == "cuda"
    return (torch.tensor(lr, device=device) if capturable else lr), capturable


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups of an optimizer."""
    tensors = {id(group["lr"]): group["lr"] for group in optimizer.param_groups if isinstance(group["lr"], Tensor)}
    for tensor in tensors.values():
        tensor.fill_(lr)
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = lr


def build_optimizer(
    config: AdamConfig | AdamWConfig | MuonConfig | SGDConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Returns the configured optimizer; its update is fused into one kernel for all parameters.

    Weight decay acts on matrices only, and not on biases, norms and position vectors.
    """
    every = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in every if parameter.ndim > 1]},
        {"params": [parameter for parameter in every if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    if isinstance(config, MuonConfig):
        return MuonAdamW(config, groups)
    lr, capturable = _rate(config.lr, every)
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(
            groups,
            lr=lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            fused=True,
        )
    kind = torch.optim.AdamW if isinstance(config, AdamWConfig) else torch.optim.Adam
    return kind(
        groups,
        lr=lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=capturable,
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Gives an optimizer the state of an earlier one of the same kind; its settings stay its own.

    Args:
        optimizer: to change.
        state: what `state_dict` gave, perhaps in a file of a stranger.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not the state of such an optimizer.
    """
    if isinstance(optimizer, MuonAdamW):
        optimizer.load_state_dict({name: _checked(part, state[name]) for name, part in optimizer.parts.items()})
    else:
        optimizer.load_state_dict(_checked(optimizer, state))


def _checked(optimizer: torch.optim.Optimizer, state: Any) -> dict[str, Any]:
    """Returns the state with the optimizer's own settings, after looking at the shape of every tensor in it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in state["param_groups"]] != [group["params"] for group in groups]:
        raise ValueError("other groups of parameters")
    for number, values in state["state"].items():
        for name, value in values.items():
            # Fused kernels trust what they are given.
            scalar = name == "step" and isinstance(value, torch.Tensor) and value.dim() == 0
            if not scalar and not (value is None or _alike(value, parameters[number])):
                raise ValueError(f"{name} of parameter {number}")
    return {"state": state["state"], "param_groups": groups}


def _alike(value: Any, parameter: torch.Tensor) -> bool:
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return False
    return value.shape == parameter.shape and value.is_floating_point()


def scheduled_lr(config: TrainingConfig, step: int, num_steps: int) -> float:
    """Returns the learning rate of a step.

    Args:
        config: the training section.
        step: 0 to num_steps - 1.
        num_steps: all optimizer steps of the run.
    """
    return config.optimizer.lr * lr_share(config.schedule, step, num_steps)
