"""One step of training, and its CUDA graph.

A small model's step on a GPU is hundreds of short kernels, and starting them one by one takes many times longer than
running them. A graph starts them all at once (Gray, 2019, "Getting started with CUDA graphs").

Dimension key: `B` batch.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechmlp.config.schema import TrainingConfig
from speechmlp.data.dataset import Batch
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.training.distributed import Processes
from speechmlp.training.divergence import StepWatch


@dataclass
class _Recorded:
    """A recorded step: the graph, its input batch and its output loss."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class Recorder:
    """Does steps on CUDA a few times, then records them as a graph, one for each size of batch, and repeats that.

    Graph or not, the same kernels do the same with the same draws.

    Args:
        do_step: does a step and returns its loss.
        device: a CUDA device.
    """

    WARM_UP = 3
    """Steps before one is recorded: the first ones make what stays, such as the optimizer's state."""

    def __init__(self, do_step: Callable[[Batch], Tensor], device: torch.device) -> None:
        self._do_step = do_step
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done: Counter[int] = Counter()  # steps by number of utterances
        self._recorded: dict[int, _Recorded] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """Does a step on a batch and returns its loss."""
        size = len(batch.labels)
        recorded = self._recorded.get(size)
        if recorded is None and self._done[size] < self.WARM_UP:
            self._done[size] += 1
            usual = torch.cuda.current_stream(self._stream.device)
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                loss = self._do_step(batch)
            usual.wait_stream(self._stream)
            return loss
        if recorded is None:
            recorded = self._recorded[size] = self._record(batch)
        for kept, value in zip(recorded.batch, batch, strict=True):
            kept.copy_(value)
        recorded.graph.replay()
        return recorded.loss.clone()

    def _record(self, batch: Batch) -> _Recorded:
        """Records a step on a copy of a batch, without doing it."""
        graph = torch.cuda.CUDAGraph()
        inputs = Batch(*(value.clone() for value in batch))
        with torch.cuda.graph(graph, stream=self._stream):
            loss = self._do_step(inputs)
        return _Recorded(graph, inputs, loss)


class TrainingStep:
    """Trains a model on a batch: forward, backward, a check of all numbers, clipping, update, average of weights.

    On CUDA the steps of a single process are recorded as a graph and repeated.

    Args:
        learner: from a batch to the loss to minimise and the labels' part of it; perhaps distributed.
        model: that is trained.
        average: the moving average of the model's weights; None without one.
        config: the training section.
        optimizer: of the model's parameters; its learning rate is set before each step.
        processes: that train the model.

    Attributes:
        watch: checks that loss and gradients are finite.
    """

    def __init__(
        self,
        learner: nn.Module,
        model: SpeechClassifier,
        average: SpeechClassifier | None,
        config: TrainingConfig,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
    ) -> None:
        self._learner, self._model, self._average = learner, model, average
        self._config, self._optimizer, self._processes = config, optimizer, processes
        device = next(model.parameters()).device
        recorded = device.type == "cuda" and processes.count == 1 and config.cuda_graphs
        self._recorder = Recorder(self._do_step, device) if recorded else None
        # The fraction of the model's weights that enters the average; on the device, because a graph reads it there.
        self._share = torch.zeros((), device=device)
        self.watch = StepWatch(model)

    def __call__(self, batch: Batch, size: int, number: int) -> Tensor:
        """Trains on a batch.

        Args:
            batch: this process's part of B utterances.
            size: B.
            number: of the step, 0 for a run's first.

        Returns:
            The labels' part of the loss, in nats.

        Raises:
            NonFiniteError: the step is not finite, on the CPU; the update is not done then.
        """
        if self._average is not None:  # faster at first, while the average is young
            self._share.fill_(1 - min(self._config.ema, (1 + number) / (10 + number)))
        if self._recorder is not None:
            return self._recorder(batch)
        return self._do_step(batch, self._processes.weight(size))

    def _do_step(self, batch: Batch, weight: float = 1.0) -> Tensor:
        """Does a step; `weight` is that of this process in the mean gradient."""
        self._model.zero_grad(set_to_none=True)
        objective, loss = self._learner(batch)
        (objective if weight == 1 else weight * objective).backward()
        self.watch(objective)
        if self._config.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_grad_norm)
        self._optimizer.step()
        if self._average is not None:
            self._move(self._average)
        return loss.detach()  # type: ignore[no-any-return]

    @torch.no_grad()
    def _move(self, average: SpeechClassifier) -> None:
        """Moves the average of weights towards the model's."""
        kept: list[Tensor] = list(average.parameters())
        moves = torch._foreach_sub(list(self._model.parameters()), kept)
        torch._foreach_mul_(moves, self._share)
        torch._foreach_add_(kept, moves)
        for old, new in zip(average.buffers(), self._model.buffers(), strict=True):
            old.copy_(new)
