"""Audits of a corpus: the complete one of manifest, recordings, copies and labels, and one before every training.

Dimension key: `N` utterances, `B` batch, `T` samples.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.audio.decoding import load_letter
from speechmlp.audio.measures import Sound
from speechmlp.audio_format import DEFAULT_INPUT
from speechmlp.audit.checks import check_manifest, check_sounds, count_letters, in_order, spreads
from speechmlp.audit.duplicates import exact_pairs, near_pairs, report_pairs
from speechmlp.audit.findings import Audit, DoubtedLabel, Finding, Judgement
from speechmlp.audit.judgement import judge, pool
from speechmlp.audit.label_errors import cross_validate, doubt, folds_of
from speechmlp.audit.reading import Inspection, inspect
from speechmlp.config.schema import Config
from speechmlp.data.fingerprints import fingerprints_of
from speechmlp.data.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest
from speechmlp.data.packed import PackedCorpus
from speechmlp.errors import UserError
from speechmlp.evaluation.known import find_known
from speechmlp.labels import LETTERS, describe, label_of
from speechmlp.models.judge import MODEL, load_judge
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, find_checkpoint, load_checkpoint

BLOCK = 2048
WHISPER = "Whisper, which was trained on other data"
_Known = tuple[Tensor, list[str]]
QUIET = ("missing_letter", "unbalanced", "incomplete_speaker", "few_speakers", "no_splits")
"""Kinds that are properties of a corpus and not worth repeating at every training."""


def _classify(checkpoint: Checkpoint) -> Callable[[Tensor], Tensor]:
    """Returns a model as a function from waveforms to probabilities."""
    model = checkpoint.model.eval()

    def classify(waveforms: Tensor) -> Tensor:
        logits: Tensor = model(waveforms)
        return (logits.float() / checkpoint.temperature).softmax(1)

    return classify


def _trained_on(checkpoint: Checkpoint, name: str, known: Sequence[Utterance], prints: Sequence[bytes]) -> _Known:
    """Returns which utterances a model cannot judge, since it was trained on them or their speaker; and notes."""
    found, missing = find_known(checkpoint, known, prints)
    speakers = {one.speaker for one, here in zip(known, found, strict=True) if here} - {UNKNOWN_SPEAKER}
    theirs = [here or one.speaker in speakers for one, here in zip(known, found, strict=True)]
    notes = []
    if missing:
        notes.append(
            f"{name} does not say which letters it was trained on, and {', '.join(missing)} cannot be read here; if "
            "these letters are among them, its doubts are too few"
        )
    if any(theirs):
        notes.append(f"{name} was trained on {sum(theirs)} of these letters or their speakers, and does not judge them")
    return torch.tensor(theirs), notes


def doubt_labels(
    utterances: Sequence[Utterance],
    inspection: Inspection,
    checkpoint: Checkpoint | None,
    name: str,
    names: tuple[str, ...] = LETTERS,
) -> tuple[tuple[DoubtedLabel, ...], Judgement | None, list[str]]:
    """Returns the labels that are less probable than another letter, how far that can be trusted, and notes.

    Args:
        utterances: of the manifest.
        inspection: with features, and with the probabilities of the judges.
        checkpoint: of the model; None without one.
        name: of the model, for reports.
        names: of the labels.

    Returns:
        The doubted labels, most doubtful first; None instead of a judgement if there is nothing to judge.
    """
    indices = list(inspection.sounds)
    known = [utterances[index] for index in indices]
    if inspection.features is None or not known:
        return (), None, []
    labels = torch.tensor([label_of(utterance.letter, names) for utterance in known])
    folds = folds_of([utterance.speaker for utterance in known], [utterance.id for utterance in known])
    network = cross_validate(inspection.features, labels, folds, count=len(names))
    judges = {"network": network, **inspection.probabilities}
    own, notes = torch.ones(len(known), dtype=torch.bool), list[str]()
    if checkpoint is not None:
        own, notes = _trained_on(checkpoint, name, known, [inspection.fingerprints[index] for index in indices])
    probabilities = torch.empty(len(labels), len(names), dtype=torch.float64)
    for rows, left_out in ((own, "model"), (~own, "")):
        if rows.any():
            found_here = {judge_name: one[rows] for judge_name, one in judges.items() if judge_name != left_out}
            probabilities[rows] = pool(found_here, labels[rows]).exp()
    found = doubt(probabilities, labels)
    doubts = tuple(
        DoubtedLabel(
            id=known[row].id,
            path=str(known[row].path),
            letter=known[row].letter,
            speaker=known[row].speaker,
            split=known[row].split,
            suggested=names[int(found.suggested[row])],
            margin=round(float(found.margin[row]), 4),
            confident=bool(found.confident[row]),
        )
        for row in found.margin.argsort(descending=True).tolist()
        if float(found.margin[row]) > 0
    )
    who = ["a network that is cross-validated over speakers", *([] if own.all() else [name])]
    who += [WHISPER] if "whisper" in judges else []
    return doubts, judge(probabilities, labels, [one.speaker for one in known], who), notes


def audit_corpus(
    manifest: str,
    doubts: bool = False,
    checkpoint: str | None = None,
    outside: bool = False,
    labels: tuple[str, ...] | None = None,
    judge: str | None = None,
    judge_model: str = MODEL,
) -> tuple[Audit, list[Utterance], Mapping[int, Sound]]:
    """Returns the audit of a corpus, its utterances, and the measurements of each readable recording by its index.

    Args:
        manifest: the utterances.
        doubts: whether to look for wrong labels too, by cross-validation and with a model.
        checkpoint: the model; implies `doubts`. None for the one in the package.
        outside: whether recordings may lie outside the manifest's folder.
        labels: that recordings may have; None for those of the checkpoint, or A to Z.
        judge: whisper, to ask a model that was trained on other data too; implies `doubts`.
        judge_model: a name at the Hugging Face hub, or a folder with a model in CTranslate2's format.

    Raises:
        UserError: the manifest or the checkpoint cannot be read, or the checkpoint has other labels.
    """
    doubts = doubts or judge is not None
    path = find_checkpoint(checkpoint or "packaged")
    model = load_checkpoint(path) if checkpoint or (doubts and (labels or LETTERS) == LETTERS) else None
    if model is not None and model.model.audio != DEFAULT_INPUT:
        found = f"{model.model.audio.sample_rate} Hz and {model.model.audio.seconds:g} s"
        raise UserError(f"{checkpoint}: expected a model of one second at 16000 Hz, found {found}; use --doubt alone")
    names = labels or (model.config.labels if model else LETTERS)
    if model is not None and model.config.labels != names:
        raise UserError(f"{checkpoint}: its labels are {describe(model.config.labels)}; leave --labels out")
    utterances = read_manifest(manifest, allow_shared=True, allow_outside=outside, labels=names)
    wanted = doubts or checkpoint is not None
    judges = {} if model is None else {"model": _classify(model)}
    notes: list[str] = []
    if judge is not None:
        try:
            second_judge = load_judge(judge, judge_model, Config(labels=names))
            judges["whisper"] = lambda waveforms: second_judge.log_probabilities(waveforms).exp()
        except UserError as error:
            notes.append(f"{error}; the others judge without it")
    inspection = inspect(utterances, wanted, judges)
    sounds = inspection.sounds
    exact = exact_pairs({index: sound.digest for index, sound in sounds.items()})

    def second(index: int) -> Tensor:
        utterance = utterances[index]
        return load_letter(utterance.path, utterance.start, utterance.end)[0]

    near = near_pairs(inspection.spectra, list(sounds), second, exact)
    doubted, judgement = None, None
    if wanted:
        name = "the model in the package" if path == PACKAGED else str(path)
        doubted, judgement, of_model = doubt_labels(utterances, inspection, model, name, names)
        notes += of_model
    letters = count_letters(utterances, names)
    audit = Audit(
        manifest=manifest,
        num_utterances=len(utterances),
        num_speakers=len({utterance.speaker for utterance in utterances} - {UNKNOWN_SPEAKER}),
        splits={split: sum(counts.values()) for split, counts in letters.items()},
        letters=letters,
        findings=in_order(
            [
                *check_manifest(utterances, names),
                *inspection.findings(utterances),
                *check_sounds(utterances, sounds),
                *report_pairs(utterances, exact),
                *report_pairs(utterances, [pair for pair, _ in near], near=True),
            ]
        ),
        spreads=spreads(sounds.values()),
        doubts=doubted,
        judgement=judgement,
        notes=tuple(notes),
    )
    return audit, utterances, sounds


def quick_check(packed: PackedCorpus) -> tuple[Finding, ...]:
    """Returns the findings of the manifest, and exact copies; errors first.

    Reads an eighth of the decoded corpus; recordings that are equal there are compared as a whole.
    """
    found = [one for one in check_manifest(packed.utterances, packed.names) if one.kind not in QUIET]
    digests = {index: found.hex() for index, found in enumerate(fingerprints_of(packed)) if found}
    pairs = []
    for number, (one, other) in enumerate(exact_pairs(digests), start=1):
        if torch.equal(packed.waveforms[one], packed.waveforms[other]):
            pairs.append((one, other))
        if number % BLOCK == 0:
            packed.release()
    return in_order([*found, *report_pairs(packed.utterances, pairs)])
