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
