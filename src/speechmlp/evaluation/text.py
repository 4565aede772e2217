"""Scores as text for people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.evaluation.calibration import at_bound
from speechmlp.evaluation.comparison import few_differences
from speechmlp.evaluation.gaps import SPEAKER, by_accuracy, of_kind
from speechmlp.evaluation.results import (
    Answers,
    Baseline,
    Comparison,
    Estimate,
    Evaluation,
    Gap,
    Group,
    Mistake,
    Rejection,
    Robustness,
    Scores,
)
from speechmlp.labels import E_SET
from speechmlp.runs.history import Calibration

MOST_GROUPS = 12
"""Groups of a kind in a line of text."""
MOST_MISTAKES = 10
"""Mistakes in the text."""


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
    """A score that is reported at the top, in text, page, TensorBoard and model card.

    Attributes:
        name: what people read.
        field: of `Scores`, and so of the JSON; `answers.right` is a field of a field.
        show: makes a value text.
    """

    name: str
    field: str
    show: Callable[[float], str] = percent

    def of(self, scores: Scores) -> Estimate | None:
        """Returns the score; None if the classifier or the utterances do not give it."""
        found: Any = scores
        for name in self.field.split("."):
            found = None if found is None else getattr(found, name)
        return found  # type: ignore[no-any-return]

    @property
    def meaning(self) -> str:
        """What the score is."""
        first, _, second = self.field.partition(".")
        fields = Answers.model_fields if second else Scores.model_fields
        return fields[second or first].description or ""

    def interval(self, estimate: Estimate) -> str:
        """Returns the ends of the 95 % interval, as in `92.10% to 96.61%`."""
        return f"{self.show(estimate.low)} to {self.show(estimate.high)}"


HEADLINES = (
    Headline("Accuracy", "accuracy"),
    Headline("Answered right", "answers.right"),
    Headline("Answered wrong", "answers.wrong"),
    Headline("Rejected", "answers.rejected"),
    Headline("Rejected, though ranked right", "answers.rejected_right"),
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


def gap_name(gap: Gap) -> str:
    """Returns the name of a gap among the headlines."""
    return f"Gap by {gap.kind}"


def points(difference: Estimate) -> str:
    """Returns a difference of fractions as in `13.00 points (95% interval -2.10 to 25.30, bootstrap over 11 speakers)`.

    The method is that of the interval.
    """
    value, low, high = (f"{100 * part:.2f}" for part in (difference.value, difference.low, difference.high))
    return f"{value} points (95% interval {low} to {high}, {difference.method})"


def gap_groups(gap: Gap) -> str:
    """Returns both groups of a gap as in `worst indian 82.24% of 107, best american 95.24% of 21`."""
    return f"worst {_group(gap.worst)}, best {_group(gap.best)}"


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _group(group: Group, note: str = "") -> str:
    rejected = f"{100 * group.answers.rejected.value:.0f}% rejected" if group.answers else ""
    notes = "; ".join(filter(None, (rejected, note)))
    return f"{group.name} {percent(group.accuracy.value)} of {group.count}" + (f" ({notes})" if notes else "")


def _group_lines(scores: Scores) -> list[str]:
    """Returns a line for each kind of groups: those that can be compared, and then those that are too small."""
    lines = []
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        enough, small = of_kind(scores, kind)
        if kind == SPEAKER:
            if len(enough) > 1:
                worst, *_, best = map(_group, by_accuracy(enough))
                lines.append(f"By {kind}: worst {worst}, best {best}")
            continue
        few = [_group(group, _count(group.num_speakers, "speaker")) for group in small[:MOST_GROUPS]]
        parts = [", ".join(map(_group, enough[:MOST_GROUPS]))] if enough else []
        parts += [f"too few to compare: {', '.join(few)}"] if few else []
        if hidden := sum(max(0, len(groups) - MOST_GROUPS) for groups in (enough, small)):
            parts.append(f"{hidden} more in --json and --report")
        lines.append(f"By {kind}: {'; '.join(parts)}")
    return lines


def describe_answers(answers: Answers) -> str:
    """Returns the answers as text, with how many of the rejected letters were ranked right."""
    right, wrong, rejected, rejected_right = answers.counts
    if not answers.reject_below:
        return f"{right} right, {wrong} wrong; none is rejected, as the model has no threshold"
    return (
        f"{right} right, {wrong} wrong, {rejected} rejected below a probability of {answers.reject_below:.3f}, "
        f"{rejected_right} of them ranked right"
    )


def format_calibration(temperature: float, reject_below: float, calibration: Calibration) -> list[str]:
    """Returns lines about temperature and threshold, and what they lead to where they were fitted."""
    of, why = calibration, at_bound(temperature)
    others = (
        f"; of {of.others} non-letters {percent(of.others_rejected)} are rejected"
        if of.others_rejected is not None
        else "; no non-letters were there to measure how many of them it rejects"
    )
    return [
        f"Temperature: {temperature:.3f}, fitted on the {of.on}{f', {why}' if why else ''}",
        f"Rejects below a probability of {reject_below:.3f}: of the {of.letters} {of.on} {percent(of.right)} are "
        f"answered right, {percent(of.wrong)} wrong, {percent(of.rejected)} rejected "
        f"({percent(of.rejected_right)} although ranked right){others}",
    ]


def format_baseline(
    baseline: Baseline, train_accuracy: float | None = None, valid_accuracy: float | None = None
) -> str:
    """Returns a line with what an accuracy is compared with."""
    parts = [f"always {baseline.letter} {percent(baseline.majority)}", f"chance {percent(baseline.chance)}"]
    if train_accuracy is not None:
        parts.append(f"training letters {percent(train_accuracy)}")
    if valid_accuracy is not None:
        parts.append(f"validation letters {percent(valid_accuracy)}")
    return f"For comparison: {', '.join(parts)}"


def format_scores(scores: Scores) -> str:
    """Returns the scores as lines of text; the first is `Accuracy: 88.86%` with its interval."""
    lines = []
    for headline, estimate in headlines(scores):
        how = f", {estimate.method}" if headline.field == "accuracy" else ""
        shown = headline.show(estimate.value)
        lines.append(f"{headline.name}: {shown} (95% interval {headline.interval(estimate)}{how})")
    lines += [f"{gap_name(gap)}: {points(gap.difference)}; {gap_groups(gap)}" for gap in scores.gaps]
    lines.append(f"Utterances: {scores.num_utterances} of {_count(scores.num_speakers, 'speaker')}")
    if scores.answers is not None:
        lines.append(f"Answers: {describe_answers(scores.answers)}")
    lines += _group_lines(scores)
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
    difference, others = comparison.difference, comparison.answers_of_other
    points, low, high = (f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high))
    few = few_differences(comparison)
    return "\n".join(
        [
            f"Compared with {comparison.other}: {points} points (95% interval {low} to {high})",
            f"  only this one right: {comparison.only_first}, only the other: {comparison.only_second}, "
            f"exact McNemar test: p = {comparison.p_value:.4f}; {len(comparison.changed)} letters changed",
            *([f"  {few}"] if few else []),
            *([f"  answers of the other: {describe_answers(others)}"] if others is not None else ()),
        ]
    )


def _brief(answers: Answers | None) -> str:
    return f" ({100 * answers.right.value:.0f}, {100 * answers.rejected.value:.0f})" if answers else ""


def format_robustness(robustness: Sequence[Robustness]) -> str:
    """Returns accuracies over levels as lines of text, one line for each kind of condition."""
    lines = [f"Listening conditions{': accuracy (answered right, rejected)' if robustness[0].answers else ''}:"]
    for kind in dict.fromkeys(point.kind for point in robustness):
        points = [point for point in robustness if point.kind == kind]
        levels = [
            f"{f'{point.level}: ' if kind != 'telephone' else ''}{percent(point.accuracy.value)}{_brief(point.answers)}"
            for point in points
        ]
        found = ", ".join(levels)
        lines.append(f"  {MEANINGS[kind]}: {found}")
    return "\n".join(lines)


def format_mistakes(mistakes: Sequence[Mistake]) -> str:
    """Returns the most certain mistakes as lines of text, each with speaker and recording."""
    more = f", {MOST_MISTAKES} of {len(mistakes)}" if len(mistakes) > MOST_MISTAKES else ""
    return "\n".join(
        [
            f"Most certain mistakes{more} (spoken -> recognised, with its probability):",
            *(
                f"  {one.spoken} -> {one.recognised} {percent(one.probability)}  {one.speaker}  {one.recording}"
                for one in mistakes[:MOST_MISTAKES]
            ),
        ]
    )


def format_known(trained_on: int, count: int) -> str:
    """Returns a line about letters that the model was trained on."""
    return f"Trained on: {trained_on} of these {count} letters, so the accuracy says less about others"


def accuracies_of_training(evaluation: Evaluation) -> tuple[float | None, float | None]:
    """Returns the accuracies on training and validation letters; None if unknown, or if they are these letters."""
    run = evaluation.training
    if run is None:
        return None, None
    return run.train_accuracy, None if evaluation.split == "valid" else run.valid_accuracy


def describe_threshold(evaluation: Evaluation) -> str | None:
    """Returns what is known of the non-letters that the threshold rejects, if none were given; None if they were."""
    of, answers = evaluation.calibration, evaluation.scores.answers
    if evaluation.rejection is not None or answers is None or not answers.reject_below:
        return None
    if of is None or of.others_rejected is None:
        return "none were given; --negatives FILE measures how many of them the threshold rejects"
    return f"none were given; of {of.others} with the {of.on} {percent(of.others_rejected)} are rejected"


def format_evaluation(evaluation: Evaluation) -> str:
    """Returns all that an evaluation found as lines of text."""
    first, *others = format_scores(evaluation.scores).split("\n")
    parts = [first]
    if evaluation.baseline is not None:
        parts.append(format_baseline(evaluation.baseline, *accuracies_of_training(evaluation)))
    if evaluation.trained_on:
        parts.append(format_known(evaluation.trained_on, evaluation.scores.num_utterances))
    if evaluation.advice is not None:
        parts.append(f"What this means: {evaluation.advice}")
    parts += others
    if evaluation.mistakes:
        parts.append(format_mistakes(evaluation.mistakes))
    if evaluation.robustness:
        parts.append(format_robustness(evaluation.robustness))
    if evaluation.comparison is not None:
        parts.append(format_comparison(evaluation.comparison))
    if evaluation.rejection is not None:
        parts.append(format_rejection(evaluation.rejection))
    elif (found := describe_threshold(evaluation)) is not None:
        parts.append(f"Non-letters: {found}")
    return "\n".join(parts)
