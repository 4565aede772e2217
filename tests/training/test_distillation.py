"""Learning from trained models, as a loss and as a command."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from speechmlp.config.loading import load_config
from speechmlp.config.schema import DistillConfig
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.training.losses import Teachers, same_features
from tests.conftest import Run

SMALL = ["front_end={kind: log_mel, hop_length: 1600}", "model.hidden=[16]"]


def teachers(weight: float, temperature: float = 2.0, count: int = 2) -> tuple[Teachers, list[SpeechClassifier]]:
    torch.manual_seed(0)
    models = [SpeechClassifier(load_config(None, SMALL)).eval() for _ in range(count)]
    config = DistillConfig(teachers=("a.pt",) * count, weight=weight, temperature=temperature)
    return Teachers(config, models), models


def test_probabilities_are_the_mean_of_the_models() -> None:
    both, models = teachers(0.5, temperature=1.0)
    waveforms = torch.randn(5, 16_000)
    features = models[0].normalizer(models[0].front_end(waveforms)[0])
    expected = (models[0](waveforms).softmax(1) + models[1](waveforms).softmax(1)) / 2
    assert torch.allclose(both.probabilities(features), expected, atol=1e-6)


def test_the_loss_is_least_where_the_model_agrees() -> None:
    one, models = teachers(1.0, count=1)
    features = torch.randn(6, 40, 11)
    agreeing = models[0].network(features)
    assert one.loss(agreeing, features, torch.tensor(7.0)).item() == pytest.approx(0.0, abs=1e-6)
    assert one.loss(agreeing + torch.randn(6, 26), features, torch.tensor(7.0)).item() > 0.01


def test_weight_moves_from_labels_to_teachers() -> None:
    features, labels = torch.randn(6, 40, 11), torch.arange(6)
    logits = torch.randn(6, 26)
    label_loss = F.cross_entropy(logits, labels)
    of_labels, of_teachers, between = (
        teachers(weight)[0].loss(logits, features, label_loss) for weight in (0, 1, 0.25)
    )
    assert of_labels.item() == pytest.approx(label_loss.item(), rel=1e-6)
    assert between.item() == pytest.approx(0.75 * of_labels.item() + 0.25 * of_teachers.item(), rel=1e-5)


def test_only_models_that_read_the_same_features_teach() -> None:
    aligned = load_config(None, ["front_end={kind: aligned}"])
    assert same_features(aligned, load_config(None, ["front_end={kind: aligned, endpoints: energy}"]))
    assert not same_features(aligned, load_config(None, ["front_end={kind: aligned, onset: 19}"]))
    assert not same_features(aligned, load_config(None, ["front_end={kind: log_mel}"]))
    learnt = load_config(None, ["front_end={kind: log_mel, normalizer: corpus}"])
    assert not same_features(learnt, learnt)


def test_a_run_learns_from_another(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\nfront_end: {{kind: log_mel, hop_length: 1600}}\n"
        "training: {epochs: 30, optimizer: {lr: 0.003}}\ndevice: cpu\n"
    )
    command = ["-m", "speechmlp.train", "--config", "small.yaml"]
    assert run_python(*command, "output.name=teacher").returncode == 0
    student = [*command, "training.distill={teachers: [runs/teacher/best.pt], weight: 1.0}"]
    result = run_python(*student, "output.name=student")
    assert result.returncode == 0, result.stderr
    last = json.loads((tmp_path / "runs" / "student" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["valid_accuracy"] > 0.5  # of 26 letters, though it has seen no label
    again = run_python("-m", "speechmlp.train", "--resume", "runs/student", "training.epochs=31")
    assert again.returncode == 0, again.stderr

    other = run_python(*student, "front_end.hop_length=800", "output.name=other")
    assert other.returncode == 2
    assert "runs/teacher/best.pt: its front end computes other features" in other.stderr
    absent = run_python(*command, "training.distill={teachers: [gone.pt]}", "output.name=absent")
    assert absent.returncode == 2
    assert "gone.pt: no such checkpoint" in absent.stderr
    assert not (tmp_path / "runs" / "other").exists()
    assert not (tmp_path / "runs" / "absent").exists()
