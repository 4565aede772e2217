"""The best configuration on a GPU: it trains, repeats itself, and predicts what the CPU predicts."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run

pytestmark = pytest.mark.cuda

LETTERS = ["--config", str(ROOT / "configs" / "letters.yaml"), "corpus.mix=[]", "corpus.negatives=[]"]
SMALLER = ["corpus.learn=train", "training.epochs=4", "training.batch_size=16", "training.keep=best"]


def records(run: Path) -> list[tuple[int, float, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["epoch"], line["train_loss"], line["valid_loss"]) for line in lines]


@pytest.fixture
def train(tone_corpus: Path) -> list[str]:
    return ["-m", "speechmlp.train", *LETTERS, *SMALLER, f"corpus.manifest={tone_corpus}"]


@pytest.fixture
def run(train: list[str], run_python: Run, tmp_path: Path) -> Path:
    """The best configuration, trained on CUDA for a few epochs, every augmentation on."""
    trained = run_python(*train, "device=cuda", "output.name=first")
    assert trained.returncode == 0, trained.stderr
    assert "cuda" in trained.stdout
    return tmp_path / "runs" / "first"


def test_the_best_configuration_repeats_exactly(train: list[str], run: Path, run_python: Run, tmp_path: Path) -> None:
    again = run_python(*train, "device=cuda", "output.name=again")
    assert again.returncode == 0, again.stderr
    assert records(tmp_path / "runs" / "again") == records(run)
    assert records(run)[-1][1] < records(run)[0][1]


def test_recorded_steps_do_what_steps_do(train: list[str], run: Path, run_python: Run, tmp_path: Path) -> None:
    plain = run_python(*train, "device=cuda", "output.name=plain", "training.cuda_graphs=false")
    assert plain.returncode == 0, plain.stderr
    assert records(tmp_path / "runs" / "plain") == records(run)


def test_a_step_that_is_not_finite_is_told(train: list[str], run_python: Run) -> None:
    exploding = run_python(*train, "device=cuda", "training.optimizer.lr=1e38", "training.clip_grad_norm=null")
    assert exploding.returncode == 2
    assert exploding.stderr.startswith("error: epoch 1, step ")


def test_both_devices_predict_the_same(run: Path, run_python: Run, tmp_path: Path) -> None:
    found = []
    for device in ("cuda", "cpu"):
        scores = tmp_path / f"{device}.json"
        command = ("-m", "speechmlp.evaluate", "--checkpoint", run / "best.pt", "--split", "valid")
        evaluated = run_python(*command, "--device", device, "--json", scores)
        assert evaluated.returncode == 0, evaluated.stderr
        found.append(json.loads(scores.read_text())["scores"])
    assert found[0]["confusion"] == found[1]["confusion"]
    assert found[0]["loss"]["value"] == pytest.approx(found[1]["loss"]["value"], abs=1e-4)
