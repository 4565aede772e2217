"""Training one model in several processes: their ranks, their parts of a batch, and sums over all of them.

torchrun starts them and sets their number in the environment. With a single process, nothing here does anything.

Dimension key: `B` batch, `N` utterances, `W` width.
"""

import atexit
import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.nn.functional import all_reduce
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from speechmlp.errors import UserError

T = TypeVar("T")
Module = TypeVar("Module", bound=nn.Module)

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, of which one may have to decode a large corpus first."""

GRACE = 10.0
"""Seconds that the first process has to report its error: torchrun ends all of them as soon as one has ended."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one model, from the view of one of them.

    Attributes:
        rank: number of this process; the first, 0, writes files and prints.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Returns the seed of this process for augmentation and dropout; the seed itself in the first one."""
        digest = hashlib.sha256(f"{seed} {self.rank}".encode()).digest()
        return seed if self.first else int.from_bytes(digest[:4], "big")

    def part(self, positions: Tensor) -> Tensor:
        """Returns this process's part of positions [N]; all of them if there are fewer than processes."""
        return positions if len(positions) < self.count else positions.tensor_split(self.count)[self.rank]

    def weight(self, size: int) -> float:
        """Returns the weight of the mean over this process's part of a batch, so that the mean over all is the batch's.

        Args:
            size: utterances in the batch of all processes.
        """
        if self.count == 1 or size < self.count:
            return 1.0
        own = size // self.count + (self.rank < size % self.count)
        return own * self.count / size

    def add(self, tensor: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes; changes the tensor in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def whole(self, part: Tensor, count: int) -> Tensor:
        """Returns [N, ...], the parts [n, ...] that the processes computed for `part(arange(N))`, in order."""
        if self.count == 1:
            return part
        everything = part.new_zeros(count, *part.shape[1:])
        if count >= self.count or self.first:
            everything[self.part(torch.arange(count))] = part
        return self.add(everything)  # a number and zeros: exact

    def from_first(self, make: Callable[[], T]) -> T:
        """Calls a function in the first process and returns its result in all processes.

        Raises:
            UserError: the function raised it in the first process; in the others it has no message.
        """
        if self.count == 1:
            return make()
        made: list[T | UserError] = []
        try:
            made = [make() if self.first else UserError()]
        except UserError as error:
            made = [error]
        distributed.broadcast_object_list(made, src=0)
        if isinstance(made[0], UserError):
            if not self.first:
                time.sleep(GRACE)
            raise made[0] if self.first else UserError()
        return made[0]

    def averaging(self, module: nn.Module) -> nn.Module:
        """Returns the module with gradients that are averaged over processes during `backward`."""
        # Buffers are equal already: shared statistics, or constants.
        return module if self.count == 1 else DistributedDataParallel(module, broadcast_buffers=False)

    def sharing_statistics(self, model: Module) -> Module:
        """Returns the model with batch normalisation over the batch of all processes; changed in place."""
        for parent in list(model.modules()) if self.count > 1 else ():
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm1d):
                    shared = SharedBatchNorm(child.num_features).to(child.weight.device)
                    shared.load_state_dict(child.state_dict())
                    setattr(parent, name, shared)
        return model


ALONE = Processes()
"""One process, without torchrun."""


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the batch of all processes: [B, W] -> [B, W].

    `torch.nn.SyncBatchNorm` does the same on CUDA only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised x; in training by the batch's statistics, which it keeps for evaluation."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        x = x.float()
        count = distributed_sum(x.new_tensor(float(len(x))))
        mean = distributed_sum(x.sum(0)) / count
        variance = distributed_sum((x - mean).square().sum(0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


def distributed_sum(tensor: Tensor) -> Tensor:
    """Returns the sum of all processes' tensors, through which gradients pass."""
    return all_reduce(tensor)  # type: ignore[no-any-return, no-untyped-call]


def join_processes() -> Processes:
    """Joins the processes that torchrun has started; a single process without torchrun.

    Only the first one prints to standard output. On a machine with GPUs each process takes the
    one of its own number there as its current device.

    Raises:
        UserError: there are fewer GPUs than processes on this machine, or the others cannot be reached.
    """
    try:
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return Processes()
        rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"WORLD_SIZE is set, but RANK and LOCAL_RANK do not match it ({error}); start with torchrun, or unset it"
        ) from error
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(
                f"expected {torch.cuda.device_count()} processes or fewer on this machine, as it has GPUs, found "
                f"{os.environ['LOCAL_WORLD_SIZE']}; lower --nproc-per-node, or hide the GPUs: CUDA_VISIBLE_DEVICES="
            )
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # torchrun keeps its store when it starts processes again, with the addresses of the dead ones in it. The machines
    # of several count their starts differently; docs/scaling.md has the setting that gives them a new store.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE") == "1" else "0"
    try:
        shared, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        store = PrefixStore(f"start {start}", shared)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # a ValueError if the environment has no address
        raise UserError(f"process {rank} of {count}: the others cannot be reached: {error}") from error
    atexit.register(distributed.destroy_process_group)
    if rank > 0:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    return Processes(rank, count)
