"""Evaluation report as one self-contained page: the values that `templates/report.html.j2` shows.

Dimension key: `F` frames, `C` mel bands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.evaluation.html_examples import Example, example_card, saliency_picture
from speechmlp.evaluation.html_page import Picture, Table, draw, render
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.evaluation.results import Comparison, Estimate, Evaluation, Rejection, Scores
from speechmlp.evaluation.text import headlines, interval, percent
from speechmlp.labels import LETTERS
from speechmlp.runs.history import EpochRecord

LOWEST = 40
"""Groups of a kind that are drawn; the table has all."""


def _headlines(scores: Scores) -> Table:
    rows = [(line.name, line.show(found.value), line.interval(found)) for line, found in headlines(scores)]
    return Table(("score", "value", "95 % interval"), rows)


def _confusion(scores: Scores) -> Picture:
    plot = load_pyplot()
    counts = np.array(scores.confusion, dtype=float)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plot.subplots(figsize=(7.5, 7), layout="constrained")
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        text = f"{int(counts[row, column])}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(26), LETTERS)
    axes.set_yticks(range(26), LETTERS)
    axes.set_xlabel("recognised")
    axes.set_ylabel("spoken")
    most = ", ".join(f"{spoken} as {recognised} {count} times" for spoken, recognised, count in scores.confusions(5))
    return draw(figure, f"Confusion matrix. Most frequent mistakes: {most or 'none'}")


def _bars(names: Sequence[str], estimates: Sequence[Estimate], what: str) -> Picture:
    plot = load_pyplot()
    figure, axes = plot.subplots(figsize=(max(4.0, 0.34 * len(names) + 1), 3), layout="constrained")
    values = np.array([estimate.value for estimate in estimates])
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    # An interval need not contain its value if a resample rarely changes it.
    errors = np.stack([np.maximum(values - low, 0), np.maximum(high - values, 0)])
    axes.bar(names, values, yerr=errors, color="#4878a8", ecolor="#555", capsize=2)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(what)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", rotation=60)
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


def _groups(scores: Scores) -> list[dict[str, Any]]:
    found = []
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        groups = [group for group in scores.groups if group.kind == kind]
        gap = scores.gap(kind)
        if gap is None:
            continue
        worst, best = gap
        rows = [(g.name, str(g.count), percent(g.accuracy.value), interval(g.accuracy)) for g in groups]
        cut = len(groups) > LOWEST
        shown = sorted(groups, key=lambda group: group.accuracy.value)[:LOWEST] if cut else groups
        found.append(
            {
                "kind": kind,
                "points": f"{100 * (best.accuracy.value - worst.accuracy.value):.1f}",
                "worst": worst.name,
                "best": best.name,
                "lowest": len(shown) if cut else None,
                "picture": _bars([group.name for group in shown], [group.accuracy for group in shown], "accuracy"),
                "table": Table((kind, "letters", "accuracy", "95 % interval"), rows),
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
        )
        for point in evaluation.robustness
    ]
    worst = min(evaluation.robustness, key=lambda point: point.accuracy.value)
    description = f"Accuracy by condition; lowest: {worst.condition}, {percent(worst.accuracy.value)}"
    return {
        "picture": draw(figure, description),
        "table": Table(("condition", "level", "accuracy", "95 % interval"), rows),
    }


def _training(history: Sequence[EpochRecord]) -> Picture:
    plot = load_pyplot()
    epochs = [record.epoch for record in history]
    figure, (left, right) = plot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(epochs, [record.train_loss for record in history], label="training")
    left.plot(epochs, [record.valid_loss for record in history], label="validation")
    left.set_ylabel("loss, nats")
    left.legend()
    right.plot(epochs, [record.valid_accuracy for record in history], color="C1")
    right.set_ylabel("validation accuracy")
    for axes in (left, right):
        axes.set_xlabel("epoch")
    return draw(figure, f"Loss and validation accuracy over {len(epochs)} epochs")


def _comparison(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    rows = [(item.id, item.spoken, item.recognised, item.recognised_by_other) for item in comparison.changed]
    return {
        "found": comparison,
        "points": [f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high)],
        "changed": Table(("utterance", "spoken", "recognised", "by the other"), rows),
    }


def render_report(
    evaluation: Evaluation,
    history: Sequence[EpochRecord],
    examples: Sequence[Example],
    pictures: Mapping[int, Tensor],
) -> str:
    """Returns the page.

    Args:
        evaluation: all figures.
        history: the run's epochs.
        examples: mistakes to show, the most certain first.
        pictures: label -> mean saliency [F, C]; may be empty.

    Raises:
        UserError: matplotlib is not installed.
    """
    scores = evaluation.scores
    return render(
        "report.html.j2",
        title="Spoken letters: evaluation",
        evaluation=evaluation,
        scores=scores,
        headlines=_headlines(scores),
        comparison=_comparison(evaluation.comparison) if evaluation.comparison else None,
        confusion=_confusion(scores),
        letters=_letters(scores),
        reliability=_reliability(scores) if scores.reliability else None,
        rejection=_rejection(evaluation.rejection) if evaluation.rejection else None,
        saliency=saliency_picture(pictures) if pictures else None,
        groups=_groups(scores),
        robustness=_robustness(evaluation) if evaluation.robustness else None,
        training=_training(history) if history else None,
        examples=[example_card(example) for example in examples],
    )
