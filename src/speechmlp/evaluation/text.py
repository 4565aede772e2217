"""Scores as text for people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.evaluation.results import Comparison, Estimate, Evaluation, Rejection, Robustness, Scores
from speechmlp.labels import E_SET


def percent(fraction: float) -> str:
    """Returns a fraction as in `94.43%`."""
    return f"{100 * fraction:.2f}%"


def interval(estimate: Estimate) -> str:
    """Returns the 95 % interval of a fraction as in `92.10% to 96.61%`."""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def nats(loss: float) -> str:
    """Returns a loss as in `0.2817`."""
    return f"{loss:.4f}"


@dataclass(frozen=True)
class Headline:
    """A score that is reported at the top, in text, page and model card alike.

    Attributes:
        name: what people read.
        field: of `Scores`, and so of the JSON.
        show: makes a value text.
    """

    name: str
    field: str
    show: Callable[[float], str] = percent

    def of(self, scores: Scores) -> Estimate | None:
        """Returns the score; None if the classifier or the utterances do not give it."""
        return getattr(scores, self.field)  # type: ignore[no-any-return]

    def interval(self, estimate: Estimate) -> str:
        """Returns the ends of the 95 % interval, as in `92.10% to 96.61%`."""
        return f"{self.show(estimate.low)} to {self.show(estimate.high)}"


HEADLINES = (
    Headline("Accuracy", "accuracy"),
    Headline("Top-3 accuracy", "top3"),
    Headline("Macro recall", "macro_recall"),
    Headline(f"E-set accuracy ({' '.join(E_SET)})", "e_set"),
    Headline("M/N accuracy", "m_n"),
    Headline("Calibration error", "calibration_error"),
    Headline("Loss", "loss", nats),
)
"""In the order of reports. A new score is a field of `Scores` and a line here."""


def headlines(scores: Scores) -> list[tuple[Headline, Estimate]]:
    """Returns the headline scores that there are."""
    found = ((headline, headline.of(scores)) for headline in HEADLINES)
    return [(headline, estimate) for headline, estimate in found if estimate is not None]


def format_scores(scores: Scores) -> str:
    """Returns the scores as lines of text; the first is `Accuracy: 88.86%` with its interval."""
    lines = []
    for headline, estimate in headlines(scores):
        how = f", {estimate.method}" if headline.field == "accuracy" else ""
        shown = headline.show(estimate.value)
        lines.append(f"{headline.name}: {shown} (95% interval {headline.interval(estimate)}{how})")
    plural = "s" if scores.num_speakers != 1 else ""
    lines.append(f"Utterances: {scores.num_utterances} of {scores.num_speakers} speaker{plural}")
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        if (gap := scores.gap(kind)) is not None:
            worst, best = (f"{group.name} {percent(group.accuracy.value)} of {group.count}" for group in gap)
            lines.append(f"By {kind}: worst {worst}, best {best}")
    letters = [
        f"{letter.letter} {100 * letter.recall.value:5.1f}% ({letter.right}/{letter.spoken})"
        for letter in scores.letters
        if letter.recall is not None
    ]
    lines.append("Letters:")
    lines += [
        "  " + "".join(f"{text:<22}" for text in letters[row : row + 4]).rstrip() for row in range(0, len(letters), 4)
    ]
    if confusions := scores.confusions():
        lines.append("Most frequent confusions (spoken -> recognised):")
        lines.append("  " + ", ".join(f"{spoken} -> {recognised} {count}x" for spoken, recognised, count in confusions))
    return "\n".join(lines)


def format_rejection(rejection: Rejection) -> str:
    """Returns the scores of rejection as lines of text."""
    kinds = ", ".join(f"{kind.name} {percent(kind.declined)} of {kind.count}" for kind in rejection.kinds)
    return "\n".join(
        [
            f"Rejected below a probability of {rejection.reject_below:.3f}: "
            f"{percent(rejection.letters_declined)} of the letters, "
            f"{percent(rejection.others_declined)} of the non-letters",
            f"  {kinds}",
            f"  if 5% of the letters are rejected: {percent(rejection.others_declined_at_5_percent)}; "
            f"area under the ROC curve: {rejection.roc_area:.4f}",
        ]
    )


def format_comparison(comparison: Comparison) -> str:
    """Returns the difference from another classifier as lines of text."""
    difference = comparison.difference
    points, low, high = (f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high))
    return "\n".join(
        [
            f"Compared with {comparison.other}: {points} points (95% interval {low} to {high})",
            f"  only this one right: {comparison.only_first}, only the other: {comparison.only_second}, "
            f"exact McNemar test: p = {comparison.p_value:.4f}; {len(comparison.changed)} letters changed",
        ]
    )


def format_robustness(robustness: Sequence[Robustness]) -> str:
    """Returns accuracies over levels as lines of text, one line for each kind of condition."""
    lines = ["Listening conditions:"]
    for kind in dict.fromkeys(point.kind for point in robustness):
        points = [point for point in robustness if point.kind == kind]
        levels = [f"{point.level}: {percent(point.accuracy.value)}" for point in points]
        found = ", ".join(levels) if kind != "telephone" else percent(points[0].accuracy.value)
        lines.append(f"  {MEANINGS[kind]}: {found}")
    return "\n".join(lines)


def format_evaluation(evaluation: Evaluation) -> str:
    """Returns all that an evaluation found as lines of text."""
    parts = [format_scores(evaluation.scores)]
    if evaluation.robustness:
        parts.append(format_robustness(evaluation.robustness))
    if evaluation.comparison is not None:
        parts.append(format_comparison(evaluation.comparison))
    if evaluation.rejection is not None:
        parts.append(format_rejection(evaluation.rejection))
    return "\n".join(parts)
