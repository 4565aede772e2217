"""Evaluation of a trained classifier as one function: from a checkpoint and a manifest to scores, JSON and page.

Dimension key: `N` utterances, `L` labels.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from speechmlp.audio.condition_names import SWEEPS, parse_condition
from speechmlp.config.command_line import override_reading
from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters, load_negatives
from speechmlp.data.manifest import Split, shared_speakers
from speechmlp.data.packed import PackedCorpus, open_packed
from speechmlp.errors import UserError
from speechmlp.evaluation.advice import advise
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.comparison import compare
from speechmlp.evaluation.durations import letter_seconds
from speechmlp.evaluation.groups import find_groups, group_columns
from speechmlp.evaluation.html_examples import find_examples
from speechmlp.evaluation.html_page import load_pyplot, require_own_folder, write_page
from speechmlp.evaluation.html_report import render_report
from speechmlp.evaluation.known import find_known
from speechmlp.evaluation.metrics import answers, find_baseline, find_mistakes, score, score_rejection
from speechmlp.evaluation.results import Evaluation, Robustness, Training
from speechmlp.evaluation.saliency import mean_pictures
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import predict, select_device
from speechmlp.models.judge import MODEL, WhisperJudge, load_judge
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, find_checkpoint, load_checkpoint
from speechmlp.runs.folder import newest_checkpoint, whole_history
from speechmlp.runs.history import EpochRecord

PROGRAM, JSON = "evaluate", "evaluation.json"
"""What a report's page says that it was written by, and the file next to it."""
JUDGED_AT_ONCE = 16
"""Utterances between two steps of the second judge's progress bar."""
EXAMPLES = 12
"""Mistakes shown on the page."""
OF_EACH = 8
"""Recognised utterances of each letter that its mean picture is made of."""


def _ignore(line: str) -> None:
    del line


def evaluate(
    checkpoint: str | Path | None = None,
    *,
    runs: str | Path = "runs",
    manifest: str | Path | None = None,
    split: Split | None = None,
    condition: str = "clean",
    sweep: bool = False,
    negatives: Sequence[str | Path] | None = None,
    compare_with: str | Path | None = None,
    on_error: Literal["fail", "skip"] | None = None,
    skip_limit: float | None = None,
    outside: bool = False,
    group_by: Sequence[str] | None = None,
    device: str | torch.device = "auto",
    judge: str | None = None,
    judge_model: str = MODEL,
    overrides: Sequence[str] = (),
    report: str | Path | None = None,
    log: Callable[[str], None] = _ignore,
    warn: Callable[[str], None] = _ignore,
) -> Evaluation:
    """Evaluates a trained classifier on the utterances of a manifest.

    Args:
        checkpoint: a `best.pt`, or `packaged` for the model in the package; None for that of the newest run.
        runs: folder of the runs, for a checkpoint of None.
        manifest: TSV, CSV or JSON lines; None for that of the model's own configuration.
        split: train, valid or test; None for test, or for every utterance of a manifest without splits.
        condition: a listening condition by name, such as clean, telephone or babble_5db.
        sweep: whether the accuracy over the levels of every condition is computed too.
        negatives: manifests of recordings without a letter, which should be rejected; None for those of the model's own
            configuration, or for none if a manifest is given.
        compare_with: another checkpoint, evaluated on the same utterances.
        on_error: fail or skip, for recordings that cannot be read; None for the model's own setting.
        skip_limit: largest fraction of recordings that is skipped, 0 to 1; None for the model's own setting.
        outside: whether recordings may lie outside of the manifest's folder.
        device: auto, cpu, cuda or cuda:N, or a `torch.device`.
        group_by: columns of the manifest whose values are groups, such as accent or device; numbers such as ages become
            bands. None for accent, if there is such a column. Gender, duration and loudness are always groups.
        judge: whisper, to add Whisper's log-probabilities to the model's, except in `sweep`, `compare_with` and the
            pictures; needs the extra `whisper`.
        judge_model: a name at the Hugging Face hub, or a folder with a model in CTranslate2's format.
        overrides: `key=value`, how recordings are read: `corpus.margin=0`, `corpus.shared_speakers=true`.
        report: folder that gets the page and `evaluation.json`; replaced if it holds an earlier report.
        log: called with lines that say what is evaluated, before the work.
        warn: called with a line for each recording that is left out.

    Returns:
        Scores as fractions from 0 to 1 with 95 % intervals (losses in nats), mistakes, and what else was asked for;
        `model_dump_json` makes the JSON that docs/evaluation.schema.json describes.

    Raises:
        UserError: a checkpoint, a manifest or a recording cannot be read, the split is empty, the condition or device
            is unknown, matplotlib is not installed, or the report cannot be written.

    Example:
        >>> evaluation = evaluate("runs/letters/best.pt", manifest="data/mine/manifest.tsv")  # doctest: +SKIP
        >>> evaluation.scores.accuracy.value  # doctest: +SKIP
        0.9443
    """
    parse_condition(condition)
    if report is not None:
        load_pyplot()  # fails now and not after the work
        require_own_folder(report, PROGRAM, [JSON])
    path = newest_checkpoint(runs) if checkpoint is None else find_checkpoint(checkpoint)
    trained = load_checkpoint(path)
    config = override_reading(trained.config, overrides)
    config = _configured(config, manifest, on_error, skip_limit, outside, str(device))
    manifest_given = manifest is not None or any(one.startswith("corpus.manifest=") for one in overrides)
    if not manifest_given and path == PACKAGED and not Path(config.corpus.manifest).exists():
        raise UserError(
            f"{config.corpus.manifest}: the corpus of the model in the package is not here; expected --manifest FILE, "
            "or speechmlp prepare an4 first"
        )
    device_used = select_device(config.device)
    packed = open_packed(config.corpus, labels=config.labels, audio=config.input.audio)
    split = _split_of(packed, split, config)
    utterances = SpokenLetters(packed, split)
    columns = group_columns(utterances.utterances, group_by)

    newest = " (the newest run)" if checkpoint is None else ""
    epoch = f", {trained.epoch}" if trained.epoch else ""
    history = whole_history(path, trained.history)
    training = _training_of(trained, len(history))
    log(f"Checkpoint: {path}{newest}{epoch}")
    for line in _describe(packed, split, config, condition):
        log(line)
    for problem in packed.skipped:
        warn(f"left out: {problem}")

    corpus = utterances.in_condition(condition, device_used)
    model, names = trained.model.to(device_used), config.labels
    second = None if judge is None else load_judge(judge, judge_model, config)
    logits, labels = _judged(trained, corpus, second)
    temperature, speakers = trained.temperature if second is None else 1.0, utterances.speakers
    comparison = None
    if compare_with is not None:
        other = load_checkpoint(find_checkpoint(compare_with))
        alone = logits if second is None else predict(model, corpus)[0]
        if other.model.audio != model.audio:
            its = _input(other.model)
            raise UserError(f"{compare_with}: its input is {its}, but that of {path} is {_input(model)}")
        of_other = predict(other.model.to(device_used), corpus)[0]
        first, its_letters = (
            [one.labels[best] for best in found.argmax(1).tolist()]
            for one, found in ((model, alone), (other.model, of_other))
        )
        said = [utterance.letter for utterance in utterances.utterances]
        comparison = compare(
            str(compare_with),
            first,
            its_letters,
            utterances.utterances,
            answers(
                SpeakerBootstrap(speakers),
                (of_other.double() / other.temperature).softmax(1).amax(1),
                torch.tensor([one == letter for one, letter in zip(its_letters, said, strict=True)]),
                other.reject_below,
            ),
        )
    robustness = _sweep(trained, utterances, labels, device_used) if sweep else ()
    if negatives is None:
        own = not manifest_given or any(one.startswith("corpus.negatives=") for one in overrides)
        negatives = [part.manifest for part in config.corpus.negatives] if own else []
    rejection = None
    if negatives:
        parts, kinds = load_negatives(config.corpus, [str(manifest) for manifest in negatives], split, packed)
        others = torch.cat([_judged(trained, part.in_condition(condition, device_used), second)[0] for part in parts])
        rejection = score_rejection(logits, others, kinds, trained.reject_below, temperature)
    mistakes = find_mistakes(logits, labels, utterances.utterances, temperature, names)
    groups = find_groups(utterances.utterances, letter_seconds(utterances), utterances.power(), columns)
    known, missing = find_known(trained, utterances.utterances, utterances.fingerprints())
    baseline = find_baseline(labels, names)
    threshold = trained.reject_below
    scores = score(
        logits, labels, speakers, temperature=temperature, reject_below=threshold, groups=groups, names=names
    )
    valid = training.valid_accuracy if training is not None and split != "valid" else None
    advice = None
    if sum(known) < len(known) / 2:
        train_accuracy = None if training is None else training.train_accuracy
        advice = advise(config, baseline, scores.accuracy.value, train_accuracy, valid)
    evaluation = Evaluation(
        checkpoint=str(path),
        manifest=config.corpus.manifest,
        split=split,
        condition=condition,
        temperature=temperature,
        left_out=len(packed.skipped),
        scores=scores,
        mistakes=tuple(mistake for _, mistake in mistakes),
        robustness=robustness,
        comparison=comparison,
        rejection=rejection,
        baseline=baseline,
        training=training,
        calibration=trained.calibration,
        trained_on=None if missing and not any(known) else sum(known),
        advice=advice,
    )
    if report is not None:
        positions = [position for position, _ in mistakes[:EXAMPLES]]
        right = logits.argmax(1) == labels
        write_report(report, evaluation, trained, history, corpus, positions, labels, right)
    return evaluation


def _input(model: SpeechClassifier) -> str:
    return f"{model.audio.seconds:g} s at {model.audio.sample_rate} Hz"


def _configured(
    config: Config,
    manifest: str | Path | None,
    on_error: str | None,
    skip_limit: float | None,
    outside: bool,
    device: str,
) -> Config:
    """Returns the model's configuration with what the caller wants otherwise."""
    overrides = {
        "corpus.manifest": None if manifest is None else str(manifest),
        "corpus.on_error": on_error,
        "corpus.skip_limit": skip_limit,
        "corpus.outside": outside or None,
        "device": device,
    }
    return override_config(config, [f"{key}={json.dumps(one)}" for key, one in overrides.items() if one is not None])


def _split_of(packed: PackedCorpus, split: Split | None, config: Config) -> Split | None:
    """Returns the split to evaluate; None for every utterance.

    Raises:
        UserError: a split is asked for and the manifest has none.
    """
    if any(utterance.split is not None for utterance in packed.utterances):
        return split or "test"
    if split is not None:
        raise UserError(f"{config.corpus.manifest}: has no splits; leave --split out to evaluate all of it")
    return None


def _training_of(trained: Checkpoint, epochs: int) -> Training | None:
    kept = trained.kept
    if kept is None:
        return None
    return Training(
        epoch=kept.epoch, epochs=epochs, train_accuracy=kept.train_accuracy, valid_accuracy=kept.valid_accuracy
    )


def _describe(packed: PackedCorpus, split: Split | None, config: Config, condition: str) -> list[str]:
    lines = [f"Corpus: {config.corpus.manifest}, {f'split {split}' if split else 'every utterance (it has no splits)'}"]
    if shared := shared_speakers(packed.utterances):
        lines.append(f"Known voices: {len(shared)} speakers are in several splits, so this says little about new ones")
    if condition != "clean":
        lines.append(f"Condition: {condition}")
    if packed.skipped:
        lines.append(f"Left out: {len(packed.skipped)} recordings of the manifest that cannot be read")
    return lines


def _sweep(
    trained: Checkpoint, utterances: SpokenLetters, labels: Tensor, device: torch.device
) -> tuple[Robustness, ...]:
    """Returns the accuracy at every level of every listening condition."""
    bootstrap = SpeakerBootstrap(utterances.speakers)
    found = []
    names = [(kind, name) for kind, conditions in SWEEPS.items() for name in conditions]
    for kind, name in tqdm(names, "listening", disable=None):
        logits = predict(trained.model, utterances.in_condition(name, device))[0].double() / trained.temperature
        probability, recognised = logits.softmax(1).max(1)
        right = recognised == labels
        accuracy, of_it = bootstrap.fraction(right), answers(bootstrap, probability, right, trained.reject_below)
        if accuracy is not None:
            level = parse_condition(name)[1]
            found.append(Robustness(kind=kind, condition=name, level=level, accuracy=accuracy, answers=of_it))
    return tuple(found)


def _judged(trained: Checkpoint, corpus: DeviceCorpus, judge: WhisperJudge | None) -> tuple[Tensor, Tensor]:
    """Returns logits [N, L] of the model, or of model and judge for a temperature of one; and the labels [N]."""
    logits, labels = predict(trained.model, corpus)
    if judge is None:
        return logits, labels
    first, parts = 0, []
    for batch in tqdm(corpus.batches(JUDGED_AT_ONCE), "judging", -(-len(corpus) // JUDGED_AT_ONCE), disable=None):
        of_batch = logits[first : first + len(batch.labels)]
        parts.append(judge.added_to(of_batch, trained.temperature, batch.waveforms))
        first += len(of_batch)
    return torch.cat(parts), labels


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    trained: Checkpoint,
    history: Sequence[EpochRecord],
    corpus: DeviceCorpus,
    mistaken: Sequence[int],
    labels: Tensor,
    right: Tensor,
) -> None:
    """Writes the page and `evaluation.json` into a folder, whole or not at all.

    Args:
        folder: replaced if it holds an earlier report.
        evaluation: everything that is said in figures.
        trained: the checkpoint; its model lies on the corpus's device.
        history: all epochs of the run that it comes from.
        corpus: the N utterances.
        mistaken: positions of the first of the evaluation's mistakes, which are shown.
        labels: int64 [N].
        right: bool [N], which utterances are recognised.

    Raises:
        UserError: matplotlib is not installed, or the folder cannot be written or holds something else.
    """
    model, config, device = trained.model, trained.config, corpus.device
    waveforms = corpus.take(torch.tensor(mistaken, dtype=torch.int64, device=device)).waveforms
    examples = find_examples(model, waveforms, evaluation.mistakes[: len(mistaken)])
    positions = [((labels == letter) & right).nonzero()[:OF_EACH, 0] for letter in set(labels.tolist())]
    known = corpus.take(torch.cat(positions).to(device))
    pictures = mean_pictures(model, known.waveforms, known.labels)
    named = {model.labels[label]: picture for label, picture in sorted(pictures.items())}
    page = render_report(evaluation, history, config, examples, named)
    write_page(folder, PROGRAM, page, {JSON: evaluation.model_dump_json(indent=2) + "\n"})
