"""Choose and order the utterances of an epoch, and the sizes of its batches."""

import torch
from torch import Tensor


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Returns the sizes of the batches that `DeviceCorpus.batches` makes of `count` utterances."""
    full, rest = divmod(count, batch_size)
    before = max(1, full + (rest > min(1, full * (batch_size - 1)))) - 1
    return [batch_size] * before + [count - before * batch_size]


def num_batches(count: int, batch_size: int) -> int:
    """Returns the number of batches that `DeviceCorpus.batches` makes of `count` utterances."""
    return len(batch_sizes(count, batch_size))


class Sampler:
    """Draws the utterances of an epoch and their order.

    Each utterance of the main corpus occurs once, in random order. With `balance`, the same number is drawn with
    replacement instead, a letter having the probability frequency^(1 - balance). Utterances of the additional corpora
    are drawn again for every epoch.

    Args:
        labels: int64, of the main corpus followed by the additional corpora.
        sizes: number of utterances of each corpus.
        weights: utterances drawn from each additional corpus, per utterance of the main corpus.
        balance: 0 for the frequencies of the corpus, 1 for equally frequent letters.
    """

    def __init__(self, labels: Tensor, sizes: list[int], weights: list[float], balance: float) -> None:
        self.sizes, self.weights = sizes, weights
        main = labels[: sizes[0]].cpu()
        self.chances = torch.bincount(main).double()[main] ** -balance if balance else None

    @property
    def count(self) -> int:
        """Number of utterances of an epoch."""
        return self.sizes[0] + sum(round(self.sizes[0] * weight) for weight in self.weights)

    def order(self, generator: torch.Generator) -> Tensor:
        """Returns the positions int64 [count] of an epoch, drawn from a CPU generator."""
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
