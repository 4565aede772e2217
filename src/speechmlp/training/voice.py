"""The takes of a voice that a model is adapted to, and letters of everybody else."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.audio_format import FULL_SCALE
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters
from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import predict

FEWEST = 5
"""Letters of which there must be a take."""
KNOWN = 0.25
"""Fraction of the takes that the starting model must recognise; below it, labels or recordings are probably wrong."""
SILENT = 0.001
"""Largest sample of a take that counts as silence, relative to full scale."""


def of_speaker(utterances: Sequence[Utterance], speaker: str | None, source: str) -> list[Utterance]:
    """Returns the takes of one voice.

    Raises:
        UserError: there are several voices and none was chosen, or the chosen one has no take, or there are too few.
    """
    counts = Counter(utterance.speaker for utterance in utterances)
    listed = ", ".join(f"{name} ({count} takes)" for name, count in sorted(counts.items()))
    if speaker is not None and speaker not in counts:
        raise UserError(f"{source}: no take of the speaker {speaker!r}; found {listed}")
    if speaker is None and len(counts) > 1:
        raise UserError(f"{source}: expected one voice, found {len(counts)}: {listed}; choose one: --speaker NAME")
    taken = [utterance for utterance in utterances if speaker in (None, utterance.speaker)]
    letters = sorted({utterance.letter for utterance in taken})
    if len(letters) < FEWEST:
        raise UserError(
            f"{source}: expected takes of {FEWEST} letters or more, found {len(taken)} of {', '.join(letters)}; record "
            "more, best three or more of every letter"
        )
    return taken


def hold_out(utterances: Sequence[Utterance], seed: int) -> list[Utterance]:
    """Returns the takes with splits: a third of each letter's, at least one of two, is for measuring (valid)."""
    takes: dict[str, list[int]] = defaultdict(list)
    for number in torch.randperm(len(utterances), generator=torch.Generator().manual_seed(seed)).tolist():
        takes[utterances[number].letter].append(number)
    kept = {number for numbers in takes.values() if len(numbers) > 1 for number in numbers[: max(1, len(numbers) // 3)]}
    return [replace(one, split="valid" if number in kept else "train") for number, one in enumerate(utterances)]


@dataclass(frozen=True)
class Voice:
    """The decoded takes of a voice: those to train on, and those held out, if there are any."""

    takes: SpokenLetters
    held_out: SpokenLetters | None

    @classmethod
    def read(cls, utterances: Sequence[Utterance], config: Config, scratch: Path, source: str) -> "Voice":
        """Decodes takes.

        Raises:
            UserError: takes cannot be read or are silent.
        """
        manifest = scratch / "manifest.tsv"
        write_manifest(manifest, [replace(one, path=one.path.absolute()) for one in utterances])
        reading = {"manifest": str(manifest), "cache": str(scratch), "outside": True, "shared_speakers": True}
        packed = open_packed(config.corpus.model_copy(update=reading), labels=config.labels, audio=config.input.audio)
        loudest = packed.waveforms.abs().amax(1) / FULL_SCALE
        silent = [one for one, peak in zip(packed.utterances, loudest.tolist(), strict=True) if peak < SILENT]
        if silent:
            raise UserError(
                f"{source}: {len(silent)} of {len(packed.utterances)} takes are silent; record them again or remove "
                "them",
                *(f"{one.path}: silent; expected the letter {one.letter}" for one in silent),
            )
        measured = any(utterance.split == "valid" for utterance in packed.utterances)
        return cls(SpokenLetters(packed, "train"), SpokenLetters(packed, "valid") if measured else None)

    @property
    def speaker(self) -> str:
        """The voice's name."""
        return self.takes.speakers[0]


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for N recordings: logits float32 [N, L], and their labels int64 [N]."""

    logits: Tensor
    labels: Tensor

    @classmethod
    def of(cls, model: SpeechClassifier, corpus: DeviceCorpus) -> "Predictions":
        """Returns the predictions of a model for a corpus."""
        return cls(*predict(model, corpus))

    @property
    def right(self) -> int:
        """How many recordings are recognised."""
        return int((self.logits.argmax(1) == self.labels).sum())

    @property
    def loss(self) -> float:
        """The mean cross entropy."""
        return F.cross_entropy(self.logits, self.labels).item()


def require_known(predictions: Sequence[Predictions], source: str) -> None:
    """Checks that the starting model recognises some of the takes.

    Args:
        predictions: of the starting model, for all takes.
        source: of the takes, for the message.

    Raises:
        UserError: hardly any.
    """
    right = sum(each.right for each in predictions)
    count = sum(len(each.labels) for each in predictions)
    if right < KNOWN * count:
        raise UserError(
            f"{source}: the starting model recognises {right} of {count} takes as their letters; expected a quarter or "
            "more: check that each is in the folder of the letter that is said, and that a letter is said at all"
        )


@dataclass(frozen=True)
class Others:
    """Letters of other people, as far as they are at hand.

    Attributes:
        replay: training splits of the corpora, to train on.
        weights: of each of them.
        valid: validation split of the first of them that has one; None without.
        notes: what is not at hand.
    """

    replay: list[SpokenLetters]
    weights: list[float]
    valid: DeviceCorpus | None
    notes: tuple[str, ...]

    @classmethod
    def open(cls, config: Config, device: torch.device) -> "Others":
        """Opens the corpora of `corpus.mix` that exist.

        Raises:
            UserError: one that exists cannot be read.
        """
        replay, weights, notes, valid = [], [], [], None
        for part in config.corpus.mix:
            if not Path(part.manifest).exists():
                notes.append(f"not at hand: {part.manifest}")
                continue
            packed = open_packed(
                config.corpus.model_copy(update={"manifest": part.manifest}),
                labels=config.labels,
                audio=config.input.audio,
            )
            splits = {utterance.split for utterance in packed.utterances}
            replay.append(SpokenLetters(packed, "train" if "train" in splits else None))
            weights.append(part.weight)
            if valid is None and "valid" in splits:
                valid = SpokenLetters(packed, "valid").to(device)
                notes.append(f"everybody else: the {len(valid)} validation letters of {part.manifest}")
        return cls(replay, weights, valid, tuple(notes))
