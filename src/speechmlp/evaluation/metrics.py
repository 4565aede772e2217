"""Scores of a classifier on utterances, each with an interval over speakers.

Dimension key: `N` utterances, `R` resamples.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.results import (
    CoveragePoint,
    Estimate,
    Group,
    LetterScores,
    Mistake,
    RejectedKind,
    Rejection,
    ReliabilityBin,
    Scores,
)
from speechmlp.labels import E_SET, LETTERS, NUM_LETTERS, label_of

NUM_BINS = 15
"""Of the calibration error, as usual since Guo et al. (2017)."""
DECLINED = 0.05
"""Fraction of letters that the fitted threshold rejects."""
COVERAGES = (1.0, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


def _among(labels: Tensor, letters: Sequence[str]) -> Tensor:
    return torch.isin(labels, torch.tensor([label_of(letter) for letter in letters]))


def _macro_recall(bootstrap: SpeakerBootstrap, labels: Tensor, right: Tensor) -> Estimate:
    spoken = F.one_hot(labels, NUM_LETTERS)

    def mean(sums: Tensor) -> Tensor:
        return (sums[:, :NUM_LETTERS] / sums[:, NUM_LETTERS:]).nanmean(1)  # 0 / 0 if a letter was not drawn

    return bootstrap.estimate(torch.cat([spoken * right[:, None], spoken], 1), mean)


def _letters(bootstrap: SpeakerBootstrap, labels: Tensor, recognised: Tensor) -> tuple[LetterScores, ...]:
    right = labels == recognised
    return tuple(
        LetterScores(
            letter=letter,
            spoken=int((labels == label).sum()),
            recognised=int((recognised == label).sum()),
            right=int((right & (labels == label)).sum()),
            recall=bootstrap.share(right, labels == label),
            precision=bootstrap.share(right, recognised == label),
        )
        for label, letter in enumerate(LETTERS)
    )


def reliability_bins(probability: Tensor, right: Tensor) -> tuple[ReliabilityBin, ...]:
    """Returns the accuracy by the probability of the most probable letter.

    Args:
        probability: [N] of the most probable letter.
        right: bool [N], whether it is the spoken one.
    """
    place = _bin_of(probability)
    bins = []
    for number in range(NUM_BINS):
        here = place == number
        count = int(here.sum())
        bins.append(
            ReliabilityBin(
                low=number / NUM_BINS,
                high=(number + 1) / NUM_BINS,
                count=count,
                probability=probability[here].double().mean().item() if count else None,
                accuracy=right[here].double().mean().item() if count else None,
            )
        )
    return tuple(bins)


def _bin_of(probability: Tensor) -> Tensor:
    return (probability * NUM_BINS).long().clamp(0, NUM_BINS - 1)


def _calibration_error(bootstrap: SpeakerBootstrap, probability: Tensor, right: Tensor) -> Estimate:
    """Returns the mean distance between probability and accuracy over bins, weighted by their utterances."""
    place = F.one_hot(_bin_of(probability), NUM_BINS).double()
    distance = place * (probability.double() - right.double())[:, None]

    def error(sums: Tensor) -> Tensor:
        return sums[:, :NUM_BINS].abs().sum(1) / sums[:, NUM_BINS]

    return bootstrap.estimate(torch.cat([distance, torch.ones(len(right), 1)], 1), error)


def coverage_curve(probability: Tensor, right: Tensor) -> tuple[CoveragePoint, ...]:
    """Returns the accuracy of the most certain letters, for fractions of letters that are answered."""
    order = probability.argsort(descending=True, stable=True)
    sorted_right, count = right[order].double().cumsum(0), len(right)
    kept = [max(1, round(share * count)) for share in COVERAGES]
    return tuple(
        CoveragePoint(
            coverage=number / count,
            accuracy=sorted_right[number - 1].item() / number,
            reject_below=probability[order[number - 1]].item(),
        )
        for number in dict.fromkeys(kept)
    )


def _groups(right: Tensor, speakers: Sequence[str], groups: Mapping[str, Sequence[str | None]]) -> tuple[Group, ...]:
    found = []
    for kind, names in {"speaker": speakers, **groups}.items():
        members: dict[str, list[int]] = {}
        for position, name in enumerate(names):
            if name is not None:
                members.setdefault(name, []).append(position)
        for name, positions in sorted(members.items()):
            accuracy = SpeakerBootstrap([speakers[position] for position in positions]).share(right[positions])
            if accuracy is not None:
                found.append(Group(kind=kind, name=name, count=len(positions), accuracy=accuracy))
    return tuple(found)


def score(
    logits: Tensor,
    labels: Tensor,
    speakers: Sequence[str],
    *,
    temperature: float = 1.0,
    groups: Mapping[str, Sequence[str | None]] | None = None,
    ranked: bool = True,
) -> Scores:
    """Returns the scores of a classifier.

    Args:
        logits: float32 [N, 26].
        labels: int64 [N].
        speakers: N names.
        temperature: divides the logits wherever probabilities are used.
        groups: kind -> name of each utterance's group, N, None if it has none; speakers are added.
        ranked: whether logits give probabilities, and not only the recognised letter.
    """
    logits, labels = logits.cpu().double() / temperature, labels.cpu()
    recognised = logits.argmax(1)
    right = recognised == labels
    bootstrap = SpeakerBootstrap(speakers)
    accuracy = bootstrap.share(right)
    assert accuracy is not None
    confusion = torch.bincount(labels * NUM_LETTERS + recognised, minlength=NUM_LETTERS**2).view(NUM_LETTERS, -1)
    probability = logits.softmax(1).amax(1)
    top3 = loss = calibration_error = None
    if ranked:
        top3 = bootstrap.share((logits.topk(3).indices == labels[:, None]).any(1))
        nats = F.cross_entropy(logits, labels, reduction="none")
        loss = bootstrap.estimate(torch.stack([nats, torch.ones_like(nats)], 1), lambda sums: sums[:, 0] / sums[:, 1])
        calibration_error = _calibration_error(bootstrap, probability, right)
    return Scores(
        num_utterances=len(labels),
        num_speakers=len(set(speakers)),
        accuracy=accuracy,
        top3=top3,
        macro_recall=_macro_recall(bootstrap, labels, right),
        e_set=bootstrap.share(right, _among(labels, E_SET)),
        m_n=bootstrap.share(right, _among(labels, "MN")),
        loss=loss,
        calibration_error=calibration_error,
        letters=_letters(bootstrap, labels, recognised),
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=reliability_bins(probability, right) if ranked else (),
        coverage=coverage_curve(probability, right) if ranked else (),
        groups=_groups(right, speakers, groups or {}),
    )


def find_mistakes(
    logits: Tensor, labels: Tensor, speakers: Sequence[str], ids: Sequence[str], temperature: float
) -> list[tuple[int, Mistake]]:
    """Returns the index and description of every utterance recognised as another letter, the most certain first.

    Args:
        logits: float32 [N, 26].
        labels: int64 [N].
        speakers: N names.
        ids: N names of utterances.
        temperature: divides the logits.
    """
    probabilities = (logits.cpu().double() / temperature).softmax(1)
    probability, recognised = probabilities.max(1)
    of_spoken = probabilities.gather(1, labels[:, None])[:, 0]
    wrong = (recognised != labels).nonzero()[:, 0]
    wrong = wrong[probability[wrong].argsort(descending=True, stable=True)]
    return [
        (
            position,
            Mistake(
                id=ids[position],
                speaker=speakers[position],
                spoken=LETTERS[labels[position]],
                recognised=LETTERS[recognised[position]],
                probability=probability[position].item(),
                probability_of_spoken=of_spoken[position].item(),
            ),
        )
        for position in wrong.tolist()
    ]


def fit_reject_below(logits: Tensor) -> float:
    """Returns the threshold on the probability of the most probable letter under which `DECLINED` of the letters are.

    Args:
        logits: float32 [N, 26] on utterances not trained on, divided by the temperature.
    """
    return logits.double().softmax(1).amax(1).quantile(DECLINED).item()


def score_rejection(
    letters: Tensor, others: Tensor, kinds: Sequence[str], reject_below: float, temperature: float
) -> Rejection:
    """Scores how well a threshold on the probability of the most probable letter separates letters from non-letters.

    Args:
        letters: logits [N, 26] of letters.
        others: logits [M, 26] of non-letters.
        kinds: M names.
        reject_below: probability under which a recording is rejected.
        temperature: divides the logits.
    """
    of_letters, of_others = ((logits.cpu().double() / temperature).softmax(1).amax(1) for logits in (letters, others))
    where = {kind: torch.tensor([name == kind for name in kinds]) for kind in sorted(set(kinds))}
    at_declined = of_letters.quantile(DECLINED)
    # The chance that a letter has a higher probability than a non-letter is the area under the ROC curve (Mann &
    # Whitney, 1947).
    ranks = torch.searchsorted(of_others.sort().values, of_letters)
    return Rejection(
        reject_below=reject_below,
        letters_declined=(of_letters < reject_below).double().mean().item(),
        others_declined=(of_others < reject_below).double().mean().item(),
        others_declined_at_5_percent=(of_others < at_declined).double().mean().item(),
        roc_area=ranks.double().mean().item() / len(of_others),
        kinds=tuple(
            RejectedKind(
                name=kind, count=int(here.sum()), declined=(of_others[here] < reject_below).double().mean().item()
            )
            for kind, here in where.items()
        ),
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Returns the temperature, 0.05 to 20, with the lowest cross-entropy (Guo et al., 2017).

    The loss has one minimum over the logarithm of the temperature, which golden-section search finds.

    Args:
        logits: float32 [N, 26] on utterances not trained on.
        labels: int64 [N].
    """
    logits, labels = logits.double(), labels.to(logits.device)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    low, high, ratio = -3.0, 3.0, (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
