"""What is computed from batches beside the loop."""

from pathlib import Path

import pytest
import torch

from speechmlp.config_file import load_config
from speechmlp.dataset import SpokenLetters
from speechmlp.engine import _targets, fit_normalizer, select_device
from speechmlp.errors import UserError
from speechmlp.models import SpeechClassifier

CPU = torch.device("cpu")


def test_corpus_statistics_are_those_of_the_training_features(tone_corpus: Path, tmp_path: Path) -> None:
    corpus = SpokenLetters.from_manifest(str(tone_corpus), "train", str(tmp_path / "cache")).to(CPU)
    model = SpeechClassifier(load_config(None, ["front_end={kind: log_mel, hop_length: 800, normalizer: corpus}"]))
    fit_normalizer(model, corpus)
    features = model.normalizer(model.readings(corpus.take(torch.arange(104)).waveforms)[0])
    assert features.mean((0, 2)).abs().max() < 1e-3
    assert (features.std((0, 2)) - 1).abs().max() < 1e-2


def test_devices() -> None:
    assert select_device("cpu") == CPU
    assert select_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    wrong = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UserError, match=f"device: .*{wrong}"):
        select_device(wrong)


def test_smoothed_targets_agree_with_torch() -> None:
    logits, labels = torch.randn(5, 26), torch.arange(5)
    ours = torch.nn.functional.cross_entropy(logits, _targets(labels, 0.1))
    assert ours.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-5
    )
