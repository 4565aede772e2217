"""What an audit of a corpus finds, as values that become JSON; `docs/audit.schema.json` is made from these classes."""

from typing import Literal, NamedTuple

from pydantic import Field

from speechmlp.evaluation.results import Result

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    """A kind of finding: how grave it is, what it is called, and what to do about it."""

    severity: Severity
    title: str
    advice: str


KINDS = {
    # Errors: an accuracy would be meaningless, or there would be none.
    "missing": Kind("error", "files that do not exist", "restore them, or take their lines out of the manifest"),
    "unreadable": Kind("error", "files that cannot be decoded", "record or copy them anew, or take them out"),
    "not_finite": Kind("error", "recordings with NaN or infinite samples", "write them anew from their source"),
    "outside": Kind("error", "start and end beyond the recording", "check the times; they are in seconds"),
    "shared_speaker": Kind("error", "speakers in more than one split", "split by speaker: scripts/prepare_folder.py"),
    "same_across": Kind("error", "the same audio in two splits", "keep one of each, or split anew"),
    "near_across": Kind("error", "almost the same audio in two splits", "keep one of each, or split anew"),
    "same_letters": Kind("error", "the same audio under two letters", "listen, and keep the right letter"),
    "near_letters": Kind("error", "almost the same audio under two letters", "listen, and keep the right letter"),
    "empty_split": Kind("error", "splits without utterances", "split anew: scripts/prepare_folder.py"),
    "unlearnt_letter": Kind("error", "letters that are tested and never learnt", "add training utterances of them"),
    # Warnings: worth a look.
    "repeated": Kind("warning", "the same audio more than once", "keep one of each"),
    "near_repeated": Kind("warning", "almost the same audio more than once", "keep one of each"),
    "missing_letter": Kind("warning", "letters that a split has not", "results say nothing about them"),
    "incomplete_speaker": Kind("warning", "speakers who lack letters that others have", "look for lost files"),
    "few_speakers": Kind("warning", "splits with fewer than three speakers", "intervals will be wide, or mean nothing"),
    "unknown_speaker": Kind("warning", "utterances whose speaker is not known", "name speakers; splits need them"),
    "unbalanced": Kind("warning", "letters far more frequent than others", "training.balance draws rare ones more"),
    "silent": Kind("warning", "recordings without sound", "take them out"),
    "cancelled": Kind("warning", "channels that cancel each other", "keep one of the channels"),
    "clipped": Kind("warning", "clipped recordings", "record with less gain"),
    "offset": Kind("warning", "recordings with a constant offset", "mostly harmless here; check the sound card"),
    "low_rate": Kind("warning", "recorded at less than 16 kHz", "fricatives are above 4 kHz; record at 16 kHz or more"),
    "narrow": Kind("warning", "recorded at 8 kHz, by their sound, and converted", "look for the telephone"),
    "short": Kind("warning", "shorter than any letter", "badly cut; take them out or cut them anew"),
    "long": Kind("warning", "far longer than a letter", "give start and end in the manifest"),
    "cut_start": Kind("warning", "cut into at the start", "cut them anew, earlier"),
    "cut_end": Kind("warning", "cut into at the end", "cut them anew, later"),
    "dropout": Kind("warning", "gaps inside the sound", "record them anew"),
    "loudness": Kind("warning", "far louder or quieter than the others", "check gain and distance"),
    "noisy": Kind("warning", "hardly above the noise", "take them out, or learn with noise"),
    # Notes: how the corpus is.
    "tight": Kind("note", "the corpus is cut tightly", "edges are judged by those of the same letter"),
    "no_splits": Kind("note", "the manifest has no splits", "scripts/prepare_folder.py gives it splits"),
}
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Item(Result):
    """An utterance that a finding is about."""

    id: str
    path: str
    letter: str
    speaker: str
    split: str | None
    detail: str = Field(description="what was measured, or the other utterance")


class Finding(Result):
    """Everything of one kind."""

    kind: str
    severity: Severity
    message: str
    items: tuple[Item, ...] = Field(description="the utterances; empty where it is about splits, letters or speakers")

    def line(self) -> str:
        """Returns it in one line."""
        return f"{self.severity}: {self.message}"


class Spread(Result):
    """How a measure is distributed over the recordings."""

    name: str
    unit: str
    low: float = Field(description="a twentieth is under it")
    median: float
    high: float = Field(description="a twentieth is over it")


class DoubtedLabel(Result):
    """An utterance whose label is doubted."""

    id: str
    path: str
    letter: str
    speaker: str
    split: str | None
    suggested: str
    margin: float = Field(description="probability of the suggested letter less that of the label, -1 to 1")
    confident: bool = Field(description="whether confident learning counts the label as wrong")


class Audit(Result):
    """What an audit finds."""

    manifest: str
    num_utterances: int
    num_speakers: int = Field(description="that are known")
    splits: dict[str, int] = Field(description="utterances of each split; none for those without")
    letters: dict[str, dict[str, int]] = Field(description="split -> letter -> utterances")
    findings: tuple[Finding, ...]
    spreads: tuple[Spread, ...]
    doubts: tuple[DoubtedLabel, ...] | None = Field(None, description="most doubted first; null where not looked for")
    wrong_labels: int | None = Field(None, description="how many labels confident learning counts as wrong")

    @property
    def sound(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)
