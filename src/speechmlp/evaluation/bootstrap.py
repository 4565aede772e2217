"""Confidence intervals by resampling speakers, because one speaker's letters are not independent.

Dimension key: `N` utterances, `G` speakers, `K` sums, `R` resamples.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import NormalDist

import torch
from torch import Tensor

from speechmlp.evaluation.results import Estimate

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
FEWEST_RESAMPLES = 1_000
"""For very many speakers: the quantiles change little, and more draws would take minutes."""
DRAWS = 20_000_000


def t_quantile(probability: float, freedom: int) -> float:
    """Returns Student's t quantile by the Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def wilson(right: float, count: int) -> tuple[float, float]:
    """Returns Wilson's interval of a fraction of independent utterances."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    fraction = right / count
    centre = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


class SpeakerBootstrap:
    """Resamples of sums over speakers.

    Whole speakers are drawn with replacement from a fixed seed. Quantiles are taken further out as the expanded
    percentile interval of Hesterberg (2015, "What teachers should know about the bootstrap") prescribes, because plain
    percentiles are too narrow for few speakers. With a single speaker utterances are resampled instead, and
    `method` says so.

    Args:
        speakers: N names, at least one.
    """

    def __init__(self, speakers: Sequence[str]) -> None:
        names = {name: position for position, name in enumerate(dict.fromkeys(speakers))}
        self.by_speaker = len(names) > 1
        self.method = f"bootstrap over {len(names)} speakers"
        self._group = torch.tensor([names[name] for name in speakers])
        if not self.by_speaker:
            self._group = torch.arange(len(speakers))
            self.method = "bootstrap over utterances, which ignores that speakers differ"
        self._count = int(self._group.max()) + 1

    def estimate(self, sums: Tensor, statistic: Callable[[Tensor], Tensor], fewest: int | None = None) -> Estimate:
        """Returns a statistic of sums over utterances, with its interval.

        Args:
            sums: [N, K], what each utterance adds.
            statistic: from sums [R, K] to values [R]; NaN for a resample without a value.
            fewest: speakers of the smallest part that the statistic depends on; None for all of them. The fewer, the
                wider the interval.
        """
        totals = torch.zeros(self._count, sums.shape[1], dtype=torch.float64)
        totals.index_add_(0, self._group, sums.double())
        value = statistic(totals.sum(0, keepdim=True)).item()
        if self._count < 2:
            return Estimate(value=value, low=value, high=value, method="none: a single utterance")
        low, high = self._quantiles(statistic(self._resampled(totals)), max(2, fewest or self._count))
        return Estimate(value=value, low=low, high=high, method=self.method)

    def mean(self, values: Tensor) -> Estimate:
        """Returns the mean of values [N] with its interval."""
        return self.estimate(torch.stack([values, torch.ones_like(values)], 1), lambda sums: sums[:, 0] / sums[:, 1])

    def fraction(self, right: Tensor, among: Tensor | None = None) -> Estimate | None:
        """Returns the fraction of utterances that are right, bool [N], among some, bool [N]; None if there are none.

        If all are right, or all are wrong, resampling would give an interval of width zero: Wilson's interval over
        utterances is returned instead, and `method` says so. The same holds for a single speaker.
        """
        among = torch.ones_like(right) if among is None else among
        count, hits = int(among.sum()), int((right & among).sum())
        if not count:
            return None
        if self.by_speaker and 0 < hits < count:
            return self.estimate(torch.stack([right & among, among], 1), lambda sums: sums[:, 0] / sums[:, 1])
        low, high = wilson(hits, count)
        method = "Wilson over utterances, which ignores that speakers differ"
        return Estimate(value=hits / count, low=low, high=high, method=method)

    @cached_property
    def _times(self) -> list[Tensor]:
        """How often each speaker is drawn, uint8 [R, G] in blocks; kept, because every score needs it."""
        count = self._count
        wanted = min(NUM_RESAMPLES, max(FEWEST_RESAMPLES, DRAWS // count))
        block = max(1, min(500, DRAWS // 10 // count))
        generator = torch.Generator().manual_seed(0)
        blocks = []
        for first in range(0, wanted, block):
            drawn = torch.randint(count, (min(block, wanted - first), count), generator=generator)
            times = torch.zeros(drawn.shape, dtype=torch.uint8)
            blocks.append(times.scatter_add_(1, drawn, torch.ones_like(times)))
        return blocks

    def _resampled(self, totals: Tensor) -> Tensor:
        """Returns sums [R, K] over as many drawn speakers of totals [G, K]."""
        return torch.cat([times.double() @ totals for times in self._times])

    def _quantiles(self, values: Tensor, count: int) -> tuple[float, float]:
        tail = NormalDist().cdf(math.sqrt(count / (count - 1)) * t_quantile((1 - CONFIDENCE) / 2, count - 1))
        low, high = values.nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
        return low, high
