"""Packaging weights: what is stripped, what is refused, and a card from figures."""

from pathlib import Path

import pytest
import torch
from scripts.release.package_weights import render_card, strip

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
    evaluations = {name: evaluation(name) for name in ("clean", "telephone")}
    card = render_card(checkpoint, evaluations, evaluations["clean"], None, 123_456)
    accuracy = evaluations["clean"].scores.accuracy
    cell = f"{100 * accuracy.value:.2f}% [{100 * accuracy.low:.2f}%, {100 * accuracy.high:.2f}%]"
    assert f"| Accuracy | {cell} |" in card
    assert f"| telephone | {cell} |" in card
    assert "200 recordings of 10 other people" in card
    assert "123,456 bytes" in card
    assert "speechmlp train --config letters_long" in card
    assert "letter error rate" not in card
