"""The evaluation as one self-contained page: pictures and sounds inside, nothing loaded from elsewhere.

Dimension key: `F` frames, `C` mel bands.
"""

import html
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from speechmlp.audio.condition_names import MEANINGS
from speechmlp.evaluation import pages
from speechmlp.evaluation.html_examples import Example, render_example, render_pictures
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.evaluation.results import Comparison, Estimate, Evaluation, Rejection, Scores
from speechmlp.evaluation.text import percent
from speechmlp.labels import E_SET, LETTERS
from speechmlp.runs.history import EpochRecord


def _interval(estimate: Estimate) -> str:
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def _scores_table(scores: Scores) -> str:
    named = {
        "Accuracy": scores.accuracy,
        "Top-3 accuracy": scores.top3,
        "Macro recall": scores.macro_recall,
        f"E-set ({' '.join(E_SET)})": scores.e_set,
        "M and N": scores.m_n,
        "Calibration error": scores.calibration_error,
    }
    rows = [(name, percent(e.value), _interval(e)) for name, e in named.items() if e is not None]
    if scores.loss is not None:
        loss = scores.loss
        rows.append(("Loss, nats", f"{loss.value:.4f}", f"{loss.low:.4f} to {loss.high:.4f}"))
    return pages.table(("score", "value", "95 % interval"), rows)


def _confusion(scores: Scores) -> str:
    plot = load_pyplot()
    counts = np.array(scores.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plot.subplots(figsize=(7.5, 7), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{int(counts[row, column])}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(26), LETTERS)
    axes.set_yticks(range(26), LETTERS)
    axes.set_xlabel("recognised")
    axes.set_ylabel("spoken")
    most = ", ".join(f"{spoken} as {heard} {count} times" for spoken, heard, count in scores.confusions(5))
    picture = pages.picture(figure, f"Confusion matrix. Most frequent mistakes: {most or 'none'}")
    return pages.captioned(picture, "Counts by letter")


def _bars(names: Sequence[str], estimates: Sequence[Estimate], what: str) -> str:
    plot = load_pyplot()
    figure, axes = plot.subplots(figsize=(max(4.0, 0.34 * len(names) + 1), 3), layout="constrained")
    values = np.array([estimate.value for estimate in estimates])
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    # An interval need not hold its value where a resample rarely changes it.
    errors = np.stack([np.maximum(values - low, 0), np.maximum(high - values, 0)])
    axes.bar(names, values, yerr=errors, color="#4878a8", ecolor="#555", capsize=2)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(what)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", rotation=60)
    worst = min(range(len(names)), key=lambda place: values[place])
    return pages.picture(figure, f"{what} by group; lowest: {names[worst]}, {percent(values[worst])}")


def _letters(scores: Scores) -> str:
    spoken = [letter for letter in scores.letters if letter.recall is not None]
    recalls = [letter.recall for letter in spoken if letter.recall is not None]
    rows = [
        (
            letter.letter,
            str(letter.spoken),
            f"{percent(letter.recall.value)} ({_interval(letter.recall)})" if letter.recall else "–",
            f"{percent(letter.precision.value)} ({_interval(letter.precision)})" if letter.precision else "–",
        )
        for letter in spoken
    ]
    table = pages.table(("letter", "spoken", "recall", "precision"), rows)
    picture = _bars([letter.letter for letter in spoken], recalls, "recall")
    shown = pages.captioned(picture, "Recall with 95 % intervals")
    return f"{shown}<details><summary>As a table</summary>{table}</details>"


def _reliability(evaluation: Evaluation) -> str:
    scores, plot = evaluation.scores, load_pyplot()
    filled = [place for place in scores.reliability if place.probability is not None and place.accuracy is not None]
    figure, (left, right) = plot.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    left.plot([0, 1], [0, 1], color="#888", linewidth=1)
    sizes = [10 + 200 * place.count / scores.num_utterances for place in filled]
    left.scatter([p.probability for p in filled], [p.accuracy for p in filled], s=sizes, color="#4878a8")
    left.set_xlabel("probability")
    left.set_ylabel("accuracy")
    right.plot([p.coverage for p in scores.coverage], [p.accuracy for p in scores.coverage], "o-", color="#4878a8")
    right.set_xlabel("share of letters answered")
    right.set_ylabel("accuracy of those")
    error = percent(scores.calibration_error.value) if scores.calibration_error else "unknown"
    description = f"Reliability: calibration error {error}. Coverage: accuracy when the least certain are declined."
    rows = [(percent(p.coverage), percent(p.accuracy), f"{p.reject_below:.3f}") for p in scores.coverage]
    table = pages.table(("answered", "accuracy", "probability from"), rows)
    caption = f"Left: is it as often right as it says? Right: declining the least certain. Temperature {{}}: {error}"
    picture = pages.picture(figure, description)
    return (
        pages.captioned(picture, caption.format(f"{evaluation.temperature:.3f}, calibration error"))
        + f"<details><summary>Coverage as a table</summary>{table}</details>"
    )


def _rejection(rejection: Rejection) -> str:
    rows = [(kind.name, str(kind.count), percent(kind.declined)) for kind in rejection.kinds]
    return (
        f"<p>Where the most probable letter has less than {rejection.reject_below:.3f}, none is named: so it is with "
        f"{percent(rejection.letters_declined)} of these letters and {percent(rejection.others_declined)} of the "
        "recordings that hold no letter. Where 5 % of the letters are declined, "
        f"{percent(rejection.others_declined_at_5_percent)} of the latter are; the chance that a letter is surer than "
        f"one of them is {percent(rejection.roc_area)}.</p>"
        f"{pages.table(('no letter', 'recordings', 'declined'), rows)}"
    )


def _groups(scores: Scores) -> str:
    parts = []
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        groups = [group for group in scores.groups if group.kind == kind]
        gap = scores.gap(kind)
        if gap is None:
            continue
        difference = f"{100 * (gap[1].accuracy.value - gap[0].accuracy.value):.1f} points"
        heading = f"By {kind}: {difference} between {gap[0].name} and {gap[1].name}"
        rows = [(g.name, str(g.count), percent(g.accuracy.value), _interval(g.accuracy)) for g in groups]
        shown = groups if len(groups) <= 40 else sorted(groups, key=lambda group: group.accuracy.value)[:40]
        picture = _bars([group.name for group in shown], [group.accuracy for group in shown], "accuracy")
        table = pages.table((kind, "letters", "accuracy", "95 % interval"), rows)
        what = "Accuracy with 95 % intervals" + ("" if len(shown) == len(groups) else ", the 40 lowest")
        parts.append(f"<h3>{html.escape(heading)}</h3>{pages.captioned(picture, what)}")
        parts.append(f"<details><summary>As a table</summary>{table}</details>")
    return "".join(parts)


def _robustness(evaluation: Evaluation) -> str:
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
            _interval(point.accuracy),
        )
        for point in evaluation.robustness
    ]
    table = pages.table(("condition", "level", "accuracy", "95 % interval"), rows)
    worst = min(evaluation.robustness, key=lambda point: point.accuracy.value)
    picture = pages.picture(
        figure, f"Accuracy by condition; lowest: {worst.condition}, {percent(worst.accuracy.value)}"
    )
    return (
        f"{pages.captioned(picture, 'Accuracy with 95 % intervals; the grey line is the accuracy above.')}"
        f"<details><summary>As a table, with the telephone</summary>{table}</details>"
    )


def _learning(history: Sequence[EpochRecord]) -> str:
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
    return pages.captioned(
        pages.picture(figure, f"Loss and validation accuracy over {len(epochs)} epochs"),
        "The training loss is measured while learning, with augmentation, dropout and smoothed labels.",
    )


def _compared(comparison: Comparison) -> str:
    difference = comparison.difference
    points = [f"{100 * value:+.2f}" for value in (difference.value, difference.low, difference.high)]
    rows = [(item.id, item.spoken, item.recognised, item.recognised_by_other) for item in comparison.changed]
    table = pages.table(("utterance", "spoken", "recognised", "by the other"), rows)
    return (
        f"<h2>Against {html.escape(comparison.other)}</h2>"
        f"<p>{points[0]} points of accuracy, 95 % interval {points[1]} to {points[2]}. Only this one recognises "
        f"{comparison.only_first} letters, only the other {comparison.only_second}; exact McNemar test: "
        f"p = {comparison.p_value:.4f}.</p>"
        f"<details><summary>{len(rows)} letters that changed</summary>{table}</details>"
    )


def render_report(
    evaluation: Evaluation,
    history: Sequence[EpochRecord],
    examples: Sequence[Example],
    pictures: Mapping[int, Tensor],
) -> str:
    """Returns the page.

    Args:
        evaluation: everything that is said in figures.
        history: the run's epochs.
        examples: mistakes to show, worst first.
        pictures: label -> mean saliency [F, C]; may be empty.

    Raises:
        UserError: matplotlib is not installed.
    """
    scores = evaluation.scores
    split = f"split {evaluation.split}" if evaluation.split else "every utterance"
    condition = "" if evaluation.condition == "clean" else f", heard as {evaluation.condition}"
    facts = (
        f"{evaluation.checkpoint} on {evaluation.manifest}, {split}{condition}: {scores.num_utterances} letters of "
        f"{scores.num_speakers} speakers"
    )
    left_out = f" {evaluation.left_out} recordings could not be read and are left out." if evaluation.left_out else ""
    parts = [
        "<h1>Spoken letters: evaluation</h1>",
        f"<p>{html.escape(facts)}.{left_out}</p>",
        f'<p class="headline" id="accuracy">{percent(scores.accuracy.value)}</p>',
        f"<p>accuracy, 95 % interval {_interval(scores.accuracy)} ({html.escape(scores.accuracy.method)})</p>",
        _scores_table(scores),
        _compared(evaluation.comparison) if evaluation.comparison else "",
        f"<h2>Confusions</h2>{_confusion(scores)}",
        f"<h2>Letters</h2>{_letters(scores)}",
        f"<h2>Is it as sure as it should be?</h2>{_reliability(evaluation)}" if scores.reliability else "",
        f"<h2>What is no letter</h2>{_rejection(evaluation.rejection)}" if evaluation.rejection else "",
        f"<h2>What decides</h2>{render_pictures(pictures)}" if pictures else "",
        f"<h2>Groups</h2>{_groups(scores)}",
        f"<h2>Through noise, rooms and telephones</h2>{_robustness(evaluation)}" if evaluation.robustness else "",
        f"<h2>Learning</h2>{_learning(history)}" if history else "",
    ]
    if examples:
        shown = "".join(map(render_example, examples))
        parts.append(
            f"<h2>The most certain mistakes</h2><p>{len(examples)} of {len(evaluation.mistakes)}; the lines are where "
            "the front end finds the letter (white by energy, cyan as learnt), and the lower picture is what spoke for "
            f'the letter that was recognised (red) or against it (blue).</p><ul class="cards">{shown}</ul>'
        )
    return pages.page("Spoken letters: evaluation", parts)
