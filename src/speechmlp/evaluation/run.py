"""Evaluation of a trained classifier as one function: from a checkpoint and a manifest to scores, JSON and page.

Dimension key: `N` utterances.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from speechmlp.audio.condition_names import SWEEPS, parse_condition
from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters, load_negatives
from speechmlp.data.manifest import Split, shared_speakers
from speechmlp.data.packed import PackedCorpus, open_packed
from speechmlp.errors import UserError
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.comparison import compare
from speechmlp.evaluation.groups import find_groups
from speechmlp.evaluation.html_examples import find_examples
from speechmlp.evaluation.html_report import render_report
from speechmlp.evaluation.metrics import find_mistakes, score, score_rejection
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.evaluation.results import Evaluation, Rejection, Robustness
from speechmlp.evaluation.saliency import mean_pictures
from speechmlp.files import whole_folder
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import predict, select_device
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint
from speechmlp.runs.folder import newest_checkpoint

PAGE = "index.html"
"""The report's page in its folder."""
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
    device: str = "auto",
    report: str | Path | None = None,
    log: Callable[[str], None] = _ignore,
    warn: Callable[[str], None] = _ignore,
) -> Evaluation:
    """Evaluates a trained classifier on the utterances of a manifest.

    Args:
        checkpoint: a `best.pt`; None for that of the newest run.
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
        device: auto, cpu, cuda or cuda:N.
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
    path = Path(checkpoint) if checkpoint is not None else newest_checkpoint(runs)
    trained = load_checkpoint(path)
    config = _configured(trained.config, manifest, on_error, skip_limit, outside, device)
    place = select_device(config.device)
    packed = open_packed(config.corpus)
    split = _split_of(packed, split, config)
    utterances = SpokenLetters(packed, split)

    newest = " (the newest run)" if checkpoint is None else ""
    log(f"Checkpoint: {path}{newest}, epoch {_epoch_of(trained)}")
    for line in _describe(packed, split, config, condition):
        log(line)
    for problem in packed.skipped:
        warn(f"left out: {problem}")

    corpus = utterances.in_condition(condition, place)
    model = trained.model.to(place)
    logits, labels = predict(model, corpus)
    temperature, speakers = trained.temperature, utterances.speakers
    ids = [utterance.id for utterance in utterances.utterances]
    comparison = None
    if compare_with is not None:
        other = load_checkpoint(compare_with).model.to(place)
        comparison = compare(str(compare_with), logits, predict(other, corpus)[0], labels, speakers, ids)
    robustness = _sweep(model, utterances, labels, place) if sweep else ()
    if negatives is None:
        negatives = [] if manifest is not None else [part.manifest for part in config.corpus.negatives]
    rejection = _reject(trained, logits, config, negatives, split, condition, place) if negatives else None
    mistakes = find_mistakes(logits, labels, speakers, ids, temperature)
    groups = find_groups(utterances.utterances, utterances.lengths, utterances.power())
    evaluation = Evaluation(
        checkpoint=str(path),
        manifest=config.corpus.manifest,
        split=split,
        condition=condition,
        temperature=temperature,
        left_out=len(packed.skipped),
        scores=score(logits, labels, speakers, temperature=temperature, groups=groups),
        mistakes=tuple(mistake for _, mistake in mistakes),
        robustness=robustness,
        comparison=comparison,
        rejection=rejection,
    )
    if report is not None:
        positions = [position for position, _ in mistakes[:EXAMPLES]]
        write_report(report, evaluation, trained, corpus, positions, labels, logits.argmax(1) == labels)
    return evaluation


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


def _epoch_of(checkpoint: Checkpoint) -> int:
    return next((record.epoch for record in reversed(checkpoint.history) if record.best), len(checkpoint.history))


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
    model: SpeechClassifier, utterances: SpokenLetters, labels: Tensor, device: torch.device
) -> tuple[Robustness, ...]:
    """Returns the accuracy at every level of every listening condition."""
    bootstrap = SpeakerBootstrap(utterances.speakers)
    found = []
    names = [(kind, name) for kind, conditions in SWEEPS.items() for name in conditions]
    for kind, name in tqdm(names, "listening", disable=None):
        right = predict(model, utterances.in_condition(name, device))[0].argmax(1) == labels
        accuracy = bootstrap.share(right)
        if accuracy is not None:
            found.append(Robustness(kind=kind, condition=name, level=parse_condition(name)[1], accuracy=accuracy))
    return tuple(found)


def _reject(
    trained: Checkpoint,
    logits: Tensor,
    config: Config,
    negatives: Sequence[str | Path],
    split: Split | None,
    condition: str,
    device: torch.device,
) -> Rejection:
    """Scores the rejection of recordings without a letter, compared with letters whose logits are [N, 26]."""
    parts, kinds = load_negatives(config.corpus, [str(manifest) for manifest in negatives], split)
    others = torch.cat([predict(trained.model, part.in_condition(condition, device))[0] for part in parts])
    return score_rejection(logits, others, kinds, trained.reject_below, trained.temperature)


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    trained: Checkpoint,
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
        corpus: the N utterances.
        mistaken: positions of the first of the evaluation's mistakes, which are shown.
        labels: int64 [N].
        right: bool [N], which utterances are recognised.

    Raises:
        UserError: matplotlib is not installed, or the folder cannot be written or holds something else.
    """
    model, device = trained.model, corpus.device
    waveforms = corpus.take(torch.tensor(mistaken, dtype=torch.int64, device=device)).waveforms
    examples = find_examples(model, waveforms, evaluation.mistakes[: len(mistaken)])
    positions = [((labels == letter) & right).nonzero()[:OF_EACH, 0] for letter in set(labels.tolist())]
    known = corpus.take(torch.cat(positions).to(device))
    page = render_report(evaluation, trained.history, examples, mean_pictures(model, known.waveforms, known.labels))
    with whole_folder(folder, mark=PAGE) as new:
        (new / "evaluation.json").write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (new / PAGE).write_text(page, encoding="utf-8")
