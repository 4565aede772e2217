"""The corpora of a training run, opened from its configuration."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from speechmlp.audit.corpus import quick_check
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters
from speechmlp.data.fingerprints import Fingerprints
from speechmlp.data.manifest import Utterance
from speechmlp.data.packed import PackedCorpus, open_packed
from speechmlp.data.sampler import Sampler

CHECKED = 1000
"""Most training letters whose accuracy is measured after each epoch; all of a large corpus would take too long."""


@dataclass(frozen=True)
class Corpora:
    """The data that a run is trained and validated on.

    Attributes:
        packed: the main corpus.
        training: the utterances to train on: the main corpus's, those mixed in, and the negatives.
        corpus: the same, concatenated, on the device.
        sampler: chooses the utterances of an epoch.
        valid: the validation split, on the device.
        valid_utterances: the lines of the manifest in it.
        negatives: how many of `training` are non-letters, the last ones.
    """

    packed: PackedCorpus
    training: list[SpokenLetters]
    corpus: DeviceCorpus
    sampler: Sampler
    valid: DeviceCorpus
    valid_utterances: list[Utterance]
    negatives: int

    @classmethod
    def open(cls, config: Config, device: torch.device) -> "Corpora":
        """Opens the corpora of a configuration; decodes them if that has not been done.

        Raises:
            UserError: a manifest or a recording cannot be read, or a split is empty.
        """
        section = config.corpus
        labels, audio = config.labels, config.input.audio
        packed = open_packed(section, labels=labels, audio=audio)
        validation = SpokenLetters(packed, "valid")
        training = [SpokenLetters(packed, *(("train", "valid") if section.learn == "train+valid" else ("train",)))]
        for parts, letters in ((section.mix, True), (section.negatives, False)):
            for part in parts:
                further = open_packed(section.model_copy(update={"manifest": part.manifest}), letters, labels, audio)
                training.append(SpokenLetters(further, "train"))
        corpus = DeviceCorpus.join([letters.to(device) for letters in training])
        weights = [part.weight for part in (*section.mix, *section.negatives)]
        sampler = Sampler(corpus.labels, [len(letters) for letters in training], weights, config.training.balance)
        negatives = len(section.negatives)
        return cls(packed, training, corpus, sampler, validation.to(device), validation.utterances, negatives)

    def print_summary(self, config: Config) -> None:
        """Prints the size of the corpora and the findings of a quick check."""
        for finding in quick_check(self.packed) if config.corpus.audit else ():
            tqdm.write(f"audit: {finding.line()}", file=sys.stderr)
        for problem in self.packed.skipped:
            tqdm.write(f"left out: {problem}", file=sys.stderr)
        how = "decoded" if self.packed.decoded else "already decoded"
        counts = f"{len(self.training[0])} training and {len(self.valid)} validation letters"
        print(f"Corpus: {config.corpus.manifest}: {counts} ({how})")
        further = zip((*config.corpus.mix, *config.corpus.negatives), self.training[1:], strict=True)
        for part, utterances in further:
            print(f"Mixed in: {part.manifest}: {part.weight:g} for each of them, out of {len(utterances)}")

    def checked(self) -> torch.Tensor:
        """Returns positions int64 [M] of training letters of the main corpus, at most `CHECKED`, evenly spaced."""
        count = len(self.training[0])
        return torch.linspace(0, count - 1, min(CHECKED, count), dtype=torch.float64).round().long()

    def fingerprints(self) -> Fingerprints:
        """Returns the fingerprints of all letters that are trained on."""
        letters = self.training[: len(self.training) - self.negatives]
        return Fingerprints(one for part in letters for one in part.fingerprints())

    def valid_negatives(self, config: Config) -> list[DeviceCorpus]:
        """Returns the validation split of each corpus of non-letters that has one, on the device."""
        found = []
        for part in config.corpus.negatives:
            reading = config.corpus.model_copy(update={"manifest": part.manifest})
            packed = open_packed(reading, False, config.labels, config.input.audio)
            if any(utterance.split == "valid" for utterance in packed.utterances):
                found.append(SpokenLetters(packed, "valid").to(self.valid.device))
        return found

    def ids_at(self, positions: Sequence[int]) -> list[str]:
        """Returns the names of training utterances."""
        names = [utterance.id for part in self.training for utterance in part.utterances]
        return [names[position] for position in positions]
