"""The training loop: what it trains, when it stops, and that it repeats itself."""

import copy
import math
from pathlib import Path

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters
from speechmlp.data.manifest import read_manifest, write_manifest
from speechmlp.data.sampler import Sampler
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import predict
from speechmlp.runs.history import EpochRecord, kept_epoch
from speechmlp.training.corpora import Corpora
from speechmlp.training.divergence import NonFiniteError
from speechmlp.training.loop import Task, train
from speechmlp.training.losses import fit_normalizer
from speechmlp.training.optimizers import build_optimizer

CPU = torch.device("cpu")


@pytest.fixture
def corpora(tone_corpus: Path, tmp_path: Path) -> tuple[DeviceCorpus, DeviceCorpus]:
    cache = str(tmp_path / "cache")
    return (
        SpokenLetters.from_manifest(str(tone_corpus), "train", cache).to(CPU),
        SpokenLetters.from_manifest(str(tone_corpus), "valid", cache).to(CPU),
    )


def configured(*overrides: str) -> Config:
    base = [
        "front_end={kind: log_mel, hop_length: 800}",
        "training.optimizer.lr=0.003",
        "model.hidden=[64]",
    ]
    return load_config(None, [*base, *overrides])


def sampler(corpus: DeviceCorpus) -> Sampler:
    return Sampler(corpus.labels, [len(corpus)], [], balance=0.0)


def fit(config: Config, corpora: tuple[DeviceCorpus, DeviceCorpus]) -> tuple[SpeechClassifier, list[EpochRecord]]:
    torch.manual_seed(config.training.seed)
    model = SpeechClassifier(config)
    fit_normalizer(model, corpora[0])
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    return model, list(train(Task(model, corpora[0], sampler(corpora[0]), corpora[1], config.training), optimizer))


def test_it_learns_what_can_be_learnt(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    model, records = fit(configured("training.epochs=40"), corpora)
    assert records[0].train_loss < math.log(26) + 0.3
    assert records[-1].train_loss < records[0].train_loss
    assert max(record.valid_accuracy for record in records) > 0.9
    logits, labels = predict(model, corpora[1])
    assert logits.shape == (26, 26)
    assert (logits.argmax(1) == labels).double().mean().item() == records[-1].valid_accuracy
    assert [record.stop for record in records[:-1]] == [None] * 39
    assert records[-1].stop == "all 40 epochs done"


def test_the_same_seed_gives_the_same_bits(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    config = configured("training.epochs=3", "model.dropout=0.3")
    (one, records), (same, again) = fit(config, corpora), fit(config, corpora)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert [r.train_loss for r in records] == [r.train_loss for r in again]
    _, other = fit(configured("training.epochs=3", "model.dropout=0.3", "training.seed=1"), corpora)
    assert [r.train_loss for r in records] != [r.train_loss for r in other]


def test_it_stops_under_a_loss(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    _, records = fit(configured("training.epochs=50", "training.stop_at_loss=1.5"), corpora)
    assert len(records) < 50
    assert records[-1].train_loss < 1.5 <= records[-2].train_loss
    assert records[-1].stop is not None
    assert "under stop_at_loss 1.5" in records[-1].stop


def test_it_stops_without_improvement(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    frozen = configured("training.epochs=50", "training.optimizer.lr=1e-30", "training.patience=3")
    _, records = fit(frozen, corpora)
    assert len(records) == 4
    assert [record.best for record in records] == [True, False, False, False]
    assert records[-1].stop == "no better validation result in 3 epochs"


def test_the_last_epoch_can_be_kept(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    _, records = fit(configured("training.epochs=6", "training.optimizer.lr=1e-30", "training.keep=last"), corpora)
    assert [record.best for record in records] == [True] * 6
    assert kept_epoch(records, configured("training.keep=last").training) == records[-1]
    assert kept_epoch(records, configured().training) == records[0]


def test_training_in_two_parts_is_training_in_one(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    config = configured("training.epochs=4", "model.dropout=0.2", "training.schedule={kind: cosine}")
    whole, expected = fit(config, corpora)
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    history: list[EpochRecord] = []
    task = Task(model, corpora[0], sampler(corpora[0]), corpora[1], config.training, history=history)
    for record in train(task, optimizer):
        history.append(record)
        if record.epoch == 2:
            break
    torch.rand(7)  # whatever happened in between
    history += train(task, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    assert [(r.train_loss, r.best) for r in history] == [(r.train_loss, r.best) for r in expected]


def test_gradients_are_clipped(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    sgd = "training.optimizer={kind: sgd, lr: 1.0}"
    config = configured("training.epochs=1", "training.batch_size=104", sgd, "training.clip_grad_norm=0.001")
    torch.manual_seed(0)
    before = SpeechClassifier(config)
    after, _ = fit(config, corpora)
    moved = [(a - b).square().sum() for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert torch.stack(moved).sum().sqrt().item() == pytest.approx(0.001, rel=1e-3)


def test_a_loss_that_explodes_is_told(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    with pytest.raises(
        NonFiniteError,
        match=r"epoch 1, step \d of it: the training loss is (nan|inf), .* a smaller training\.opt",
    ):
        fit(configured("training.optimizer={kind: sgd, lr: 1e30}", "training.epochs=5"), corpora)


@pytest.mark.cuda
def test_cuda_learns_as_the_cpu_does(tone_corpus: Path, tmp_path: Path) -> None:
    config = configured("training.epochs=5")
    losses = []
    for device in (CPU, torch.device("cuda")):
        torch.manual_seed(0)
        model = SpeechClassifier(config).to(device)
        splits = [
            SpokenLetters.from_manifest(str(tone_corpus), s, str(tmp_path / "c")).to(device) for s in ("train", "valid")
        ]
        optimizer = build_optimizer(config.training.optimizer, model.parameters())
        losses.append(
            [
                r.train_loss
                for r in train(Task(model, splits[0], sampler(splits[0]), splits[1], config.training), optimizer)
            ]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_the_average_of_weights_follows_and_is_what_is_validated(corpora: tuple[DeviceCorpus, DeviceCorpus]) -> None:
    config = configured("training.epochs=12", "training.ema=0.9")
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    average = copy.deepcopy(model).eval()
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    drawn = sampler(corpora[0])
    records = list(train(Task(model, corpora[0], drawn, corpora[1], config.training, average), optimizer))
    logits, labels = predict(average, corpora[1])
    assert (logits.argmax(1) == labels).double().mean().item() == records[-1].valid_accuracy
    assert not torch.equal(logits, predict(model, corpora[1])[0])
    assert records[-1].valid_loss < records[0].valid_loss


@pytest.mark.parametrize("setting", ["training.mixup=0.3", "training.precision=bfloat16"])
def test_training_options_still_learn(corpora: tuple[DeviceCorpus, DeviceCorpus], setting: str) -> None:
    _, records = fit(configured("training.epochs=15", setting), corpora)
    assert records[-1].valid_loss < 0.7 * records[0].valid_loss
    _, plain = fit(configured("training.epochs=1"), corpora)
    assert records[0].train_loss != plain[0].train_loss


@pytest.mark.parametrize(("balance", "least", "most"), [(0.0, 4.0, 4.0), (1.0, 0.9, 1.4)])
def test_balance_evens_out_a_corpus_that_is_not(tone_corpus: Path, balance: float, least: float, most: float) -> None:
    uneven = [
        utterance
        for utterance in read_manifest(tone_corpus)
        if utterance.split != "train" or utterance.letter == "A" or utterance.speaker == "s0"
    ]
    write_manifest(tone_corpus.with_name("uneven.tsv"), uneven)  # 4 of A, 1 of each other letter
    places = [f"corpus.manifest={tone_corpus.with_name('uneven.tsv')}", f"corpus.cache={tone_corpus.parent / 'cache'}"]
    corpora = Corpora.open(configured(f"training.balance={balance}", *places), CPU)
    orders = [corpora.sampler.order(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert {len(order) for order in orders} == {29}
    mean = torch.stack([(corpora.corpus.labels[order] == 0).sum() for order in orders]).double().mean().item()
    assert least <= mean <= most  # 29 / 26 if all letters are as frequent
