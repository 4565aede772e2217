"""Training that is killed, interrupted, or started twice; `scripts/check_runs.py` is the long version."""

import signal
import time
from pathlib import Path

import pytest
from scripts.check_runs import EXPERIMENTS, growth, haul, interrupt, make_corpora, start, train_whole

from tests.conftest import Run

LETTERS = "corpus.manifest=letters/manifest.tsv"


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_what_is_killed_or_interrupted_goes_on_bit_for_bit(device: str, tmp_path: Path) -> None:
    make_corpora(tmp_path)
    arguments = [*EXPERIMENTS["all options"], LETTERS, f"device={device}"]
    seconds = train_whole(tmp_path, *arguments, "output.name=whole")
    for name, moment, number, wait in (
        ("begun", "anywhere", signal.SIGKILL, 0.0),
        ("written", "inside a write of best.pt", signal.SIGKILL, 0.0),
        ("within", "anywhere", signal.SIGTERM, 0.4 * seconds),
    ):
        trial = interrupt(tmp_path, name, arguments, moment, number, wait)
        assert trial.problems == (), trial


def test_a_second_process_is_refused_and_ctrl_c_says_how_to_go_on(tmp_path: Path, run_python: Run) -> None:
    make_corpora(tmp_path)
    with start(tmp_path, *EXPERIMENTS["plain"], LETTERS, "training.epochs=100000", "output.name=long_run") as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("epoch 2/"):
                break
        second = run_python("-m", "speechmlp.train", "--resume", "runs/long_run")
        assert second.returncode == 2
        assert second.stderr == (
            "error: runs/long_run: another process is using this run; wait for it, or start a new run\n"
        )
        first.send_signal(signal.SIGINT)
        asked = time.perf_counter()
        _, errors = first.communicate()
        assert time.perf_counter() - asked < 20
    assert first.returncode == 130
    assert errors.startswith("interrupted ")
    assert errors.endswith("; saved, go on with: speechmlp train --resume runs/long_run\n")
    assert len(errors.splitlines()) == 1
    absent = run_python("-m", "speechmlp.train", "--resume", "runs/absent")
    assert (absent.returncode, len(absent.stderr.splitlines())) == (2, 1)
    assert "runs/absent: " in absent.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_many_epochs_take_no_more_memory_and_files_than_few(tmp_path: Path) -> None:
    make_corpora(tmp_path)
    memory, files = growth(haul(tmp_path, 60))
    assert memory < 0.03
    assert files == 0
