"""The packed corpus: all utterances decoded once, as int16 [N, T] in one memory-mapped file.

There is one pack per manifest and set of reading settings. It stores a fingerprint of the manifest's content and of
the size and modification times of each recording: a second run starts at once, and changed files are detected.
"""

import hashlib
import json
import mmap
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from speechmlp.audio.decoding import load_letter
from speechmlp.audio_format import DEFAULT_INPUT, FULL_SCALE, AudioInput
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError
from speechmlp.files import replacing, write_text
from speechmlp.labels import LETTERS, NOT_A_LETTER, label_of

TOGETHER = 16
"""Recordings that a process decodes at a time."""
WORTH = 250
"""Fewest recordings per process; fewer are decoded faster than a process starts."""
FORMAT = 3
"""Increased whenever decoding or the layout changes, so that older packs are replaced."""
LARGE = 1 << 29
"""Bytes of a decoded corpus that may stay in memory: 512 MB, 16,000 utterances."""

Decoded = tuple[NDArray[np.int16], int] | str
"""The samples and how many of them are recorded, or the reason why a recording cannot be read."""


@dataclass(frozen=True)
class PackedCorpus:
    """A decoded corpus.

    Attributes:
        waveforms: int16 [N, T], memory-mapped; divide by 32768 for -1 to 1.
        labels: int64 [N], positions in `names`; their number for non-letters.
        lengths: int64 [N], number of recorded samples of each waveform.
        utterances: the N lines of the manifest.
        skipped: one line for each utterance that could not be read.
        decoded: whether this call decoded the recordings, rather than reading the cache.
        mapping: the memory map of `waveforms`.
        folder: where it lies; None if it is in memory only.
        fingerprint: of the manifest and the recordings that it was decoded from.
        names: of the labels.
        audio: rate and length of the waveforms.

    A copy for another process (`pickle`) opens the file again there and does not contain the waveforms.
    """

    waveforms: Tensor
    labels: Tensor
    lengths: Tensor
    utterances: list[Utterance]
    skipped: tuple[str, ...]
    decoded: bool
    mapping: mmap.mmap | None = field(default=None, repr=False, compare=False)
    folder: Path | None = None
    fingerprint: str = ""
    names: tuple[str, ...] = LETTERS
    audio: AudioInput = DEFAULT_INPUT

    def __reduce__(self) -> Any:
        state = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("waveforms", "mapping")}
        if self.folder is None:
            return _in_memory, (self.waveforms.clone(), state)
        _require_unchanged(
            self.folder, self.fingerprint, len(self.lengths), self.audio
        )  # before a process starts for it
        return _reopen, (state,)

    def release(self) -> None:
        """Returns the memory used by reading a large corpus to the system; later reads come from the file."""
        large = self.waveforms.nbytes > LARGE
        if large and self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


def _fingerprint(manifest: Path, utterances: Sequence[Utterance]) -> str:
    # Modification times instead of the content: hashing a large corpus would take longer than decoding a small one.
    digest = hashlib.sha256(manifest.read_bytes())
    for path in dict.fromkeys(utterance.path for utterance in utterances):
        try:
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}\0missing\n".encode())
    return digest.hexdigest()


def to_samples(waveform: Tensor) -> Tensor:
    """Returns a waveform float32 [T] between -1 and 1 as int16 [T]."""
    return (waveform * FULL_SCALE).round_().clamp_(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)


def _decode(utterance: Utterance, margin: float, audio: AudioInput) -> Decoded:
    try:
        kept = margin if utterance.margin is None else utterance.margin
        waveform, length = load_letter(utterance.path, utterance.start, utterance.end, kept, audio)
    except UserError as error:
        return str(error)
    samples: NDArray[np.int16] = to_samples(waveform).numpy()
    if not samples.any() and utterance.letter != NOT_A_LETTER:
        # Training on it would only teach a wrong label.
        part = "" if utterance.start is None else f" between {utterance.start:g} and {utterance.end:g} s"
        return f"{utterance.path}: contains only zeros{part}; expected a recorded letter"
    return samples, length


class _Parts(Dataset[list[Decoded]]):
    """A dataset whose items are `TOGETHER` decoded utterances each."""

    def __init__(self, utterances: Sequence[Utterance], margin: float, audio: AudioInput) -> None:
        self._utterances, self._margin, self._audio = utterances, margin, audio

    def __len__(self) -> int:
        return -(-len(self._utterances) // TOGETHER)

    def __getitem__(self, part: int) -> list[Decoded]:
        some = self._utterances[part * TOGETHER : (part + 1) * TOGETHER]
        return [_decode(utterance, self._margin, self._audio) for utterance in some]


def _as_it_is(decoded: list[Decoded]) -> list[Decoded]:
    return decoded


def _decode_all(utterances: Sequence[Utterance], margin: float, audio: AudioInput) -> Iterator[Decoded]:
    """Yields each utterance's samples and length, or why it cannot be read, in order, using bounded memory."""
    # Processes, because threads would pass Python's lock around after every operation, which is slower.
    # Only forked ones: each spawned process would import torch, and run a script without a main guard again.
    forks = multiprocessing.get_start_method() == "fork"
    workers = min(os.cpu_count() or 1, len(utterances) // WORTH) if forks else 0
    own = torch.Generator()  # a loader draws a seed, which must not change later random numbers
    parts: DataLoader[list[Decoded]] = DataLoader(
        _Parts(utterances, margin, audio), batch_size=None, num_workers=workers, collate_fn=_as_it_is, generator=own
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers
    try:
        for part in parts:
            yield from part
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise UserError("a decoding process was killed, perhaps for lack of memory; run the command again") from error
    finally:
        torch.set_num_threads(threads)


def _write(
    folder: Path,
    utterances: Sequence[Utterance],
    corpus: CorpusConfig,
    fingerprint: str,
    name: str,
    audio: AudioInput,
) -> None:
    kept: list[int] = []
    lengths: list[int] = []
    problems: list[str] = []
    with (folder / "waveforms.i16").open("wb") as file:
        results = _decode_all(utterances, corpus.margin, audio)
        for index, result in enumerate(tqdm(results, name, len(utterances), unit=" files", disable=None)):
            if isinstance(result, str):
                problems.append(result)
            else:
                file.write(result[0].tobytes())
                kept.append(index)
                lengths.append(result[1])
    if problems and (corpus.on_error == "fail" or not kept):
        hint = f"{len(problems)} of {len(utterances)} recordings cannot be read; corpus.on_error=skip skips them"
        raise UserError(hint, *problems)
    index_of = {"fingerprint": fingerprint, "kept": kept, "lengths": lengths, "skipped": problems}
    write_text(folder / "index.json", json.dumps(index_of))


def _in_memory(waveforms: Tensor, state: dict[str, Any]) -> PackedCorpus:
    return PackedCorpus(waveforms, **state)


def _reopen(state: dict[str, Any]) -> PackedCorpus:
    count = len(state["lengths"])
    _require_unchanged(state["folder"], state["fingerprint"], count, state["audio"])
    samples = _map(state["folder"], count, state["audio"])
    return PackedCorpus(torch.from_numpy(samples), **state, mapping=samples._mmap)  # type: ignore[attr-defined]


def _require_unchanged(folder: Path, fingerprint: str, count: int, audio: AudioInput) -> None:
    """Checks that the pack of an open corpus is still there.

    Raises:
        UserError: it is not, or it is another one.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        size = (folder / "waveforms.i16").stat().st_size
        same = (index["fingerprint"], len(index["kept"]), size) == (fingerprint, count, count * audio.num_samples * 2)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(f"{folder}: the decoded corpus was deleted or changed since it was opened; open it again")


def _map(folder: Path, count: int, audio: AudioInput) -> "np.memmap[Any, np.dtype[np.int16]]":
    """Returns the samples of a pack, int16 [N, T]."""
    # Copy-on-write: torch requires writable memory, and writes must not reach the file.
    return np.memmap(folder / "waveforms.i16", np.int16, "c", shape=(count, audio.num_samples))


def _open(
    folder: Path,
    utterances: Sequence[Utterance],
    fingerprint: str,
    decoded: bool,
    names: tuple[str, ...],
    audio: AudioInput,
) -> PackedCorpus | None:
    """Returns the pack in a folder, or None if there is none with this fingerprint."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        kept, lengths = index["kept"], index["lengths"]
        if index["fingerprint"] != fingerprint:
            return None
        samples = _map(folder, len(kept), audio)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    chosen = [utterances[position] for position in kept]
    labels = [len(names) if one.letter == NOT_A_LETTER else label_of(one.letter, names) for one in chosen]
    return PackedCorpus(
        waveforms=torch.from_numpy(samples),
        labels=torch.tensor(labels, device="cpu"),
        lengths=torch.tensor(lengths, device="cpu"),
        utterances=chosen,
        skipped=tuple(index["skipped"]),
        decoded=decoded,
        mapping=samples._mmap,  # type: ignore[attr-defined]  # numpy has no public name for it
        folder=folder.absolute(),
        fingerprint=fingerprint,
        names=names,
        audio=audio,
    )


def open_packed(
    corpus: CorpusConfig,
    letters: bool = True,
    labels: tuple[str, ...] = LETTERS,
    audio: AudioInput = DEFAULT_INPUT,
) -> PackedCorpus:
    """Returns the packed corpus of a manifest; decodes it first if it is not in the cache or has changed.

    Args:
        corpus: the manifest, the cache folder and how to read recordings.
        letters: whether letters are expected, or non-letters.
        labels: that letters may have.
        audio: rate and length of the decoded waveforms.

    Raises:
        UserError: the manifest or recordings cannot be read (see `corpus.on_error` and `corpus.skip_limit`), or the
            cache folder cannot be written.
    """
    manifest = Path(corpus.manifest)
    utterances = read_manifest(manifest, letters, corpus.shared_speakers, corpus.outside, labels=labels)
    fingerprint = _fingerprint(manifest, utterances)
    settings = f"{FORMAT}\0{audio.sample_rate}\0{manifest.resolve()}\0{corpus.margin}\0{corpus.on_error}"
    if audio.num_samples != DEFAULT_INPUT.num_samples:
        settings += f"\0{audio.num_samples}"
    name = manifest.resolve().parent.name or "corpus"
    folder = Path(corpus.cache) / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    if (found := _open(folder, utterances, fingerprint, False, labels, audio)) is not None:
        return _within_limit(found, corpus)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Runs that start at the same time decode once: the others wait here and then find the pack.
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if (found := _open(folder, utterances, fingerprint, False, labels, audio)) is not None:
                return _within_limit(found, corpus)
            with replacing(folder) as partial:
                partial.mkdir()
                _write(partial, utterances, corpus, fingerprint, f"decoding {name}", audio)
            packed = _open(folder, utterances, fingerprint, True, labels, audio)
    except OSError as error:
        raise UserError(f"{corpus.cache}: cannot write the decoded corpus: {error.strerror or error}") from error
    if packed is None:
        raise UserError(f"{folder}: the decoded corpus changed while it was opened; run the command again")
    return _within_limit(packed, corpus)


def _within_limit(packed: PackedCorpus, corpus: CorpusConfig) -> PackedCorpus:
    count = len(packed.skipped)
    total = count + len(packed.utterances)
    if count > corpus.skip_limit * total:
        raise UserError(
            f"{corpus.manifest}: {count} of {total} recordings cannot be read, more than the fraction of "
            f"{corpus.skip_limit:g} that corpus.skip_limit allows",
            *packed.skipped,
        )
    return packed
