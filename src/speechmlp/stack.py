"""Many models of one shape that learn at once: each product does the work of all of them.

A small model leaves most of a GPU idle, and processes side by side only take turns there. Networks whose parameters
lie one after another in one tensor are learnt by batched products instead (`torch.vmap`). The front end, in which
nothing is learnt, reads the utterances of all of them; the update and the average of weights are each model's own.

Dimension key: `K` models, `B` batch of each, `P` parameters.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from speechmlp.config import TrainingConfig
from speechmlp.dataset import Batch, DeviceCorpus
from speechmlp.distillation import Teachers
from speechmlp.engine import lesson, losses
from speechmlp.errors import UserError
from speechmlp.history import EpochRecord
from speechmlp.step import Recorder, Update
from speechmlp.training_loop import Course, Wanted
from speechmlp.watch import NonFiniteError


class StackWatch:
    """Notices, for each of many models, the first step of an epoch whose loss or gradients are not finite."""

    def __init__(self, count: int, device: torch.device) -> None:
        """Makes the places where steps write.

        Args:
            count: of the models that there are at first.
            device: theirs.
        """
        self._step = torch.zeros((), dtype=torch.int64, device=device)  # the next one
        self.bad = torch.full((count,), -1, dtype=torch.int64, device=device)
        """The first bad step of each model; -1 where there is none."""

    def begin(self) -> None:
        """Starts an epoch."""
        self._step.zero_()

    def __call__(self, members: Tensor, finite: Tensor) -> None:
        """Looks at the next step.

        Args:
            members: int64 [K], the models that do it.
            finite: bool [K], whether the step of each is finite.
        """
        before = self.bad[members]
        self.bad[members] = torch.where((before < 0) & ~finite, self._step, before)
        self._step += 1


class MemberWatch:
    """One model's part of a `StackWatch`."""

    def __init__(self, watch: StackWatch, member: int) -> None:
        """Keeps references.

        Args:
            watch: of all.
            member: which one of them.
        """
        self._watch, self._member, self._epoch = watch, member, 0

    def begin(self, epoch: int, step: int) -> None:
        """Starts an epoch, from its first step."""
        del step
        self._epoch = epoch
        self._watch.begin()

    def look(self) -> None:
        """Looks at what the steps left; on CUDA it waits for them.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        step = int(self._watch.bad[self._member].item())
        if step >= 0:
            raise NonFiniteError(
                f"epoch {self._epoch}, step {step + 1} of it: the loss or gradients are not finite; alone it tells of "
                "which layers; a smaller training.optimizer.lr or training.clip_grad_norm helps",
                step,
            )


class StackedStep:
    """Learns a batch with each of many models at once.

    The models' own parameters become views of the stacked ones, so that whatever reads or changes them goes on to.
    Random draws, such as dropout's, differ from model to model, and from those of a model that learns alone.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        members: Sequence[int],
        watch: StackWatch,
        config: TrainingConfig,
        teachers: Teachers | None,
    ) -> None:
        """Stacks the parameters and what is kept beside them.

        Args:
            updates: of each of the K models, which differ by what they have learnt alone.
            members: what `watch` knows them as.
            watch: of the steps.
            config: the training section of one of them; what they all have in common is read.
            teachers: trained models to learn from beside the labels.
        """
        self._updates, self._watch, self._config, self._teachers = updates, watch, config, teachers
        models = [update.model for update in updates]
        self._one = models[0]
        networks = [model.network for model in models]
        every = [dict(network.named_parameters()) for network in networks]
        self._own = {name: [parameters[name] for parameters in every] for name in every[0]}
        self._parameters = {name: _stacked(own).requires_grad_() for name, own in self._own.items()}
        buffers = [dict(network.named_buffers()) for network in networks]
        self._buffers = {name: _stacked([of[name] for of in buffers]) for name in buffers[0]}
        device = next(self._one.parameters()).device
        self._members = torch.tensor(members, device=device)
        graphs = device.type == "cuda" and config.cuda_graphs
        self._recorder = Recorder(self._learn, device) if graphs else None

    def __call__(self, batch: Batch, wanted: Sequence[Wanted]) -> Tensor:
        """Learns a batch of each model.

        Args:
            batch: the utterances that they want, those of the first model first.
            wanted: the step of each.

        Returns:
            The labels' part of each loss, [K], in nats.
        """
        for update, step in zip(self._updates, wanted, strict=True):
            update.set(step.lr, step.number)
        if self._recorder is not None:
            return self._recorder(batch, len(batch.labels))
        return self._learn(batch)

    def _learn(self, batch: Batch) -> Tensor:
        for parameter in self._parameters.values():
            parameter.grad = None
        count = len(self._updates)
        features, _ = self._one.training_features(batch.waveforms)  # nothing in there is learnt
        features, targets = lesson(features, batch.labels, self._config)

        def one(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], features: Tensor, targets: Tensor
        ) -> tuple[Tensor, Tensor]:
            def network(given: Tensor) -> Tensor:
                return functional_call(self._one.network, (parameters, buffers), (given,))  # type: ignore[no-any-return]

            return losses(network, features, targets, self._config, self._teachers)

        shares = (part.view(count, -1, *part.shape[1:]) for part in (features, targets))
        sought, loss = torch.vmap(one, randomness="different")(self._parameters, self._buffers, *shares)
        sought.sum().backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        sums = torch.stack([sought.detach(), *(gradient.flatten(1).sum(1) for gradient in gradients)])  # [P + 1, K]
        self._watch(self._members, sums.isfinite().all(0))
        for name, own in self._own.items():
            gradient = self._parameters[name].grad
            for place, parameter in enumerate(own):
                parameter.grad = None if gradient is None else gradient[place]
        for update in self._updates:
            update()
        return loss.detach()


@torch.no_grad()
def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Returns tensors as one, [K, ...], of which they are views from here on."""
    whole = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, whole, strict=True):
        tensor.data = view
    return whole


def train_stack(
    courses: Sequence[Course],
    make: Callable[[Sequence[int]], StackedStep],
    corpus: DeviceCorpus,
    interrupted: Callable[[], bool],
) -> Iterator[tuple[int, EpochRecord | UserError]]:
    """Trains many models step by step together; one that comes to its end or to an error leaves the others to theirs.

    Args:
        courses: of each model, all with as many steps an epoch.
        make: makes the step of those models that are still there.
        corpus: that all of them learn.
        interrupted: asked before every step whether to end.

    Yields:
        Which model it is of: a record after each of its epochs, or the error that ends it.
    """
    learn: StackedStep | None = None
    here: list[int] = []
    told: dict[int, Tensor | None] = dict.fromkeys(range(len(courses)))  # to those that are still there: their loss
    while told:
        wanted: dict[int, Wanted] = {}
        for member, loss in told.items():
            try:
                found = courses[member].send(loss)
                while isinstance(found, EpochRecord):
                    yield member, found
                    found = next(courses[member])
                wanted[member] = found
            except StopIteration:
                pass
            except UserError as error:
                yield member, error
        if not wanted or interrupted():
            return
        if learn is None or list(wanted) != here:
            here = list(wanted)
            learn = make(here)
        batch = corpus.take(torch.cat([step.positions for step in wanted.values()]))
        told = dict(zip(here, learn(batch, list(wanted.values())).unbind(), strict=True))
