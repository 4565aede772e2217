"""Losses and other values computed from batches."""

from pathlib import Path

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.data.dataset import SpokenLetters
from speechmlp.errors import UserError
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import select_device
from speechmlp.training.losses import _targets, fit_normalizer

CPU = torch.device("cpu")


def test_corpus_statistics_are_those_of_the_training_features(tone_corpus: Path, tmp_path: Path) -> None:
    corpus = SpokenLetters.from_manifest(str(tone_corpus), "train", str(tmp_path / "cache")).to(CPU)
    model = SpeechClassifier(load_config(None, ["front_end={kind: log_mel, hop_length: 800, normalizer: corpus}"]))
    fit_normalizer(model, corpus)
    features = model.normalizer(model.front_end(corpus.take(torch.arange(104)).waveforms)[0])
    assert features.mean((0, 2)).abs().max() < 1e-3
    assert (features.std((0, 2)) - 1).abs().max() < 1e-2


@pytest.mark.parametrize("count", [0, 2])
def test_devices(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU, and on one with two."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert select_device("cpu") == CPU
    assert select_device("auto") == torch.device("cuda" if count else "cpu")
    if count:
        assert select_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(UserError, match="device: expected cuda:0 to cuda:1, found cuda:2"):
            select_device("cuda:2")
    else:
        with pytest.raises(UserError, match="device: cuda is requested, but no CUDA device can be used here"):
            select_device("cuda")


def test_smoothed_targets_agree_with_torch() -> None:
    logits, labels = torch.randn(5, 26), torch.arange(5)
    ours = torch.nn.functional.cross_entropy(logits, _targets(labels, 0.1, 26))
    assert ours.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-5
    )
