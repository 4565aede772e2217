"""Scores as text for people."""

from speechmlp.labels import E_SET
from speechmlp.metrics import Scores


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def format_scores(scores: Scores) -> str:
    """Returns the scores as lines of text; the first is `Accuracy: 88.86%` with its interval."""
    interval = scores.interval
    lines = [
        f"Accuracy: {_percent(scores.accuracy)} "
        f"(95% interval {_percent(interval.low)} to {_percent(interval.high)}, {interval.method})",
        f"Loss: {scores.loss:.4f}",
        f"Utterances: {scores.num_utterances} of {scores.num_speakers} "
        f"speaker{'s' if scores.num_speakers != 1 else ''}",
    ]
    if scores.e_set_accuracy is not None:
        lines.append(f"E-set accuracy: {_percent(scores.e_set_accuracy)} ({' '.join(E_SET)})")
    letters = [
        f"{letter} {100 * right / spoken:5.1f}% ({right}/{spoken})"
        for letter, (right, spoken) in scores.letter_accuracy().items()
    ]
    lines.append("Letters:")
    lines += [
        "  " + "".join(f"{text:<22}" for text in letters[row : row + 4]).rstrip() for row in range(0, len(letters), 4)
    ]
    if confusions := scores.confusions():
        lines.append("Most frequent confusions (spoken -> recognised):")
        lines.append("  " + ", ".join(f"{spoken} -> {heard} {count}x" for spoken, heard, count in confusions))
    return "\n".join(lines)
