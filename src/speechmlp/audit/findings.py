"""Results of an audit, written as JSON; `docs/audit.schema.json` is made from these classes."""

from typing import Literal, NamedTuple

from pydantic import Field

from speechmlp.evaluation.results import Result

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    """A kind of finding: its severity, its title, and what to do about it."""

    severity: Severity
    title: str
    advice: str


KINDS = {
    # Errors: an accuracy would be meaningless or impossible.
    "missing": Kind("error", "files that do not exist", "restore them, or remove them from the manifest"),
    "unreadable": Kind("error", "files that cannot be decoded", "record or copy them again, or remove them"),
    "not_finite": Kind("error", "recordings with NaN or infinite samples", "convert them again from their source"),
    "outside": Kind("error", "start and end beyond the recording", "check the times, which are in seconds"),
    "shared_speaker": Kind("error", "speakers in more than one split", "split by speaker: speechmlp prepare folder"),
    "same_across": Kind("error", "the same audio in two splits", "keep one of each, or split again"),
    "near_across": Kind("error", "almost the same audio in two splits", "keep one of each, or split again"),
    "same_letters": Kind("error", "the same audio under two letters", "listen and keep the right letter"),
    "near_letters": Kind("error", "almost the same audio under two letters", "listen and keep the right letter"),
    "empty_split": Kind("error", "splits without utterances", "split again: speechmlp prepare folder"),
    "unlearnt_letter": Kind("error", "letters without training utterances", "add training utterances of them"),
    # Warnings: worth checking.
    "repeated": Kind("warning", "the same audio more than once", "keep one of each"),
    "near_repeated": Kind("warning", "almost the same audio more than once", "keep one of each"),
    "missing_letter": Kind("warning", "letters missing from a split", "results will not cover them"),
    "incomplete_speaker": Kind("warning", "speakers without letters that others have", "look for lost files"),
    "few_speakers": Kind("warning", "splits with fewer than three speakers", "intervals will be wide or meaningless"),
    "unknown_speaker": Kind("warning", "utterances with an unknown speaker", "name the speakers; splits need them"),
    "unbalanced": Kind(
        "warning", "letters far more frequent than others", "training.balance draws rare ones more often"
    ),
    "silent": Kind("warning", "silent recordings", "remove them"),
    "cancelled": Kind("warning", "channels that cancel each other", "keep one channel"),
    "clipped": Kind("warning", "clipped recordings", "record with less gain"),
    "offset": Kind("warning", "recordings with a constant offset", "usually harmless here; check the sound card"),
    "low_rate": Kind("warning", "recorded at less than 16 kHz", "fricatives lie above 4 kHz; record at 16 kHz or more"),
    "narrow": Kind("warning", "apparently recorded at 8 kHz and resampled", "look for telephone recordings"),
    "short": Kind("warning", "shorter than any letter", "probably cut wrongly; cut them again, or remove them"),
    "long": Kind("warning", "far longer than a letter", "give their start and end in the manifest"),
    "cut_start": Kind("warning", "cut off at the start", "cut them again, earlier"),
    "cut_end": Kind("warning", "cut off at the end", "cut them again, later"),
    "dropout": Kind("warning", "gaps inside the sound", "record them again"),
    "loudness": Kind("warning", "far louder or quieter than the others", "check gain and distance to the microphone"),
    "noisy": Kind("warning", "hardly louder than the noise", "remove them, or train with noise"),
    # Notes: properties of the corpus.
    "tight": Kind("note", "the corpus is cut tightly", "edges are compared with those of the same letter"),
    "no_splits": Kind("note", "the manifest has no splits", "speechmlp prepare folder gives it splits"),
}
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Item(Result):
    """An utterance of a finding."""

    id: str
    path: str
    letter: str
    speaker: str
    split: str | None
    detail: str = Field(description="what was measured, or the other utterance")


class Finding(Result):
    """All problems of one kind."""

    kind: str
    severity: Severity
    message: str
    items: tuple[Item, ...] = Field(description="the utterances; empty if it is about splits, letters or speakers")

    def line(self) -> str:
        """Returns the finding as one line of text."""
        return f"{self.severity}: {self.message}"


class Spread(Result):
    """The distribution of a measurement over the recordings."""

    name: str
    unit: str
    low: float = Field(description="5th percentile")
    median: float
    high: float = Field(description="95th percentile")


class DoubtedLabel(Result):
    """An utterance whose label is probably wrong."""

    id: str
    path: str
    letter: str
    speaker: str
    split: str | None
    suggested: str
    margin: float = Field(description="probability of the suggested letter minus that of the label, -1 to 1")
    confident: bool = Field(description="whether confident learning counts the label as wrong")


class Audit(Result):
    """The result of an audit."""

    manifest: str
    num_utterances: int
    num_speakers: int = Field(description="speakers, without unknown ones")
    splits: dict[str, int] = Field(description="utterances of each split; none: without a split")
    letters: dict[str, dict[str, int]] = Field(description="split -> letter -> utterances")
    findings: tuple[Finding, ...]
    spreads: tuple[Spread, ...]
    doubts: tuple[DoubtedLabel, ...] | None = Field(None, description="most doubtful first; null if not requested")
    wrong_labels: int | None = Field(None, description="how many labels confident learning counts as wrong")

    @property
    def sound(self) -> bool:
        """Whether there are no errors."""
        return not any(finding.severity == "error" for finding in self.findings)
