"""Scores of a classifier on utterances, each with an interval over speakers.

Dimension key: `N` utterances, `R` resamples, `L` labels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.data.manifest import Utterance
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.calibration import REJECTED
from speechmlp.evaluation.gaps import find_gaps
from speechmlp.evaluation.groups import in_order
from speechmlp.evaluation.results import (
    Answers,
    Baseline,
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
from speechmlp.labels import E_SET, LETTERS

NUM_BINS = 15
"""Of the calibration error, as usual since Guo et al. (2017)."""
COVERAGES = (1.0, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


def _among(
    bootstrap: SpeakerBootstrap, labels: Tensor, right: Tensor, letters: Sequence[str], names: tuple[str, ...]
) -> Estimate | None:
    """Returns the accuracy over some letters; None if a model does not have all of them, or none was spoken."""
    if not set(letters) <= set(names):
        return None
    return bootstrap.fraction(right, torch.isin(labels, torch.tensor([names.index(letter) for letter in letters])))


def _macro_recall(bootstrap: SpeakerBootstrap, labels: Tensor, right: Tensor, count: int) -> Estimate:
    spoken = F.one_hot(labels, count)

    def mean(sums: Tensor) -> Tensor:
        return (sums[:, :count] / sums[:, count:]).nanmean(1)  # 0 / 0 if a letter was not drawn

    return bootstrap.estimate(torch.cat([spoken * right[:, None], spoken], 1), mean)


def _letters(
    bootstrap: SpeakerBootstrap, labels: Tensor, recognised: Tensor, names: tuple[str, ...]
) -> tuple[LetterScores, ...]:
    right = labels == recognised
    return tuple(
        LetterScores(
            letter=letter,
            spoken=int((labels == label).sum()),
            recognised=int((recognised == label).sum()),
            right=int((right & (labels == label)).sum()),
            recall=bootstrap.fraction(right, labels == label),
            precision=bootstrap.fraction(right, recognised == label),
        )
        for label, letter in enumerate(names)
    )


def reliability_bins(probability: Tensor, right: Tensor) -> tuple[ReliabilityBin, ...]:
    """Returns the accuracy by the probability of the most probable letter.

    Args:
        probability: [N] of the most probable letter.
        right: bool [N], whether it is the spoken one.
    """
    bin_index = _bin_of(probability)
    bins = []
    for number in range(NUM_BINS):
        here = bin_index == number
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
    bin_index = F.one_hot(_bin_of(probability), NUM_BINS).double()
    distance = bin_index * (probability.double() - right.double())[:, None]

    def error(sums: Tensor) -> Tensor:
        return sums[:, :NUM_BINS].abs().sum(1) / sums[:, NUM_BINS]

    return bootstrap.estimate(torch.cat([distance, torch.ones(len(right), 1)], 1), error)


def coverage_curve(probability: Tensor, right: Tensor) -> tuple[CoveragePoint, ...]:
    """Returns the accuracy of the most certain letters, for fractions of letters that are answered."""
    order = probability.argsort(descending=True, stable=True)
    sorted_right, count = right[order].double().cumsum(0), len(right)
    kept = [max(1, round(fraction * count)) for fraction in COVERAGES]
    return tuple(
        CoveragePoint(
            coverage=number / count,
            accuracy=sorted_right[number - 1].item() / number,
            reject_below=probability[order[number - 1]].item(),
        )
        for number in dict.fromkeys(kept)
    )


def answers(
    bootstrap: SpeakerBootstrap, probability: Tensor, right: Tensor, reject_below: float | None
) -> Answers | None:
    """Returns which fractions of letters are answered rightly, answered wrongly, and rejected.

    Args:
        bootstrap: of the letters' speakers.
        probability: [N] of the most probable letter.
        right: bool [N], whether it is the spoken one.
        reject_below: probability under which a letter is rejected; None if there are no answers to speak of.
    """
    if reject_below is None:
        return None
    rejected = probability < reject_below
    parts = (right & ~rejected, ~right & ~rejected, rejected, rejected & right)
    found = [bootstrap.fraction(part) for part in parts]
    counts = [int(part.sum()) for part in parts]
    answered_right, answered_wrong, declined, declined_right = (estimate for estimate in found if estimate is not None)
    return Answers(
        reject_below=reject_below,
        right=answered_right,
        wrong=answered_wrong,
        rejected=declined,
        rejected_right=declined_right,
        counts=(counts[0], counts[1], counts[2], counts[3]),
    )


def find_baseline(labels: Tensor, names: tuple[str, ...] = LETTERS) -> Baseline:
    """Returns what answering without listening achieves on labels int64 [N], whose names are given."""
    counts = torch.bincount(labels.cpu(), minlength=len(names))
    most = int(counts.argmax())
    return Baseline(
        chance=1 / len(names),
        letter=names[most],
        majority=int(counts[most]) / len(labels),
        num_letters=int((counts > 0).sum()),
        num_labels=len(names),
    )


def _groups(
    right: Tensor,
    probability: Tensor,
    reject_below: float | None,
    speakers: Sequence[str],
    groups: Mapping[str, Sequence[str | None]],
) -> tuple[Group, ...]:
    found = []
    for kind, names in {"speaker": speakers, **groups}.items():
        members: dict[str, list[int]] = {}
        for position, name in enumerate(names):
            if name is not None:
                members.setdefault(name, []).append(position)
        for name, positions in ((name, members[name]) for name in in_order(members)):
            bootstrap = SpeakerBootstrap([speakers[position] for position in positions])
            accuracy = bootstrap.fraction(right[positions])
            if accuracy is not None:
                people = len({speakers[position] for position in positions})
                of_group = answers(bootstrap, probability[positions], right[positions], reject_below)
                group = Group(
                    kind=kind,
                    name=name,
                    count=len(positions),
                    num_speakers=people,
                    accuracy=accuracy,
                    answers=of_group,
                )
                found.append(group)
    return tuple(found)


def count_confusions(labels: Tensor, recognised: Tensor, count: int) -> Tensor:
    """Returns how often each of `count` labels is recognised as each: int64 [count, count]."""
    return torch.bincount(labels * count + recognised, minlength=count**2).view(count, -1)


def score(
    logits: Tensor,
    labels: Tensor,
    speakers: Sequence[str],
    *,
    temperature: float = 1.0,
    reject_below: float | None = None,
    groups: Mapping[str, Sequence[str | None]] | None = None,
    ranked: bool = True,
    names: tuple[str, ...] = LETTERS,
) -> Scores:
    """Returns the scores of a classifier.

    Args:
        logits: float32 [N, L].
        labels: int64 [N].
        speakers: N names.
        temperature: divides the logits wherever probabilities are used.
        reject_below: probability under which a letter is rejected; None if nothing is to be said about rejection.
        groups: kind -> name of each utterance's group, N, None if it has none; speakers are added.
        ranked: whether logits give probabilities, and not only the recognised letter.
        names: of the L labels.
    """
    logits, labels = logits.cpu().double() / temperature, labels.cpu()
    recognised = logits.argmax(1)
    right = recognised == labels
    bootstrap = SpeakerBootstrap(speakers)
    accuracy = bootstrap.fraction(right)
    assert accuracy is not None
    confusion = count_confusions(labels, recognised, len(names))
    probability = logits.softmax(1).amax(1)
    of_groups = _groups(right, probability, reject_below if ranked else None, speakers, groups or {})
    top3 = loss = calibration_error = None
    if ranked:
        top3 = bootstrap.fraction((logits.topk(min(3, len(names))).indices == labels[:, None]).any(1))
        nats = F.cross_entropy(logits, labels, reduction="none")
        loss = bootstrap.mean(nats)
        calibration_error = _calibration_error(bootstrap, probability, right)
    return Scores(
        num_utterances=len(labels),
        num_speakers=len(set(speakers)),
        accuracy=accuracy,
        answers=answers(bootstrap, probability, right, reject_below if ranked else None),
        top3=top3,
        macro_recall=_macro_recall(bootstrap, labels, right, len(names)),
        e_set=_among(bootstrap, labels, right, E_SET, names),
        m_n=_among(bootstrap, labels, right, "MN", names),
        loss=loss,
        calibration_error=calibration_error,
        letters=_letters(bootstrap, labels, recognised, names),
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=reliability_bins(probability, right) if ranked else (),
        coverage=coverage_curve(probability, right) if ranked else (),
        groups=of_groups,
        gaps=find_gaps(of_groups, right, speakers, groups or {}),
    )


def find_mistakes(
    logits: Tensor,
    labels: Tensor,
    utterances: Sequence[Utterance],
    temperature: float,
    names: tuple[str, ...] = LETTERS,
) -> list[tuple[int, Mistake]]:
    """Returns the index and description of every utterance recognised as another letter, the most certain first.

    Args:
        logits: float32 [N, L].
        labels: int64 [N].
        utterances: N lines of a manifest.
        temperature: divides the logits.
        names: of the L labels.
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
                id=utterances[position].id,
                speaker=utterances[position].speaker,
                recording=utterances[position].recording,
                spoken=names[labels[position]],
                recognised=names[recognised[position]],
                probability=probability[position].item(),
                probability_of_spoken=of_spoken[position].item(),
            ),
        )
        for position in wrong.tolist()
    ]


def score_rejection(
    letters: Tensor, others: Tensor, kinds: Sequence[str], reject_below: float, temperature: float
) -> Rejection:
    """Scores how well a threshold on the probability of the most probable letter separates letters from non-letters.

    Args:
        letters: logits [N, L] of letters.
        others: logits [M, L] of non-letters.
        kinds: M names.
        reject_below: probability under which a recording is rejected.
        temperature: divides the logits.
    """
    of_letters, of_others = ((logits.cpu().double() / temperature).softmax(1).amax(1) for logits in (letters, others))
    where = {kind: torch.tensor([name == kind for name in kinds]) for kind in sorted(set(kinds))}
    at_rejected = of_letters.quantile(REJECTED)
    # The chance that a letter has a higher probability than a non-letter is the area under the ROC curve (Mann &
    # Whitney, 1947).
    ranks = torch.searchsorted(of_others.sort().values, of_letters)
    return Rejection(
        reject_below=reject_below,
        letters_declined=(of_letters < reject_below).double().mean().item(),
        others_declined=(of_others < reject_below).double().mean().item(),
        others_declined_at_5_percent=(of_others < at_rejected).double().mean().item(),
        roc_area=ranks.double().mean().item() / len(of_others),
        kinds=tuple(
            RejectedKind(
                name=kind, count=int(here.sum()), declined=(of_others[here] < reject_below).double().mean().item()
            )
            for kind, here in where.items()
        ),
    )
