"""Results of an audit, written as JSON; `docs/audit.schema.json` is made from these classes."""

from typing import Literal, NamedTuple

from pydantic import Field

from speechmlp.evaluation.results import Estimate, Result
from speechmlp.evaluation.text import interval, percent

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
    "similar_speaker": Kind(
        "error", "speakers in different splits whose names look alike", "give one person one name, and split again"
    ),
    "same_across": Kind("error", "the same audio in two splits", "keep one of each, or split again"),
    "near_across": Kind("error", "almost the same audio in two splits", "keep one of each, or split again"),
    "same_letters": Kind("error", "the same audio under two letters", "listen and keep the right letter"),
    "near_letters": Kind("error", "almost the same audio under two letters", "listen and keep the right letter"),
    "empty_split": Kind("error", "splits without utterances", "split again: speechmlp prepare folder"),
    "unlearnt_letter": Kind("error", "letters without training utterances", "add training utterances of them"),
    # Warnings: worth checking.
    "repeated": Kind("warning", "the same audio more than once", "keep one of each"),
    "near_repeated": Kind("warning", "almost the same audio more than once", "keep one of each"),
    "unrecorded": Kind("warning", "labels without any recording", "record them, or leave them out of `labels`"),
    "missing_letter": Kind("warning", "letters missing from a split", "results will not cover them"),
    "incomplete_speaker": Kind("warning", "speakers without letters that others have", "look for lost files"),
    "few_speakers": Kind("warning", "splits with fewer than three speakers", "intervals will be wide or meaningless"),
    "similar_name": Kind("warning", "speakers whose names look alike", "give one person one name"),
    "unknown_speaker": Kind("warning", "utterances with an unknown speaker", "name the speakers; splits need them"),
    "unbalanced": Kind(
        "warning", "letters far more frequent than others", "training.balance draws rare ones more often"
    ),
    "silent": Kind("warning", "silent recordings", "remove them"),
    "cancelled": Kind("warning", "channels that cancel each other", "one of them is used; keep the better one"),
    "one_channel": Kind("warning", "channels whose mean would lose speech", "one of them is used; keep the better one"),
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
    """An utterance whose label is less probable than another letter."""

    id: str
    path: str
    letter: str
    speaker: str
    split: str | None
    suggested: str
    margin: float = Field(description="probability of the suggested letter minus that of the label, -1 to 1")
    confident: bool = Field(description="whether it stands out by confident learning: it may be wrong")


class Judgement(Result):
    """How far doubts can be trusted."""

    judges: tuple[str, ...] = Field(description="what judged the labels")
    agreement: Estimate = Field(
        description="fraction of labels that are the most probable letter to the judges together"
    )
    counted: int = Field(description="labels that stand out by confident learning")
    expected_false: float = Field(description="how many would stand out if every label were right")
    expected_false_low: int
    expected_false_high: int
    wrong: int = Field(description="how many labels are wrong by this: the difference of both")
    wrong_low: int
    wrong_high: int
    certain: bool = Field(description="whether most of those that stand out are probably wrong")


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
    judgement: Judgement | None = Field(None, description="null if doubts were not requested, or nothing could judge")
    notes: tuple[str, ...] = Field((), description="what could not be found out")

    @property
    def sound(self) -> bool:
        """Whether there are no errors."""
        return not any(finding.severity == "error" for finding in self.findings)


def describe_doubts(audit: Audit) -> list[str]:
    """Returns how many labels are doubted, and how sure that is, as lines of text."""
    found, count = audit.judgement, len(audit.doubts or ())
    if found is None:
        return [f"Doubtful labels: {count}; nothing could judge them"]
    by = (
        f"Judges of the labels: {' and '.join(found.judges)}; {percent(found.agreement.value)} of the labels are the "
        f"most probable letter to them (95% interval {interval(found.agreement)})"
    )
    expected = (
        f"{found.counted} stand out, and about {found.expected_false:.0f} ({found.expected_false_low} to "
        f"{found.expected_false_high}) would if every label were right"
    )
    if found.certain:
        sure = f"so about {found.wrong} ({found.wrong_low} to {found.wrong_high}) of the {found.counted} are wrong"
    else:
        sure = "so the judges cannot say whether any is wrong; the first ones are the best to listen to"
    return [by, f"Doubtful labels: {count}; {expected}, {sure}"]


def format_audit(audit: Audit) -> str:
    """Returns an audit as lines of text, errors first."""
    splits = ", ".join(f"{split}: {count}" for split, count in audit.splits.items())
    lines = [f"{audit.manifest}: {audit.num_utterances} utterances of {audit.num_speakers} speakers ({splits})"]
    lines += [finding.line() for finding in audit.findings]
    lines += [
        f"{s.name}: median {s.median:g} {s.unit}, 5 % below {s.low:g}, 5 % above {s.high:g}" for s in audit.spreads
    ]
    if audit.doubts is not None:
        lines += [f"Note: {note}" for note in audit.notes]
        lines += describe_doubts(audit)
        lines += [
            f"  {doubt.path}: {doubt.letter}, more probably {doubt.suggested} ({doubt.margin:+.2f})"
            for doubt in audit.doubts[:10]
        ]
    errors = sum(finding.severity == "error" for finding in audit.findings)
    warnings = sum(finding.severity == "warning" for finding in audit.findings)
    lines.append(f"Kinds of errors: {errors}, kinds of warnings: {warnings}")
    return "\n".join(lines)
