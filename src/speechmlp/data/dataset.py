"""Spoken letters as a PyTorch dataset and as batches on a device.

Dimension key: `N` utterances, `B` batch, `T` samples of the input (16000 by default).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from speechmlp.audio.conditions import apply_condition
from speechmlp.audio_format import DEFAULT_INPUT, FULL_SCALE, AudioInput
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.fingerprints import fingerprints_of
from speechmlp.data.manifest import Split, Utterance
from speechmlp.data.packed import PackedCorpus, open_packed
from speechmlp.data.sampler import batch_sizes
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS


class Batch(NamedTuple):
    """A batch of utterances: waveforms float32 [B, T], labels int64 [B], lengths int64 [B] in samples.

    The label of a non-letter is the number of labels.
    """

    waveforms: Tensor
    labels: Tensor
    lengths: Tensor


class Item(NamedTuple):
    """One utterance, as in `torchaudio.datasets`: waveform float32 [T], sample rate in Hz, label from 0."""

    waveform: Tensor
    sample_rate: int
    label: int
    speaker: str
    utterance_id: str


class SpokenLetters(Dataset[Item]):
    """The utterances of one or more splits.

    Indexing gives an `Item`, so the dataset works with `torch.utils.data.DataLoader`. Workers that are spawned open the
    decoded corpus themselves. Training uses `batches` of a `DeviceCorpus` instead, which converts whole batches on the
    device.

    Args:
        packed: the decoded corpus.
        splits: train, valid or test; None, or no argument, for all utterances.

    Raises:
        UserError: the splits have no utterance.
    """

    def __init__(self, packed: PackedCorpus, *splits: Split | None) -> None:
        every = all(split is None for split in splits)
        chosen = [index for index, utterance in enumerate(packed.utterances) if every or utterance.split in splits]
        if not chosen:
            found = sorted({utterance.split or "none" for utterance in packed.utterances})
            raise UserError(
                f"no utterance of the manifest is in split {' or '.join(map(repr, splits))}; "
                f"splits found: {', '.join(found)}; "
                "speechmlp prepare folder gives a manifest its splits, by speaker"
            )
        self.utterances: list[Utterance] = [packed.utterances[index] for index in chosen]
        self._packed = packed
        self._rows = torch.tensor(chosen, device="cpu")
        self.audio = packed.audio
        self.labels = packed.labels[self._rows]
        self.lengths = packed.lengths[self._rows]

    @classmethod
    def from_manifest(
        cls,
        manifest: str | Path,
        split: Split | None = None,
        cache: str | Path = "data/cache",
        *,
        outside: bool = False,
        labels: tuple[str, ...] = LETTERS,
        audio: AudioInput = DEFAULT_INPUT,
    ) -> "SpokenLetters":
        """Returns a split of a manifest; recordings are decoded once into the cache folder.

        Args:
            manifest: TSV, CSV or JSON lines file.
            split: train, valid or test; None for all utterances.
            cache: folder for decoded recordings.
            outside: whether recordings may lie outside of the manifest's folder.
            labels: that recordings may have.
            audio: rate and length of the waveforms.

        Raises:
            UserError: the manifest or a recording cannot be read, or the split is empty.
        """
        corpus = CorpusConfig(manifest=str(manifest), cache=str(cache), outside=outside)
        return cls(open_packed(corpus, labels=labels, audio=audio), split)

    @property
    def _waveforms(self) -> Tensor:
        return self._packed.waveforms

    @property
    def speakers(self) -> list[str]:
        """The speaker of each utterance, [N]."""
        return [utterance.speaker for utterance in self.utterances]

    def fingerprints(self) -> list[bytes]:
        """Returns the fingerprint of each utterance, [N], by which it is known again."""
        return fingerprints_of(self._packed, self._rows.tolist())

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Item:
        utterance = self.utterances[index]
        waveform = self._waveforms[self._rows[index]].float() / FULL_SCALE
        return Item(waveform, self.audio.sample_rate, int(self.labels[index]), utterance.speaker, utterance.id)

    def to(self, device: torch.device) -> "DeviceCorpus":
        """Returns the utterances for training on a device.

        On CUDA the whole split is moved once, as int16 (32 kB per utterance), if it takes at most half of the free
        memory. Otherwise, and on the CPU, it stays memory-mapped and batches are moved.
        """
        size = len(self) * self._waveforms[0].nbytes
        if device.type == "cpu" or size > torch.cuda.mem_get_info(device)[0] // 2:
            indexed = torch.zeros(0, device=device).device  # cuda:0 for cuda
            return DeviceCorpus(
                [self._waveforms], [self._rows], self.labels, self.lengths, [self._packed.release], indexed
            )
        rows = torch.arange(len(self), device=device)
        waveforms = self._waveforms[self._rows].to(device)
        return DeviceCorpus([waveforms], [rows], self.labels.to(device), self.lengths.to(device))

    def power(self) -> Tensor:
        """Returns the mean square [N] of each utterance's recorded samples, relative to full scale."""
        everything = self.to(torch.device("cpu")).batches(1024)
        return torch.cat([batch.waveforms.square().sum(1) / batch.lengths.clamp_min(1) for batch in everything])

    def in_condition(self, condition: str, device: torch.device) -> "DeviceCorpus":
        """Returns the utterances on a device under a listening condition, given by name."""
        if condition == "clean":
            return self.to(device)
        waveforms = apply_condition(
            condition, self._waveforms[self._rows].float() / FULL_SCALE, self.lengths, self.audio.sample_rate
        )
        samples = (waveforms * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
        rows = torch.arange(len(self), device=device)
        return DeviceCorpus([samples.to(device)], [rows], self.labels.to(device), self.lengths.to(device))


def load_negatives(
    corpus: CorpusConfig, manifests: Sequence[str], split: Split | None, like: PackedCorpus | None = None
) -> tuple[list[SpokenLetters], list[str]]:
    """Returns the non-letters of each manifest, and the kind of each recording.

    Args:
        corpus: how to read the recordings.
        manifests: manifests of non-letters; the first folder of a path, relative to the manifest, names the kind;
            if it is `wav`, the manifest's own folder does.
        split: split to use in manifests that have splits; None for all recordings.
        like: a corpus of letters with the labels and the input of the model; None for the default ones.

    Raises:
        UserError: a manifest or a recording cannot be read, or a manifest has no recording in the split.
    """
    parts, kinds = [], []
    for manifest in manifests:
        labels, audio = (LETTERS, DEFAULT_INPUT) if like is None else (like.names, like.audio)
        packed = open_packed(corpus.model_copy(update={"manifest": manifest}), False, labels, audio)
        part = SpokenLetters(packed, split if packed.utterances[0].split is not None else None)
        for path in (utterance.path for utterance in part.utterances):
            inside = path.is_relative_to(Path(manifest).parent)
            kind = path.relative_to(Path(manifest).parent).parts[0] if inside else path.parent.name
            kinds.append(Path(manifest).parent.name if kind == "wav" else kind)
        parts.append(part)
    return parts, kinds


class DeviceCorpus:
    """Utterances of one or more corpora, with batches on a device.

    Keeps references to the waveforms without copying them.

    Args:
        waveforms: int16 [M, T] of each corpus.
        rows: int64, the rows used of each corpus; N in total.
        labels: int64 [N].
        lengths: int64 [N], in samples.
        release: functions that return the memory used by reading to the system.
        device: device of the batches, if it is not that of the labels: waveforms may stay in main memory.
    """

    HELD = 1 << 25
    """Bytes read from memory-mapped corpora before their memory is released."""

    def __init__(
        self,
        waveforms: list[Tensor],
        rows: list[Tensor],
        labels: Tensor,
        lengths: Tensor,
        release: Sequence[Callable[[], None]] = (),
        device: torch.device | None = None,
    ) -> None:
        self.device = labels.device if device is None else device
        self._release = release
        self._read = 0
        self._waveforms = waveforms
        self._sizes = [len(part) for part in rows]
        self._rows = torch.cat(rows)
        self._sources = torch.repeat_interleave(torch.tensor(self._sizes)).to(self._rows.device)
        self.labels = labels
        self._lengths = lengths

    @classmethod
    def join(cls, corpora: "list[DeviceCorpus]") -> "DeviceCorpus":
        """Returns the concatenation of corpora; on a GPU their waveforms are copied into one tensor."""
        # If one of them is in main memory, rows are looked up there, without waiting for the GPU.
        lookup = next((corpus.labels.device for corpus in corpora if corpus.labels.device.type == "cpu"), None)
        lookup = lookup or corpora[0].device
        rows = [part.to(lookup) for corpus in corpora for part in torch.split(corpus._rows, corpus._sizes)]
        waveforms = [part for corpus in corpora for part in corpus._waveforms]
        if lookup.type == "cuda":
            waveforms, rows = stacked(waveforms, rows)
        labels = torch.cat([corpus.labels.to(lookup) for corpus in corpora])
        lengths = torch.cat([corpus._lengths.to(lookup) for corpus in corpora])
        release = [free for corpus in corpora for free in corpus._release]
        return cls(waveforms, rows, labels, lengths, release, corpora[0].device)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: Tensor) -> Batch:
        """Returns the utterances at positions int64 [B], as float32 between -1 and 1."""
        rows = self._rows[positions]
        if len(self._waveforms) == 1:
            waveforms = self._read_rows(self._waveforms[0], rows)
        else:
            waveforms = torch.empty(len(rows), self._waveforms[0].shape[1], dtype=torch.int16, device=self.device)
            sources = self._sources[positions]
            for number, part in enumerate(self._waveforms):
                here = (sources == number).nonzero()[:, 0]
                waveforms[here.to(self.device)] = self._read_rows(part, rows[here])
        self._read += waveforms.nbytes
        if self._read > self.HELD:
            self._read = 0
            for release in self._release:
                release()
        scaled = waveforms.to(torch.float32).mul_(1 / FULL_SCALE)
        labels, lengths = self.labels[positions], self._lengths[positions]
        return Batch(scaled, labels.to(self.device, non_blocking=True), lengths.to(self.device, non_blocking=True))

    def _read_rows(self, waveforms: Tensor, rows: Tensor) -> Tensor:
        """Returns int16 [B, T] on the device; copies from main memory asynchronously, through pinned memory."""
        if waveforms.device == self.device:
            return waveforms.index_select(0, rows.to(self.device))
        pinned = self.device.type == "cuda"
        chosen = torch.empty(len(rows), waveforms.shape[1], dtype=waveforms.dtype, pin_memory=pinned)
        torch.index_select(waveforms, 0, rows, out=chosen)
        return chosen.to(self.device, non_blocking=True)

    def positions(self, batch_size: int, order: Tensor) -> tuple[Tensor, ...]:
        """Returns the positions int64 [B] of each batch of an order int64 [M], on the device that `take` needs."""
        return torch.split(order.to(self._rows.device), batch_sizes(len(order), batch_size))

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yields the utterances in batches.

        Args:
            batch_size: utterances per batch. The last batch may be smaller; a single last utterance joins the batch
                before it, because batch normalisation needs at least two.
            order: positions int64 [M]; None for every utterance once, in the order of the corpus.
        """
        for positions in self.positions(batch_size, torch.arange(len(self)) if order is None else order):
            yield self.take(positions)


def stacked(waveforms: list[Tensor], rows: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the waveforms of several corpora as one tensor, and the rows of their utterances in it.

    With separate tensors, looking up the corpus of each utterance would wait for the GPU at every step.
    """
    sizes = [0, *(len(part) for part in waveforms[:-1])]
    offsets = torch.tensor(sizes).cumsum(0).tolist()
    return [torch.cat(waveforms)], [torch.cat([part + offset for part, offset in zip(rows, offsets, strict=True)])]
