import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from speechmlp.config.schema import CorpusConfig
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters, stacked
from speechmlp.data.manifest import Split, read_manifest, write_manifest
from speechmlp.data.packed import PackedCorpus, open_packed
from speechmlp.data.sampler import num_batches
from speechmlp.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def letters(tone_corpus: Path, tmp_path: Path) -> SpokenLetters:
    return SpokenLetters.from_manifest(str(tone_corpus), "train", cache=str(tmp_path / "cache"))


def test_items_are_like_those_of_torchaudio(letters: SpokenLetters) -> None:
    waveform, sample_rate, label, speaker, utterance_id = letters[27]
    assert (waveform.shape, waveform.dtype, sample_rate) == ((16_000,), torch.float32, 16_000)
    assert (label, speaker, utterance_id) == (1, "s1", "s1/B")
    assert 0.25 < waveform.abs().max() <= 0.35
    assert len(letters) == 4 * 26


def test_the_dataset_works_with_a_dataloader(letters: SpokenLetters) -> None:
    waveforms, rates, labels, speakers, _ = next(iter(DataLoader(letters, batch_size=5)))
    assert waveforms.shape == (5, 16_000)
    assert labels.tolist() == [0, 1, 2, 3, 4]
    assert speakers[0] == "s0"
    assert set(rates.tolist()) == {16_000}


WORKERS = """
import sys
from torch.utils.data import DataLoader
from speechmlp.data.dataset import SpokenLetters

if __name__ == "__main__":
    letters = SpokenLetters.from_manifest(sys.argv[1], "train", cache="cache")
    loader = DataLoader(letters, batch_size=30, num_workers=1, multiprocessing_context=sys.argv[2])
    labels = [label for batch in loader for label in batch[2].tolist()]
    assert labels == letters.labels.tolist(), labels
    print("same", len(labels))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_a_dataloader_may_be_spawned(tone_corpus: Path, tmp_path: Path, method: str) -> None:
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    command = [sys.executable, "-W", "error::UserWarning", str(script), str(tone_corpus), method]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (result.returncode, result.stdout) == (0, "same 104\n"), result.stderr


def test_a_copy_for_another_process_opens_the_cache_again(
    letters: SpokenLetters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(letters)
    assert len(pickled) < 100_000 < letters._waveforms.nbytes
    monkeypatch.chdir("/")
    for copied in (pickle.loads(pickled), copy.deepcopy(letters), copy.copy(letters)):
        assert len(copied) == len(letters)
        assert torch.equal(copied[27].waveform, letters[27].waveform)
        assert copied[27][1:] == letters[27][1:]
        batches = [part.to(CPU).take(torch.tensor([3, 50])) for part in (copied, letters)]
        assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))
    one = torch.ones(1, dtype=torch.int64)
    small = PackedCorpus(torch.ones(1, 16_000, dtype=torch.int16), one, one, letters.utterances[:1], (), decoded=False)
    assert torch.equal(pickle.loads(pickle.dumps(small)).waveforms, small.waveforms)
    shutil.rmtree(tmp_path / "cache")
    expected = "cache/tones-.*: the decoded corpus was deleted or changed since it was opened; open it again"
    with pytest.raises(UserError, match=expected):
        pickle.loads(pickled)
    with pytest.raises(UserError, match=expected):
        next(iter(DataLoader(letters, num_workers=1, multiprocessing_context="spawn")))
    assert letters[27].waveform.any()  # the map that is open stays


def test_a_replaced_cache_is_not_read_as_the_earlier_one(letters: SpokenLetters, tone_corpus: Path) -> None:
    pickled = pickle.dumps(letters)
    kept = [utterance for utterance in read_manifest(tone_corpus) if utterance.letter != "A"]
    write_manifest(tone_corpus, kept)
    SpokenLetters.from_manifest(tone_corpus, "train", cache=tone_corpus.parents[1] / "cache")
    with pytest.raises(UserError, match="the decoded corpus was deleted or changed"):
        pickle.loads(pickled)


def test_a_manifest_may_be_a_path_with_recordings_outside(tone_corpus: Path, tmp_path: Path) -> None:
    inner = tone_corpus.parent / "inner"
    inner.mkdir()
    lines = tone_corpus.read_text().splitlines()
    moved = [lines[0], *(f"{tone_corpus.parent}/{line}" for line in lines[1:])]
    (inner / "manifest.tsv").write_text("\n".join(moved) + "\n")
    with pytest.raises(UserError, match="outside"):
        SpokenLetters.from_manifest(inner / "manifest.tsv", cache=tmp_path / "cache")
    everything = SpokenLetters.from_manifest(inner / "manifest.tsv", cache=tmp_path / "cache", outside=True)
    assert len(everything) == 156


def test_batches_equal_the_items(letters: SpokenLetters) -> None:
    corpus = letters.to(CPU)
    batch = corpus.take(torch.tensor([5, 60]))
    assert torch.equal(batch.waveforms, torch.stack([letters[5].waveform, letters[60].waveform]))
    assert batch.labels.tolist() == [5, 8]
    assert batch.lengths.tolist() == letters.lengths[[5, 60]].tolist()


def test_splits_are_speaker_disjoint_and_complete(tone_corpus: Path, tmp_path: Path) -> None:
    parts = [
        SpokenLetters.from_manifest(str(tone_corpus), split, cache=str(tmp_path / "cache"))
        for split in ("train", "valid", "test")
    ]
    assert sum(map(len, parts)) == 156
    speakers = [set(part.speakers) for part in parts]
    assert not speakers[0] & speakers[1]
    assert not (speakers[0] | speakers[1]) & speakers[2]


def test_an_empty_split_is_an_error(tone_corpus: Path, tmp_path: Path) -> None:
    kept = [utterance for utterance in read_manifest(tone_corpus) if utterance.split != "valid"]
    write_manifest(tone_corpus, kept)
    with pytest.raises(UserError, match="no utterance of the manifest is in split 'valid'; splits found: test, train"):
        SpokenLetters.from_manifest(str(tone_corpus), "valid", cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (1, 4), (3, 1), (4, 4), (5, 4), (6, 4), (9, 4), (64, 64)])
def test_every_utterance_is_in_one_batch(count: int, batch_size: int) -> None:
    numbers = torch.arange(count)
    corpus = DeviceCorpus([torch.zeros(count, 4, dtype=torch.int16)], [numbers], numbers, numbers)
    for order in (None, torch.randperm(count)):
        batches = [batch.labels.tolist() for batch in corpus.batches(batch_size, order)]
        assert sorted(label for batch in batches for label in batch) == list(range(count))
        assert len(batches) == num_batches(count, batch_size)
        assert all(len(batch) >= min(2, count, batch_size) for batch in batches)
        assert all(len(batch) <= batch_size + (batch_size > 1) for batch in batches)


def test_joined_corpora_are_concatenated(letters: SpokenLetters) -> None:
    corpus = DeviceCorpus.join([letters.to(CPU), letters.to(CPU)])
    batch = corpus.take(torch.tensor([104 + 7, 3, 104 + 3]))
    assert torch.equal(batch.waveforms, torch.stack([letters[7].waveform, letters[3].waveform, letters[3].waveform]))


@pytest.mark.cuda
def test_batches_are_the_same_on_cuda(letters: SpokenLetters) -> None:
    positions = torch.tensor([3, 50, 7])
    here, there = letters.to(CPU).take(positions), letters.to(torch.device("cuda")).take(positions.cuda())
    assert torch.equal(here.waveforms, there.waveforms.cpu())
    assert torch.equal(here.labels, there.labels.cpu())


def test_memory_is_released_while_a_large_corpus_is_read(tone_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = open_packed(CorpusConfig(manifest=str(tone_corpus), cache=str(tone_corpus.parent / "cache")))
    before = [batch.waveforms for batch in SpokenLetters(packed, "train").to(CPU).batches(16)]
    released: list[PackedCorpus] = []
    release = PackedCorpus.release

    def count(corpus: PackedCorpus) -> None:
        released.append(corpus)
        release(corpus)

    monkeypatch.setattr(PackedCorpus, "release", count)
    monkeypatch.setattr(DeviceCorpus, "HELD", 1_000_000)
    splits: tuple[Split, ...] = ("train", "valid")
    corpora = [SpokenLetters(packed, split).to(CPU) for split in splits]
    after = [batch.waveforms for batch in DeviceCorpus.join(corpora).batches(16)]
    assert len(released) >= 4  # two corpora, after every 1 MB read
    assert all(torch.equal(one, other) for one, other in zip(before[:-1], after, strict=False))


def test_a_corpus_may_stay_in_main_memory_while_its_batches_are_moved(letters: SpokenLetters) -> None:
    resident = letters.to(CPU)
    # torch distinguishes "cpu:0" from "cpu", so batches take the path to a GPU, except for pinning.
    moving = DeviceCorpus(
        [letters._waveforms], [letters._rows], letters.labels, letters.lengths, device=torch.device("cpu:0")
    )
    positions = torch.tensor([3, 50, 7, 103])
    for one, other in zip(resident.take(positions), moving.take(positions), strict=True):
        assert torch.equal(one, other)
    both, expected = DeviceCorpus.join([moving, moving]), DeviceCorpus.join([resident, resident])
    assert both.device == torch.device("cpu:0")
    order = torch.randperm(208)
    for batch, same in zip(both.batches(64, order), expected.batches(64, order), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(batch, same, strict=True))


def test_corpora_in_one_tensor_give_the_same_batches(letters: SpokenLetters) -> None:
    parts = [letters._waveforms, letters._waveforms[:30], letters._waveforms]
    rows = [torch.tensor([5, 100]), torch.tensor([29, 0, 3]), torch.tensor([77])]
    numbers = torch.arange(6)
    apart = DeviceCorpus(parts, rows, numbers, numbers)
    together = DeviceCorpus(*stacked(parts, rows), numbers, numbers)
    order = torch.tensor([5, 0, 3, 2, 4, 1])
    assert torch.equal(apart.take(order).waveforms, together.take(order).waveforms)


@pytest.mark.cuda
def test_a_corpus_too_large_for_the_gpu_stays_in_main_memory(
    letters: SpokenLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, cuda = torch.tensor([3, 50, 7]), torch.device("cuda")
    resident = letters.to(cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))
    moving = letters.to(cuda)
    assert moving.labels.device == CPU
    for corpus in (moving, DeviceCorpus.join([resident, moving]), DeviceCorpus.join([moving, resident])):
        for one, other in zip(resident.take(positions.cuda()), corpus.take(positions), strict=True):
            assert other.device.type == "cuda"
            assert torch.equal(one, other)
