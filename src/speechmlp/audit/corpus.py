"""The complete audit of a corpus: manifest, recordings, copies and, on request, doubtful labels.

Dimension key: `N` utterances, `B` batch, `T` samples.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechmlp.audio.decoding import load_letter
from speechmlp.audio.measures import Sound
from speechmlp.audit.checks import check_manifest, check_sounds, count_letters, in_order, spreads
from speechmlp.audit.duplicates import exact_pairs, near_pairs, report_pairs
from speechmlp.audit.findings import Audit, DoubtedLabel
from speechmlp.audit.label_errors import cross_validate, doubt, folds_of
from speechmlp.audit.reading import Inspection, inspect
from speechmlp.data.manifest import UNKNOWN_SPEAKER, Utterance, read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, label_of
from speechmlp.runs.checkpoint import load_checkpoint


def _load_judge(path: str, utterances: Sequence[Utterance]) -> tuple[Callable[[Tensor], Tensor], set[int]]:
    """Returns a checkpoint as a function from waveforms to probabilities, and the indices of what it was trained on."""
    checkpoint = load_checkpoint(path)
    corpus, model = checkpoint.config.corpus, checkpoint.model.eval()
    trained_on: set[Path] = set()
    sources = [(corpus.manifest, corpus.learn.split("+")), *((mix.manifest, ["train"]) for mix in corpus.mix)]
    for manifest, splits in sources:
        try:
            known = read_manifest(manifest, allow_shared=True, allow_outside=corpus.outside)
        except UserError as error:
            raise UserError(f"{path}: cannot find out which utterances it was trained on: {error}") from error
        trained_on.update(utterance.path.resolve() for utterance in known if utterance.split in splits)

    def classify(waveforms: Tensor) -> Tensor:
        logits: Tensor = model(waveforms)
        return (logits.float() / checkpoint.temperature).softmax(1)

    return classify, {index for index, utterance in enumerate(utterances) if utterance.path.resolve() in trained_on}


def doubt_labels(
    utterances: Sequence[Utterance], inspection: Inspection, trained_on: set[int]
) -> tuple[tuple[DoubtedLabel, ...], int]:
    """Returns the labels that are less probable than another letter, most doubtful first, and how many count as wrong.

    Args:
        utterances: of the manifest.
        inspection: with features, and with the probabilities of a model if there is one.
        trained_on: indices of the utterances that the model was trained on; it cannot judge those.
    """
    indices = list(inspection.sounds)
    known = [utterances[index] for index in indices]
    if inspection.features is None or len(known) < 2:
        return (), 0
    labels = torch.tensor([label_of(utterance.letter) for utterance in known])
    folds = folds_of([utterance.speaker for utterance in known], [utterance.id for utterance in known])
    probabilities = cross_validate(inspection.features, labels, folds)
    if inspection.probabilities is not None:
        new = torch.tensor([index not in trained_on for index in indices])
        probabilities = torch.where(new[:, None], (probabilities + inspection.probabilities) / 2, probabilities)
    found = doubt(probabilities, labels)
    doubts = tuple(
        DoubtedLabel(
            id=known[row].id,
            path=str(known[row].path),
            letter=known[row].letter,
            speaker=known[row].speaker,
            split=known[row].split,
            suggested=LETTERS[int(found.suggested[row])],
            margin=round(float(found.margin[row]), 4),
            confident=bool(found.confident[row]),
        )
        for row in found.margin.argsort(descending=True).tolist()
        if float(found.margin[row]) > 0
    )
    return doubts, int(found.confident.sum())


def audit_corpus(
    manifest: str, doubts: bool = False, checkpoint: str | None = None, outside: bool = False
) -> tuple[Audit, list[Utterance], Mapping[int, Sound]]:
    """Returns the audit of a corpus, its utterances, and the measurements of each readable recording by its index.

    Args:
        manifest: the utterances.
        doubts: whether to look for wrong labels too, by cross-validation.
        checkpoint: a model that helps with utterances that it was not trained on; implies `doubts`.
        outside: whether recordings may lie outside the manifest's folder.

    Raises:
        UserError: the manifest or the checkpoint cannot be read.
    """
    utterances = read_manifest(manifest, allow_shared=True, allow_outside=outside)
    classify, trained_on = _load_judge(checkpoint, utterances) if checkpoint else (None, set())
    inspection = inspect(utterances, doubts or checkpoint is not None, classify)
    sounds = inspection.sounds
    exact = exact_pairs({index: sound.digest for index, sound in sounds.items()})

    def second(index: int) -> Tensor:
        utterance = utterances[index]
        return load_letter(utterance.path, utterance.start, utterance.end)[0]

    near = near_pairs(inspection.spectra, list(sounds), second, exact)
    doubted, wrong = (None, None)
    if inspection.features is not None:
        doubted, wrong = doubt_labels(utterances, inspection, trained_on)
    letters = count_letters(utterances)
    audit = Audit(
        manifest=manifest,
        num_utterances=len(utterances),
        num_speakers=len({utterance.speaker for utterance in utterances} - {UNKNOWN_SPEAKER}),
        splits={split: sum(counts.values()) for split, counts in letters.items()},
        letters=letters,
        findings=in_order(
            [
                *check_manifest(utterances),
                *inspection.findings(utterances),
                *check_sounds(utterances, sounds),
                *report_pairs(utterances, exact),
                *report_pairs(utterances, [pair for pair, _ in near], near=True),
            ]
        ),
        spreads=spreads(sounds.values()),
        doubts=doubted,
        wrong_labels=wrong,
    )
    return audit, utterances, sounds
