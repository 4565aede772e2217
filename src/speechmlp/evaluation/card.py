"""Model cards: Markdown with the front matter of the Hugging Face Hub, from a checkpoint and its evaluations."""

import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.evaluation.gaps import SPEAKER, by_accuracy, of_kind
from speechmlp.evaluation.results import Estimate, Evaluation, Group, Scores
from speechmlp.evaluation.run import evaluate
from speechmlp.evaluation.sources import NOT_STATED, PREPARED, Source, find_sources, folder_of
from speechmlp.evaluation.text import gap_groups, gap_name, headlines, percent, points
from speechmlp.files import write_text
from speechmlp.labels import LETTERS
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, load_checkpoint, starts
from speechmlp.runs.folder import BEST, model_name

MARK = "<!-- Written by speechmlp from evaluations of this model; it is written again, so change nothing here. -->"
"""Marks a card, which may be replaced."""
BASE = "letters_long"
"""The configuration of the model that the one in the package started from."""
UNKNOWN = "unknown"
"""A licence that is not stated, as the Hub calls it."""
NOT_FOR = (
    "Decisions about people: who somebody is, where somebody comes from, or how well somebody speaks.",
    "Passwords, identity checks, medical, legal or emergency use: a wrong answer can look certain.",
    "Listening to people who do not know of it.",
    "Continuous speech, and anything that is not said as in the data that it was trained on, such as another language.",
    "Groups of speakers, rooms and devices that the tables here do not have: measure it there first.",
)


@dataclass(frozen=True)
class About:
    """What a card says that is not measured.

    Attributes:
        name: of the model.
        licence: of the weights, as the Hub abbreviates it, such as `mit`.
        introduction: paragraphs about the file.
        data: paragraphs after the table of data.
        limits: further ones.
        sections: further Markdown, after everything else.
        titles: folder of a manifest -> what the data of an evaluation are called.
    """

    name: str
    licence: str = UNKNOWN
    introduction: Sequence[str] = ()
    data: Sequence[str] = ()
    limits: Sequence[str] = ()
    sections: Sequence[str] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    def title(self, evaluation: Evaluation) -> str:
        """Returns what the data of an evaluation are called."""
        folder = folder_of(evaluation.manifest)
        return self.titles.get(folder) or PREPARED.get(folder, (folder, ""))[0]

    def where(self, evaluation: Evaluation) -> str:
        """Returns the data and the split of an evaluation, as Markdown."""
        return _safe(self.title(evaluation)) + (f", {evaluation.split} split" if evaluation.split else "")


def cell(estimate: Estimate | None) -> str:
    """Returns a fraction with its interval as in `94.43% [92.10%, 96.61%]`."""
    if estimate is None:
        return "–"
    return f"{percent(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def wrapped(line: str) -> str:
    """Returns a line of Markdown in lines of at most 120 characters; tables and code as they are."""
    if line.startswith(("|", " ", "<!--")):
        return line
    indent = "  " * line.startswith("- ")
    return textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _safe(text: str) -> str:
    """Returns a text of a manifest for a cell of a table: names of strangers are no Markdown or HTML."""
    return re.sub(r"([|<>`*_\[\]\\])", r"\\\1", " ".join(text.split()))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "data"


def front_matter(
    about: About, config: Config, sources: Sequence[Source], evaluations: Sequence[Evaluation]
) -> dict[str, Any]:
    """Returns the card's metadata with the field names of the Hugging Face Hub."""
    of_letters = config.labels == LETTERS
    results = [
        {
            "task": {"type": "audio-classification", "name": "Spoken letters" if of_letters else "Spoken labels"},
            "dataset": {
                "name": f"{about.title(one)}{'' if one.condition == 'clean' else f' ({one.condition})'}",
                "type": _slug(folder_of(one.manifest)),
                **({"split": one.split} if one.split else {}),
            },
            "metrics": [
                {
                    "type": "accuracy",
                    "value": round(one.scores.accuracy.value, 4),
                    "name": f"Accuracy, 95 % interval {one.scores.accuracy.low:.4f} to {one.scores.accuracy.high:.4f}",
                }
            ],
        }
        for one in evaluations
    ]
    return {
        "license": about.licence,
        **({"language": ["en"]} if of_letters else {}),
        "library_name": "speechmlp",
        "pipeline_tag": "audio-classification",
        "tags": [*(["spoken-letters", "alphabet"] if of_letters else ["keyword-spotting"]), "mlp", "pytorch"],
        "datasets": list(dict.fromkeys(_slug(source.folder) for source in sources)),
        "metrics": ["accuracy"],
        **({"model-index": [{"name": about.name, "results": results}]} if results else {}),
    }


def _data(sources: Sequence[Source]) -> list[str]:
    lines = [
        "| corpus | licence of its recordings | trained on | speakers | speakers by accent |",
        "|---|---|---|---|---|",
    ]
    for source in sources:
        licence = ", ".join(map(_safe, source.licences)) or NOT_STATED
        kind = "letters" if source.letters else "non-letters"
        accents = ", ".join(f"{_safe(name)} {count}" for name, count in source.accents.items()) or NOT_STATED
        counts = [f"{kind}, not at hand", "not at hand"]
        if source.recordings is not None:
            counts = [f"{source.recordings:,} {kind}", f"{source.speakers:,}"]
        if not source.letters:
            counts[1], accents = "–", "–"
        lines.append(f"| {_safe(source.title)} | {licence} | {counts[0]} | {counts[1]} | {accents} |")
    return lines


def _scores(about: About, evaluation: Evaluation) -> list[str]:
    shown = [(line.name, estimate) for line, estimate in headlines(evaluation.scores) if line.show is percent]
    head = f"| {about.where(evaluation)} | value, 95 % interval over speakers |"
    return [head, "|---|---|", *(f"| {name} | {cell(estimate)} |" for name, estimate in shown)]


def _conditions(about: About, evaluations: Sequence[Evaluation]) -> list[str]:
    lines = ["| data | condition | letters | speakers | accuracy, 95 % interval |", "|---|---|---|---|---|"]
    for one in evaluations:
        counts = f"{one.scores.num_utterances:,} | {one.scores.num_speakers:,}"
        lines.append(f"| {about.where(one)} | {one.condition} | {counts} | {cell(one.scores.accuracy)} |")
    return lines


def _group(kind: str, group: Group, note: str = "") -> str:
    name = f"{_safe(kind)}: {_safe(group.name)}{note}"
    return f"| {name} | {group.count:,} | {group.num_speakers:,} | {cell(group.accuracy)} |"


def _groups(scores: Scores) -> list[str]:
    lines = ["| group | letters | speakers | accuracy, 95 % interval |", "|---|---|---|---|"]
    for kind in dict.fromkeys(group.kind for group in scores.groups):
        enough, small = of_kind(scores, kind)
        if kind == SPEAKER:
            if len(enough) > 1:
                worst, *_, best = by_accuracy(enough)
                lines += [
                    f"| {which} speaker | {one.count:,} | 1 | {cell(one.accuracy)} |"
                    for which, one in (("worst", worst), ("best", best))
                ]
            continue
        lines += [_group(kind, group) for group in enough]
        lines += [_group(kind, group, " (too few to compare)") for group in small]
    return lines


def _rejection(about: About, checkpoint: Checkpoint, evaluations: Sequence[Evaluation]) -> list[str]:
    if not checkpoint.reject_below:
        return ["Nothing is rejected: no threshold has been fitted. Every sound is answered with a letter."]
    lines = [
        f"A recording whose most probable letter has a probability below {checkpoint.reject_below:.3f} is rejected; "
        f"probabilities are those at a temperature of {checkpoint.temperature:.3f}.",
        "",
    ]
    for one in evaluations:
        found = one.rejection
        if found is not None:
            kinds = ", ".join(f"{_safe(kind.name)} {percent(kind.declined)} of {kind.count}" for kind in found.kinds)
            kinds = f" ({kinds})" if one.condition == "clean" else ""
            lines.append(
                f"- {about.where(one)}, {one.condition}: {percent(found.letters_declined)} of the letters and "
                f"{percent(found.others_declined)} of the non-letters{kinds} are rejected."
            )
    return lines


def _labels(config: Config) -> str:
    if config.labels == LETTERS:
        return "26 letters, spoken in English"
    return f"{len(config.labels)} labels ({', '.join(map(_safe, config.labels))})"


def _limits(about: About, config: Config, evaluations: Sequence[Evaluation]) -> list[str]:
    lines = list(about.limits)
    for one in evaluations:
        pairs = ", ".join(
            f"{spoken} for {recognised} ({count})" for spoken, recognised, count in one.scores.confusions(6)
        )
        if pairs:
            lines.append(
                f"Most frequent confusions among {one.scores.num_utterances:,} of {about.where(one)}: {pairs}."
            )
    seconds = f"{config.input.audio.seconds:g} s"
    lines.append(
        f"The input is {seconds}: the part of a longer recording that sounds most like a single letter or word."
    )
    return [f"- {line}" for line in lines]


def render_card(
    about: About, checkpoint: Checkpoint, sources: Sequence[Source], evaluations: Sequence[Evaluation]
) -> str:
    """Returns the card.

    Args:
        about: what is not measured.
        checkpoint: the model.
        sources: what it was trained on.
        evaluations: of this model, the most important first; groups are shown of those that are clean.
    """
    config = checkpoint.config
    clean = [one for one in evaluations if one.condition == "clean"]
    lines = [
        f"# {about.name}",
        "",
        f"Classifies recordings of {config.input.audio.seconds:g} s as one of {_labels(config)}: {config.model.kind} "
        f"on the front end {config.front_end.kind}, {checkpoint.model.num_parameters():,} parameters.",
        *(part for paragraph in about.introduction for part in ("", paragraph)),
        "",
        "## What it is not for",
        "",
        *(f"- {line}" for line in NOT_FOR),
        "",
        "## What it was trained on",
        "",
        *_data(sources),
        "",
        "Counts are those of the manifests at hand when this was written.",
        *(part for paragraph in about.data for part in ("", paragraph)),
        "",
        "## How accurate it is",
        "",
    ]
    if not evaluations:
        lines.append("It has not been evaluated.")
    else:
        lines += [*_conditions(about, evaluations), ""]
    for one in clean:
        lines += [*_scores(about, one), ""]
        lines += [
            f"- {_safe(gap_name(gap))}: {points(gap.difference)}; {_safe(gap_groups(gap))}." for gap in one.scores.gaps
        ]
        lines += ["", *_groups(one.scores), ""]
    lines += ["## What is rejected", "", *_rejection(about, checkpoint, evaluations), ""]
    lines += [
        "## Limits",
        "",
        *_limits(about, config, clean),
        *(part for section in about.sections for part in ("", section)),
    ]
    matter = yaml.safe_dump(
        front_matter(about, config, sources, evaluations), sort_keys=False, allow_unicode=True, width=118
    )
    return f"---\n{matter}---\n{MARK}\n\n" + "\n".join(map(wrapped, lines)).rstrip() + "\n"


def read_evaluation(path: str | Path, checkpoint: Path) -> Evaluation:
    """Returns an evaluation that `speechmlp evaluate --json` wrote.

    Raises:
        UserError: it cannot be read, or it is of another model.
    """
    try:
        found = Evaluation.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: expected what speechmlp evaluate --json FILE writes") from error
    if Path(found.checkpoint).resolve() != checkpoint.resolve():
        raise UserError(f"{path}: is an evaluation of {found.checkpoint}; expected one of {checkpoint}")
    return found


def write_card(
    model: str | Path,
    output: str | Path | None = None,
    *,
    evaluations: Sequence[str | Path] = (),
    licence: str = UNKNOWN,
    name: str | None = None,
) -> Path:
    """Writes the card of a model and returns its path.

    Args:
        model: a checkpoint, or the folder of a run, whose best one is taken.
        output: the file; None for `README.md` in the folder of the run.
        evaluations: what `speechmlp evaluate --json` wrote of this model; without any, it is evaluated on the test
            split of its own corpus.
        licence: of the weights, as the Hugging Face Hub abbreviates it.
        name: of the model; None for that of its run or file.

    Raises:
        UserError: the model, its corpus or an evaluation cannot be read, the licence is not an abbreviation, or the
            output is a file that was written by something else.
    """
    checkpoint = Path(model) / BEST if Path(model).is_dir() else Path(model)
    if output is None and not Path(model).is_dir():
        raise UserError(
            f"{model}: expected a run folder; for a checkpoint, say where to write the card with --output README.md"
        )
    target = Path(model) / "README.md" if output is None else Path(output)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise UserError(f"--license: expected an abbreviation such as mit, apache-2.0 or cc-by-4.0, found {licence!r}")
    require_own(target)
    trained = load_checkpoint(checkpoint)
    known = [read_evaluation(path, checkpoint) for path in evaluations] or [evaluate(checkpoint)]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    configs, start = trainings(trained, checkpoint)
    about = About(
        name=name or model_name(checkpoint),
        licence=licence,
        introduction=(f"File: `{checkpoint.name}`, {checkpoint.stat().st_size:,} bytes, SHA-256 `{digest}`.",),
        data=(f"Its training started from {start}, whose data are not at hand.",) if start else (),
    )
    write_text(target, render_card(about, trained, find_sources(configs), known))
    return target


def require_own(target: Path) -> None:
    """Checks that a file is a card that was written here, if it exists.

    Raises:
        UserError: it is something else.
    """
    try:
        if target.exists() and MARK not in target.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{target}: exists and was not written by speechmlp card; choose another --output")
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error


def trainings(trained: Checkpoint, checkpoint: Path) -> tuple[list[Config], str | None]:
    """Returns the configurations of the trainings that a model comes from, and the start that is not at hand, if any.

    The start of the model in the package is `BASE`, whose checkpoint is not in the package.
    """
    configs, own = [trained.config], PACKAGED.resolve()
    if checkpoint.resolve() == own:
        return [*configs, load_config(BASE, [])], None
    for path, start in starts(trained):
        if start is None:
            return configs, str(path)
        configs.append(start.config)
        if path.resolve() == own:
            return [*configs, load_config(BASE, [])], None
    return configs, None
