"""Training that starts from a trained model."""

from pathlib import Path

import pytest
import torch

from speechmlp.runs.checkpoint import PACKAGED, load_checkpoint
from tests.conftest import Run

SLOW_START = ["training.epochs=1", "training.optimizer.lr=1e-12", "training.batch_size=64"]


@pytest.fixture
def letters(run_python: Run, tmp_path: Path) -> Path:
    made = run_python("-m", "speechmlp", "prepare", "synthetic", "--speakers", "10", "--takes", "1")
    assert made.returncode == 0, made.stderr
    return tmp_path / "data" / "synthetic" / "manifest.tsv"


def test_a_run_starts_from_the_weights_and_layers_of_a_model(run_python: Run, letters: Path, tmp_path: Path) -> None:
    command = ["-m", "speechmlp.train", "--config", "seed", f"corpus.manifest={letters}", *SLOW_START]
    tuned = run_python(*command, "training.start_from=packaged", "output.name=tuned", "--continue")
    assert tuned.returncode == 0, tuned.stderr
    assert "Start: packaged, whose front_end and model sections are used" in tuned.stdout
    packaged, trained = load_checkpoint(PACKAGED), load_checkpoint(tmp_path / "runs" / "tuned" / "best.pt")
    assert trained.config.model == packaged.config.model
    assert trained.config.front_end == packaged.config.front_end
    for name, weight in packaged.model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], weight, atol=1e-6, rtol=0)
    again = run_python(*command, "training.start_from=packaged", "output.name=tuned", "--continue")
    assert (again.returncode, again.stdout) == (0, "Done: runs/tuned: all 1 epochs done\n")
    chained = run_python(*command, "training.start_from=runs/tuned/best.pt", "output.name=chained")
    assert chained.returncode == 0, chained.stderr


def test_a_start_that_cannot_be_used_ends_in_one_line(run_python: Run, letters: Path, tmp_path: Path) -> None:
    command = ["-m", "speechmlp.train", "--config", "seed", f"corpus.manifest={letters}", "output.name=run"]
    absent = run_python(*command, "training.start_from=gone.pt")
    assert absent.returncode == 2
    assert absent.stderr.splitlines()[-1].endswith(
        "gone.pt: no such checkpoint; a run folder holds best.pt and last.pt"
    )
    (tmp_path / "text.pt").write_text("letters")
    text = run_python(*command, "training.start_from=text.pt")
    assert text.returncode == 2
    assert "text.pt" in text.stderr
    assert "Traceback" not in absent.stderr + text.stderr
    assert not (tmp_path / "runs").exists()
