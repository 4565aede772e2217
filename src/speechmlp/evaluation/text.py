"""Scores as text for people."""

from collections.abc import Sequence

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.evaluation.results import Comparison, Estimate, Evaluation, Rejection, Robustness, Scores
from speechmlp.labels import E_SET


def percent(share: float) -> str:
    """Returns a share as in `94.43%`."""
    return f"{100 * share:.2f}%"


def _with_interval(name: str, estimate: Estimate, method: bool = False) -> str:
    how = f", {estimate.method}" if method else ""
    return f"{name}: {percent(estimate.value)} (95% interval {percent(estimate.low)} to {percent(estimate.high)}{how})"


def format_scores(scores: Scores) -> str:
    """Returns the scores as lines of text; the first is `Accuracy: 88.86%` with its interval."""
    lines = [_with_interval("Accuracy", scores.accuracy, method=True)]
    shares = {
        "Top-3 accuracy": scores.top3,
        "Macro recall": scores.macro_recall,
        f"E-set accuracy ({' '.join(E_SET)})": scores.e_set,
        "M/N accuracy": scores.m_n,
        "Calibration error": scores.calibration_error,
    }
    lines += [_with_interval(name, estimate) for name, estimate in shares.items() if estimate is not None]
    if scores.loss is not None:
        lines.append(f"Loss: {scores.loss.value:.4f} (95% interval {scores.loss.low:.4f} to {scores.loss.high:.4f})")
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
        lines.append("  " + ", ".join(f"{spoken} -> {heard} {count}x" for spoken, heard, count in confusions))
    return "\n".join(lines)


def format_rejection(rejection: Rejection) -> str:
    """Returns what becomes of recordings without a letter as lines of text."""
    kinds = ", ".join(f"{kind.name} {percent(kind.declined)} of {kind.count}" for kind in rejection.kinds)
    return "\n".join(
        [
            f"Declined under a probability of {rejection.reject_below:.3f}: "
            f"{percent(rejection.letters_declined)} of the letters, {percent(rejection.others_declined)} of the rest",
            f"  {kinds}",
            f"  where 5% of the letters are declined: {percent(rejection.others_declined_at_5_percent)}; "
            f"area under the ROC curve: {rejection.roc_area:.4f}",
        ]
    )


def format_comparison(comparison: Comparison) -> str:
    """Returns the difference from another classifier as lines of text."""
    difference = comparison.difference
    points, low, high = (f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high))
    return "\n".join(
        [
            f"Against {comparison.other}: {points} points (95% interval {low} to {high})",
            f"  right here only: {comparison.only_first}, right there only: {comparison.only_second}, "
            f"exact McNemar test: p = {comparison.p_value:.4f}; {len(comparison.changed)} letters changed",
        ]
    )


def format_robustness(robustness: Sequence[Robustness]) -> str:
    """Returns accuracies over levels as lines of text, one a kind of condition."""
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
