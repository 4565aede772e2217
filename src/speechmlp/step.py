"""One step of training, and its CUDA graph.

A small model's step on a GPU is hundreds of short kernels, and starting them one by one takes the processor many times
longer than the GPU needs for them. A graph starts them all at once (Gray, 2019, "Getting started with CUDA graphs").

Dimension key: `B` batch.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechmlp.config import TrainingConfig
from speechmlp.dataset import Batch
from speechmlp.distributed import Processes
from speechmlp.models import SpeechClassifier
from speechmlp.optim import set_lr
from speechmlp.watch import StepWatch


@dataclass
class _Recorded:
    """A step as it was recorded: the graph, where it reads a batch, and where it leaves the loss."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class TrainingStep:
    """Learns a batch: forward, backward, a look at what is not finite, clipping, update, and average of weights.

    On CUDA, alone, a step that has been done a few times with a number of utterances is recorded as a graph and
    repeated from then on. Graph or not, the same kernels do the same with the same draws.

    Attributes:
        watch: what looks at the steps.
    """

    WARM_UP = 3
    """Steps before one is recorded: the first ones make what stays, such as the optimizer's state."""

    def __init__(
        self,
        learner: nn.Module,
        model: SpeechClassifier,
        average: SpeechClassifier | None,
        config: TrainingConfig,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
    ) -> None:
        """Keeps references.

        Args:
            learner: from a batch to the loss to descend and the labels' part of it; perhaps distributed.
            model: what it learns.
            average: the moving average of the model's weights; None without one.
            config: the training section.
            optimizer: of the model's parameters.
            processes: that learn together.
        """
        self._learner, self._model, self._average = learner, model, average
        self._config, self._optimizer, self._processes = config, optimizer, processes
        device = next(model.parameters()).device
        graphs = device.type == "cuda" and processes.count == 1 and config.cuda_graphs
        self._stream = torch.cuda.Stream(device) if graphs else None  # type: ignore[no-untyped-call]
        self._done: Counter[int] = Counter()  # steps by number of utterances
        self._recorded: dict[int, _Recorded] = {}
        self._share = torch.zeros((), device=device)  # of the model's weights that enters the average
        self.watch = StepWatch(model)

    def __call__(self, batch: Batch, size: int, lr: float, number: int) -> Tensor:
        """Learns a batch.

        Args:
            batch: this process's share of B utterances.
            size: B.
            lr: learning rate.
            number: of the step, 0 for a run's first.

        Returns:
            The labels' part of the loss, in nats, until the next step.

        Raises:
            NonFiniteError: the step is not finite, on the CPU; the update is not done then.
        """
        set_lr(self._optimizer, lr)
        if self._average is not None:  # faster at first, when there is little to remember
            self._share.fill_(1 - min(self._config.ema, (1 + number) / (10 + number)))
        if self._stream is None:
            return self._learn(batch, self._processes.weight(size))
        recorded = self._recorded.get(size)
        if recorded is None and self._done[size] < self.WARM_UP:
            self._done[size] += 1
            usual = torch.cuda.current_stream(self._stream.device)
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                loss = self._learn(batch, 1.0)
            usual.wait_stream(self._stream)
            return loss
        if recorded is None:
            recorded = self._recorded[size] = self._record(batch)
        for place, value in zip(recorded.batch, batch, strict=True):
            place.copy_(value)
        recorded.graph.replay()
        return recorded.loss

    def _record(self, batch: Batch) -> _Recorded:
        """Records a step on a copy of a batch, without doing it."""
        graph = torch.cuda.CUDAGraph()
        places = Batch(*(value.clone() for value in batch))
        with torch.cuda.graph(graph, stream=self._stream):
            loss = self._learn(places, 1.0)
        return _Recorded(graph, places, loss)

    def _learn(self, batch: Batch, weight: float) -> Tensor:
        """Does a step; `weight` is that of this process's share in the mean gradient."""
        self._optimizer.zero_grad(set_to_none=True)
        sought, loss = self._learner(batch)
        (sought if weight == 1 else weight * sought).backward()
        self.watch(sought)
        if self._config.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_grad_norm)
        self._optimizer.step()
        if self._average is not None:
            self._update(self._average)
        return loss.detach()  # type: ignore[no-any-return]

    @torch.no_grad()
    def _update(self, average: SpeechClassifier) -> None:
        """Moves the average of weights towards the model's."""
        kept: list[Tensor] = list(average.parameters())
        learnt: list[Tensor] = list(self._model.parameters())
        moves = torch._foreach_sub(learnt, kept)
        torch._foreach_mul_(moves, self._share)
        torch._foreach_add_(kept, moves)
        for old, new in zip(average.buffers(), self._model.buffers(), strict=True):
            old.copy_(new)
