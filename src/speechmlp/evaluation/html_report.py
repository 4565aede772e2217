"""Evaluation report as one self-contained page: the values that `templates/report.html.j2` shows.

Dimension key: `F` frames, `C` mel bands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.config.schema import Config, MelConfig
from speechmlp.evaluation.calibration import at_bound
from speechmlp.evaluation.captions import saliency_caption, spectrogram_caption
from speechmlp.evaluation.comparison import few_differences
from speechmlp.evaluation.gaps import ENOUGH_LETTERS, ENOUGH_SPEAKERS, by_accuracy, of_kind
from speechmlp.evaluation.html_examples import Example, example_card, saliency_picture
from speechmlp.evaluation.html_page import Picture, Table, draw, load_pyplot, render, shortened
from speechmlp.evaluation.results import Answers, Comparison, Estimate, Evaluation, Rejection, Scores
from speechmlp.evaluation.text import (
    accuracies_of_training,
    describe_answers,
    describe_threshold,
    format_baseline,
    gap_groups,
    gap_name,
    headlines,
    interval,
    percent,
    points,
)
from speechmlp.runs.history import EpochRecord

ANSWERED = ("answered right", "rejected")
"""Columns of what a user gets."""
MARKED = 40
"""Most epochs that are drawn as points too."""
LOWEST = 40
"""Groups of a kind that are drawn; the table has all."""


def _headlines(scores: Scores) -> Table:
    rows = [(line.name, line.show(found.value), line.interval(found)) for line, found in headlines(scores)]
    rows += [
        (f"{gap_name(gap)}: worst {gap.worst.name}, best {gap.best.name}", *_points(gap.difference))
        for gap in scores.gaps
    ]
    return Table(("score", "value", "95 % interval"), rows)


def _points(difference: Estimate) -> tuple[str, str]:
    value, low, high = (f"{100 * part:.2f}" for part in (difference.value, difference.low, difference.high))
    return f"{value} points", f"{low} to {high}"


def _meanings(scores: Scores) -> Table:
    rows = [(line.name, line.meaning) for line, _ in headlines(scores)]
    return Table(("score", "meaning"), rows, numbers=False)


def confusion_figure(scores: Scores) -> Any:
    """Returns a matplotlib figure of the confusion matrix, with its letters and counts.

    Raises:
        UserError: matplotlib is not installed.
    """
    plot = load_pyplot()
    counts = np.array(scores.confusion, dtype=float)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [shortened(letter.letter) for letter in scores.letters]
    side = max(7.0, 0.27 * len(names))
    figure, axes = plot.subplots(figsize=(side + 0.5, side), layout="constrained")
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        text = f"{int(counts[row, column])}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, parse_math=False, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel("recognised")
    axes.set_ylabel("spoken")
    return figure


def _confusion(scores: Scores) -> Picture:
    most = ", ".join(f"{spoken} as {recognised} {count} times" for spoken, recognised, count in scores.confusions(5))
    return draw(confusion_figure(scores), f"Confusion matrix. Most frequent mistakes: {most or 'none'}")


def _bars(names: Sequence[str], estimates: Sequence[Estimate], what: str) -> Picture:
    plot = load_pyplot()
    figure, axes = plot.subplots(figsize=(max(4.0, 0.34 * len(names) + 1), 3), layout="constrained")
    values = np.array([estimate.value for estimate in estimates])
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    # An interval need not contain its value if a resample rarely changes it.
    errors = np.stack([np.maximum(values - low, 0), np.maximum(high - values, 0)])
    axes.bar(range(len(names)), values, yerr=errors, color="#4878a8", ecolor="#555", capsize=2)
    shown = [shortened(name) for name in names]
    axes.set_xticks(range(len(names)), shown, parse_math=False, rotation=60 if max(map(len, names)) > 2 else 0)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(what)
    worst = min(range(len(names)), key=lambda index: values[index])
    return draw(figure, f"{what} by group; lowest: {names[worst]}, {percent(values[worst])}")


def _letters(scores: Scores) -> dict[str, Picture | Table]:
    def cell(estimate: Estimate | None) -> str:
        return f"{percent(estimate.value)} ({interval(estimate)})" if estimate else "–"

    spoken = [letter for letter in scores.letters if letter.recall is not None]
    recalls = [letter.recall for letter in spoken if letter.recall is not None]
    rows = [(letter.letter, str(letter.spoken), cell(letter.recall), cell(letter.precision)) for letter in spoken]
    return {
        "picture": _bars([letter.letter for letter in spoken], recalls, "recall"),
        "table": Table(("letter", "spoken", "recall", "precision"), rows),
    }


def _reliability(scores: Scores) -> dict[str, Any]:
    plot = load_pyplot()
    filled = [one for one in scores.reliability if one.probability is not None and one.accuracy is not None]
    figure, (left, right) = plot.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    left.plot([0, 1], [0, 1], color="#888", linewidth=1)
    sizes = [10 + 200 * one.count / scores.num_utterances for one in filled]
    left.scatter([one.probability for one in filled], [one.accuracy for one in filled], s=sizes, color="#4878a8")
    left.set_xlabel("probability")
    left.set_ylabel("accuracy")
    right.plot([p.coverage for p in scores.coverage], [p.accuracy for p in scores.coverage], "o-", color="#4878a8")
    if min(point.accuracy for point in scores.coverage) < 0.5:
        right.set_ylim(0, 1.02)  # small differences of a poor model mean nothing
    right.set_xlabel("fraction of letters answered")
    right.set_ylabel("accuracy of those")
    error = percent(scores.calibration_error.value) if scores.calibration_error else "unknown"
    description = f"Reliability: calibration error {error}. Coverage: accuracy if the least certain are rejected."
    rows = [(percent(p.coverage), percent(p.accuracy), f"{p.reject_below:.3f}") for p in scores.coverage]
    return {
        "picture": draw(figure, description),
        "error": error,
        "table": Table(("answered", "accuracy", "probability from"), rows),
    }


def _rejection(rejection: Rejection) -> dict[str, Any]:
    rows = [(kind.name, str(kind.count), percent(kind.declined)) for kind in rejection.kinds]
    return {"found": rejection, "table": Table(("non-letter", "recordings", "rejected"), rows)}


def _answered(answers: Answers | None) -> tuple[str, ...]:
    """Returns the cells of `ANSWERED`."""
    return (percent(answers.right.value), percent(answers.rejected.value)) if answers else ("", "")


def _groups(scores: Scores) -> list[dict[str, Any]]:
    found = []
    gaps = {gap.kind: gap for gap in scores.gaps}
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        enough, small = of_kind(scores, kind)
        groups = [group for group in scores.groups if group.kind == kind]
        if len(groups) < 2:
            continue
        rows = [
            (
                g.name,
                str(g.count),
                str(g.num_speakers),
                percent(g.accuracy.value),
                interval(g.accuracy),
                *_answered(g.answers),
            )
            for g in groups
        ]
        drawn = enough or groups
        cut = len(drawn) > LOWEST
        shown = by_accuracy(drawn)[:LOWEST] if cut else drawn
        found.append(
            {
                "kind": kind,
                "gap": f"Gap: {points(gaps[kind].difference)}: {gap_groups(gaps[kind])}" if kind in gaps else None,
                "small": [group.name for group in small] if enough else [],
                "lowest": len(shown) if cut else None,
                "picture": _bars([group.name for group in shown], [group.accuracy for group in shown], "accuracy"),
                "table": Table((kind, "letters", "speakers", "accuracy", "95 % interval", *ANSWERED), rows),
            }
        )
    return found


def _robustness(evaluation: Evaluation) -> dict[str, Picture | Table]:
    plot, clean = load_pyplot(), evaluation.scores.accuracy.value
    kinds = list(dict.fromkeys(point.kind for point in evaluation.robustness))
    drawn = [kind for kind in kinds if kind != "telephone"]
    figure, grid = plot.subplots(-(-len(drawn) // 3), 3, figsize=(9, 2.6 * -(-len(drawn) // 3)), layout="constrained")
    for axes, kind in zip(grid.flat, drawn, strict=True):
        points = [point for point in evaluation.robustness if point.kind == kind]
        levels = [point.level for point in points]
        axes.fill_between(
            levels, [p.accuracy.low for p in points], [p.accuracy.high for p in points], color="#4878a8", alpha=0.25
        )
        axes.plot(levels, [point.accuracy.value for point in points], "o-", color="#4878a8")
        axes.axhline(clean, color="#888", linewidth=1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(MEANINGS[kind], fontsize=8)
    rows = [
        (
            MEANINGS[point.kind],
            "" if point.kind == "telephone" else str(point.level),
            percent(point.accuracy.value),
            interval(point.accuracy),
            *_answered(point.answers),
        )
        for point in evaluation.robustness
    ]
    worst = min(evaluation.robustness, key=lambda point: point.accuracy.value)
    description = f"Accuracy by condition; lowest: {worst.condition}, {percent(worst.accuracy.value)}"
    return {
        "picture": draw(figure, description),
        "table": Table(("condition", "level", "accuracy", "95 % interval", *ANSWERED), rows),
    }


def _training(history: Sequence[EpochRecord], kept: int) -> dict[str, Picture | Table]:
    plot = load_pyplot()
    epochs = [record.epoch for record in history]
    measured = [record for record in history if record.train_accuracy is not None]
    figure, (left, right) = plot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    style = {"marker": "o", "markersize": 3} if len(epochs) <= MARKED else {}
    left.plot(epochs, [record.train_loss for record in history], label="training", **style)
    left.plot(epochs, [record.valid_loss for record in history], label="validation", **style)
    left.set_ylabel("loss, nats")
    if measured:
        known = [record.epoch for record in measured]
        right.plot(known, [record.train_accuracy for record in measured], label="training", **style)
    right.plot(epochs, [record.valid_accuracy for record in history], color="C1", label="validation", **style)
    right.set_ylabel("accuracy")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.axvline(kept, color="#888", linestyle="--", linewidth=1, label="these weights")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8)
    rows = [
        (
            f"{record.epoch}{' (these weights)' if record.epoch == kept else ''}",
            f"{record.train_loss:.4f}",
            f"{record.valid_loss:.4f}",
            "" if record.train_accuracy is None else percent(record.train_accuracy),
            percent(record.valid_accuracy),
        )
        for record in history
    ]
    head = ("epoch", "training loss", "validation loss", "training accuracy", "validation accuracy")
    last = history[-1]
    description = f"Loss and accuracy over {len(epochs)} epochs; the weights are those of epoch {kept}"
    if last.train_accuracy is not None:
        description += f"; in the end {percent(last.train_accuracy)} of the training letters"
    description += f"; in the end {percent(last.valid_accuracy)} of the validation letters"
    return {"picture": draw(figure, description), "table": Table(head, rows)}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    rows = [
        (item.speaker, item.recording, item.spoken, item.recognised, item.recognised_by_other)
        for item in comparison.changed
    ]
    return {
        "found": comparison,
        "few": few_differences(comparison),
        "points": [f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high)],
        "changed": Table(("speaker", "recording", "spoken", "recognised", "by the other"), rows, numbers=False),
    }


def render_report(
    evaluation: Evaluation,
    history: Sequence[EpochRecord],
    config: Config,
    examples: Sequence[Example],
    pictures: Mapping[str, Tensor],
) -> str:
    """Returns the page.

    Args:
        evaluation: all figures.
        history: the run's epochs.
        config: the model's, for captions.
        examples: mistakes to show, the most certain first.
        pictures: name of a label -> mean saliency [F, C]; may be empty.

    Raises:
        UserError: matplotlib is not installed.
    """
    scores, front_end, audio = evaluation.scores, config.front_end, config.input.audio
    known = accuracies_of_training(evaluation)
    of_other = evaluation.comparison.answers_of_other if evaluation.comparison else None
    return render(
        "report.html.j2",
        title="Spoken letters: evaluation",
        evaluation=evaluation,
        scores=scores,
        headlines=_headlines(scores),
        meanings=_meanings(scores),
        comparison=_comparison(evaluation.comparison) if evaluation.comparison else None,
        confusion=_confusion(scores),
        letters=_letters(scores),
        reliability=_reliability(scores) if scores.reliability else None,
        rejection=_rejection(evaluation.rejection) if evaluation.rejection else None,
        saliency=saliency_picture(pictures) if pictures else None,
        captions={
            "spectrogram": spectrogram_caption(front_end, audio),
            "saliency": saliency_caption(front_end, audio) if isinstance(front_end, MelConfig) else None,
            "lower": any(example.saliency is not None for example in examples),
        },
        groups=_groups(scores),
        enough=(ENOUGH_LETTERS, ENOUGH_SPEAKERS),
        robustness=_robustness(evaluation) if evaluation.robustness else None,
        training=_training(history, evaluation.training.epoch) if history and evaluation.training else None,
        answers=describe_answers(scores.answers) if scores.answers else None,
        other_answers=describe_answers(of_other) if of_other else None,
        baseline=format_baseline(evaluation.baseline, *known) if evaluation.baseline else None,
        non_letters=describe_threshold(evaluation),
        at_bound=at_bound(evaluation.temperature),
        examples=[example_card(example) for example in examples],
    )
