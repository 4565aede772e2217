"""Scores of a classifier on utterances, with an interval that respects that one speaker's letters are not independent.

Dimension key: `N` utterances, `G` speakers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.labels import E_SET, LETTERS, NUM_LETTERS, label_of

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval and how it was found."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Scores:
    """What a classifier achieves on a set of utterances.

    Attributes:
        num_utterances: N.
        num_speakers: G.
        accuracy: share of utterances whose most probable letter is the spoken one.
        interval: of the accuracy.
        loss: mean cross-entropy, in nats.
        e_set_accuracy: accuracy over utterances of B C D E G P T V Z; None where there are none.
        confusion: int64 [26, 26], spoken letter by recognised letter.
    """

    num_utterances: int
    num_speakers: int
    accuracy: float
    interval: Interval
    loss: float
    e_set_accuracy: float | None
    confusion: Tensor

    def letter_accuracy(self) -> dict[str, tuple[int, int]]:
        """Returns letter -> (recognised, spoken) for the letters that occur."""
        spoken, right = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        return {letter: (right[i], spoken[i]) for i, letter in enumerate(LETTERS) if spoken[i]}

    def confusions(self, most: int = 10) -> list[tuple[str, str, int]]:
        """Returns the most frequent mistakes as (spoken, recognised, count), most frequent first."""
        wrong = self.confusion - torch.diag(self.confusion.diagonal())
        counts, places = wrong.flatten().sort(descending=True, stable=True)
        pairs = zip(counts[:most].tolist(), places[:most].tolist(), strict=True)
        return [(LETTERS[place // NUM_LETTERS], LETTERS[place % NUM_LETTERS], count) for count, place in pairs if count]

    def to_json(self) -> dict[str, object]:
        """Returns plain values for JSON."""
        return {
            "num_utterances": self.num_utterances,
            "num_speakers": self.num_speakers,
            "accuracy": self.accuracy,
            "interval": {"low": self.interval.low, "high": self.interval.high, "method": self.interval.method},
            "loss": self.loss,
            "e_set_accuracy": self.e_set_accuracy,
            "letters": {
                letter: {"recognised": right, "spoken": spoken}
                for letter, (right, spoken) in self.letter_accuracy().items()
            },
            "confusion": {"rows": "spoken", "columns": "recognised", "counts": self.confusion.tolist()},
        }


def _t_quantile(probability: float, freedom: int) -> float:
    """Returns Student's t quantile by the Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def _wilson(right: float, count: int, method: str) -> Interval:
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), method)


def accuracy_interval(correct: Tensor, speakers: Sequence[str]) -> Interval:
    """Returns the 95 % interval of an accuracy: bootstrap over speakers, widened for their small number.

    Whole speakers are drawn with replacement 10,000 times from a fixed seed; the quantiles are taken further out as the
    expanded percentile interval of Hesterberg (2015, "What teachers should know about the bootstrap") prescribes,
    because plain percentiles are too narrow for few speakers. With a single speaker, or where every utterance is right
    or every one wrong, there is nothing to resample: Wilson's interval over utterances is given, and says so.

    Args:
        correct: bool [N].
        speakers: N names.
    """
    names = {name: position for position, name in enumerate(dict.fromkeys(speakers))}
    group = torch.tensor([names[name] for name in speakers])
    spoken = torch.bincount(group, minlength=len(names)).double()
    right = torch.bincount(group[correct], minlength=len(names)).double()
    if len(names) < 2 or bool(correct.all()) or not bool(correct.any()):
        return _wilson(float(right.sum()), len(speakers), "Wilson over utterances, which ignores that speakers differ")
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(0, NUM_RESAMPLES, 500):  # in blocks: thousands of speakers would fill the memory
        drawn = torch.randint(len(names), (500, len(names)), generator=generator)
        shares.append(right[drawn].sum(1) / spoken[drawn].sum(1))
    count = len(names)
    tail = NormalDist().cdf(math.sqrt(count / (count - 1)) * _t_quantile((1 - CONFIDENCE) / 2, count - 1))
    low, high = torch.cat(shares).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(low, high, f"bootstrap over {count} speakers")


def score(logits: Tensor, labels: Tensor, speakers: Sequence[str]) -> Scores:
    """Returns the scores of logits float32 [N, 26] against labels int64 [N], spoken by N speakers."""
    logits, labels = logits.cpu(), labels.cpu()
    recognised = logits.argmax(1)
    correct = recognised == labels
    in_e_set = torch.isin(labels, torch.tensor([label_of(letter) for letter in E_SET]))
    confusion = torch.bincount(labels * NUM_LETTERS + recognised, minlength=NUM_LETTERS**2)
    return Scores(
        num_utterances=len(labels),
        num_speakers=len(set(speakers)),
        accuracy=correct.double().mean().item(),
        interval=accuracy_interval(correct, speakers),
        loss=F.cross_entropy(logits.double(), labels).item(),
        e_set_accuracy=correct[in_e_set].double().mean().item() if bool(in_e_set.any()) else None,
        confusion=confusion.view(NUM_LETTERS, NUM_LETTERS),
    )
