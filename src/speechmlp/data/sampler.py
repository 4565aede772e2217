"""Which utterances an epoch learns, in which order, and in batches of which sizes."""

import torch
from torch import Tensor


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Returns the sizes of the batches that `DeviceCorpus.batches` makes of so many utterances."""
    full, rest = divmod(count, batch_size)
    before = max(1, full + (rest > min(1, full * (batch_size - 1)))) - 1
    return [batch_size] * before + [count - before * batch_size]


def num_batches(count: int, batch_size: int) -> int:
    """Returns how many batches `DeviceCorpus.batches` makes of so many utterances."""
    return len(batch_sizes(count, batch_size))


class Sampler:
    """Which utterances an epoch learns, and in which order.

    The main corpus's utterances come once each, in random order, or, with `balance`, as many drawn with replacement, a
    letter's chance being its frequency ^ (1 - balance). Further corpora add utterances drawn anew for every epoch.

    Args:
        labels: int64, of the main corpus and the further ones, one after the other.
        sizes: utterances in each.
        weights: utterances drawn from each further corpus for one of the main one.
        balance: 0 for letters as they come, 1 for each letter as often as any other.
    """

    def __init__(self, labels: Tensor, sizes: list[int], weights: list[float], balance: float) -> None:
        self.sizes, self.weights = sizes, weights
        main = labels[: sizes[0]].cpu()
        self.chances = torch.bincount(main).double()[main] ** -balance if balance else None

    @property
    def count(self) -> int:
        """Utterances of an epoch."""
        return self.sizes[0] + sum(round(self.sizes[0] * weight) for weight in self.weights)

    def order(self, generator: torch.Generator) -> Tensor:
        """Returns positions int64 [count] for an epoch, drawn from a CPU generator."""
        main = self.sizes[0]
        if self.chances is None:
            parts = [torch.randperm(main, generator=generator)]
        else:
            parts = [torch.multinomial(self.chances, main, replacement=True, generator=generator)]
        first = main
        for size, weight in zip(self.sizes[1:], self.weights, strict=True):
            wanted = round(main * weight)
            rounds = [torch.randperm(size, generator=generator) for _ in range(-(-wanted // size))]
            parts.append(first + torch.cat(rounds)[:wanted])
            first += size
        if len(parts) == 1:
            return parts[0]
        drawn = torch.cat(parts)
        return drawn[torch.randperm(len(drawn), generator=generator)]
