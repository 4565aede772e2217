"""Training that is interrupted or started twice; tests/acceptance kills it too."""

import signal
import time
from pathlib import Path

from tests.acceptance.runs import EXPERIMENTS, make_corpora, start
from tests.conftest import Run

LETTERS = "corpus.manifest=letters/manifest.tsv"


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
