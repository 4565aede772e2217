"""Packaging weights: what is stripped, what is refused, and a card from figures."""

from pathlib import Path

import pytest
import torch
from scripts.release.average_weights import main as average_weights
from scripts.release.package_weights import render_package_card, strip

from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.results import Evaluation
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.recognition.recognizer import load_recognizer
from speechmlp.runs.checkpoint import load_checkpoint, save_checkpoint
from speechmlp.runs.history import EpochRecord

HISTORY = [EpochRecord(epoch, 10 * epoch, 0.1, 3.0, 3.1, 0.5, 1.0, True, None) for epoch in range(1, 51)]


def evaluation(condition: str) -> Evaluation:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(26, (200,), generator=generator)
    logits = torch.nn.functional.one_hot(labels, 26) * 3.0 + torch.randn(200, 26, generator=generator)
    scores = score(logits, labels, [f"s{index % 10}" for index in range(200)])
    return Evaluation(
        checkpoint="x",
        manifest="m",
        split="test",
        condition=condition,
        temperature=1.0,
        left_out=0,
        scores=scores,
        mistakes=(),
    )


def test_what_use_needs_is_kept_and_nothing_else(tmp_path: Path) -> None:
    config = override_config(Config(), ["model.hidden=[16]", "front_end={kind: log_mel}"])
    torch.manual_seed(0)
    model = SpeechClassifier(config).eval()
    save_checkpoint(tmp_path / "best.pt", config, model, HISTORY, temperature=1.5, reject_below=0.4)
    strip(tmp_path / "best.pt", tmp_path / "weights" / "letters.pt")
    found = load_checkpoint(tmp_path / "weights" / "letters.pt")
    assert (found.temperature, found.reject_below, found.history, found.training) == (1.5, 0.4, [], None)
    assert (tmp_path / "weights" / "letters.pt").stat().st_mode & 0o777 == 0o644
    wave = torch.randn(16_000).clamp(-1, 1)
    one, other = (load_recognizer(tmp_path / name)(wave, 16_000) for name in ("best.pt", "weights/letters.pt"))
    assert one == other


def test_no_folder_of_the_machine_is_kept(tmp_path: Path) -> None:
    elsewhere = [f"training.start_from={tmp_path}/a.pt", f"corpus.cache={tmp_path}/cache", f"output.folder={tmp_path}"]
    config = override_config(Config(), ["model.hidden=[16]", "front_end={kind: log_mel}", *elsewhere])
    save_checkpoint(tmp_path / "best.pt", config, SpeechClassifier(config), [])
    strip(tmp_path / "best.pt", tmp_path / "weights" / "letters.pt")
    assert str(tmp_path).encode() in (tmp_path / "best.pt").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "weights" / "letters.pt").read_bytes()


def test_weights_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = override_config(Config(), ["model={hidden: [16], norm: batch}", "front_end={kind: log_mel}"])
    models = [SpeechClassifier(config), SpeechClassifier(config)]
    for name, model in zip("ab", models, strict=True):
        save_checkpoint(tmp_path / f"{name}.pt", config, model, HISTORY, temperature=2.0)
    other = override_config(Config(), ["model.hidden=[17]", "front_end={kind: log_mel}"])
    save_checkpoint(tmp_path / "other.pt", other, SpeechClassifier(other), [])
    paths = [str(tmp_path / f"{name}.pt") for name in ("a", "b", "other", "absent")]
    mean = str(tmp_path / "mean.pt")
    assert average_weights([*paths[:2], "--output", mean]) == 0
    found = load_checkpoint(mean)
    assert (found.temperature, found.history) == (1.0, [])
    states = [model.state_dict() for model in models]
    for name, weight in found.model.state_dict().items():
        expected = (states[0][name].double() + states[1][name].double()) / 2
        torch.testing.assert_close(weight.double(), expected, rtol=1e-6, atol=1e-7)
    capsys.readouterr()
    for wrong, problem in (
        (paths[2], f"{paths[2]}: expected the front_end and model of {paths[0]}"),
        (paths[3], "no such"),
    ):
        assert average_weights([paths[0], wrong, "--output", str(tmp_path / "none.pt")]) == 2
        errors = capsys.readouterr().err
        assert problem in errors
        assert len(errors.splitlines()) == 1
    assert not (tmp_path / "none.pt").exists()


def test_large_models_and_unfinished_ones_are_refused(tmp_path: Path) -> None:
    config = override_config(Config(), ["model.hidden=[80]"])
    model = SpeechClassifier(config)
    save_checkpoint(tmp_path / "large.pt", config, model, [])
    save_checkpoint(tmp_path / "last.pt", config, model, [], training={})
    for name, problem in (("large.pt", "at most 4,000,000 bytes together"), ("last.pt", "expected a best.pt")):
        with pytest.raises(UserError, match=problem):
            strip(tmp_path / name, tmp_path / "out" / "letters.pt")
    assert not (tmp_path / "out" / "letters.pt").exists()


def test_the_card_holds_what_was_measured() -> None:
    checkpoint = load_recognizer().checkpoint
    evaluations = [evaluation("clean"), evaluation("telephone")]
    card = render_package_card(checkpoint, evaluations, None, 123_456)
    accuracy = evaluations[0].scores.accuracy
    cell = f"{100 * accuracy.value:.2f}% [{100 * accuracy.low:.2f}%, {100 * accuracy.high:.2f}%]"
    assert f"| Accuracy | {cell} |" in card
    assert f"| telephone | 200 | 10 | {cell} |" in card
    assert "123,456 bytes" in card
    assert "speechmlp train --config letters_tuned" in card
    assert "| CMU AN4 | BSD-like |" in card
    assert "| words of Google Speech Commands | CC-BY-4.0 |" in card
    assert "letter error rate" not in card
    assert "## speech.npz" in card
