"""One model trained by two processes of torchrun, compared with one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from speechmlp.train import main
from speechmlp.training.distributed import Processes
from tests.conftest import Run

TOLERANCE = 1e-5
"""Of a loss: sums over two halves of a batch round in another order, and training carries that on."""

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN = ("-m", "speechmlp.train", "--config", "small.yaml")


@pytest.fixture
def config(tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small configuration without anything drawn, but with everything that depends on the whole batch.

    SGD, because the bias before batch normalisation has no gradient but rounding, which Adam makes a step of. GPUs are
    hidden: two processes would want two of them.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\n"
        "front_end: {kind: log_mel, hop_length: 800, normalizer: corpus}\n"
        "model: {kind: mlp, hidden: [32], norm: batch}\n"
        "training: {epochs: 4, batch_size: 23, ema: 0.9, clip_grad_norm: 1.0, "
        "optimizer: {kind: sgd, lr: 0.1, momentum: 0.9}, label_smoothing: 0.1}\ndevice: cpu\n"
    )
    return tmp_path / "small.yaml"


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_shares_are_disjoint_and_leave_nothing_out() -> None:
    for size in range(20):
        positions = torch.randperm(size)
        parts = [Processes(rank, 3).part(positions) for rank in range(3)]
        if size < 3:
            assert all(torch.equal(part, positions) for part in parts)
        else:
            assert torch.equal(torch.cat(parts), positions)
            values = torch.rand(size)
            means = [Processes(rank, 3).weight(size) * values[parts[rank]].mean() for rank in range(3)]
            assert torch.stack(means).mean().item() == pytest.approx(values[positions].mean().item())
    values = torch.arange(7.0)
    weighted = [Processes(rank, 3).weight(7) * Processes(rank, 3).part(values).mean() for rank in range(3)]
    assert torch.stack(weighted).mean().item() == pytest.approx(3.0)


def test_processes_draw_differently_and_the_first_as_one_alone() -> None:
    assert Processes().seed(7) == Processes(0, 4).seed(7) == 7
    assert len({Processes(rank, 4).seed(seed) for rank in range(4) for seed in range(50)}) > 195


def test_alone_nothing_is_wrapped() -> None:
    module, tensor = nn.BatchNorm1d(3), torch.ones(2)
    alone = Processes()
    assert alone.averaging(module) is module
    assert alone.sharing_statistics(module) is module
    assert alone.add(tensor) is tensor
    assert alone.whole(tensor, 2) is tensor


@pytest.mark.slow
def test_two_processes_learn_as_one(config: Path, run_python: Run, tmp_path: Path) -> None:
    one = run_python(*TRAIN, "output.name=one")
    assert one.returncode == 0, one.stderr
    two = run_python(*TORCHRUN, *TRAIN, "output.name=two")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("Run: ") == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "two"]
    ours, theirs = records(tmp_path / "runs" / "two"), records(tmp_path / "runs" / "one")
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=TOLERANCE)
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], abs=TOLERANCE)
        assert (a["step"], a["lr"]) == (b["step"], b["lr"])
    assert ours[-1]["train_loss"] < ours[0]["train_loss"]
    states = [torch.load(tmp_path / "runs" / name / "last.pt", weights_only=True)["model"] for name in ("one", "two")]
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-3), name


@pytest.mark.slow
def test_torchrun_starts_again_where_a_process_died(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["training.epochs=25", "output.name=killed"]
    command = [sys.executable, *TORCHRUN, "--max-restarts", "1", *TRAIN, "--continue", *settings]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "runs" / "killed"
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in children if b"speechmlp.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGKILL)
    reached = len(records(run))
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert reached < 25
    assert [record["epoch"] for record in records(run)] == list(range(1, 26))
    assert output.count("epoch 1/25") == 1
    assert output.count("Run: ") == 2
    assert main([*TRAIN[2:], "--continue", *settings]) == 0
    assert capsys.readouterr().out.startswith("Done: ")


@pytest.mark.slow
def test_a_mistake_is_told_once(config: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    (tmp_path / "runs" / "taken" / "precious").touch()
    result = run_python(*TORCHRUN, *TRAIN, "--continue", "output.name=taken")
    assert result.returncode != 0
    assert result.stderr.count("error: runs/taken: this run exists") == 1
    assert "src/speechmlp/" not in result.stderr  # torchrun's own traceback, and none of ours
    assert (tmp_path / "runs" / "taken" / "precious").exists()


def test_a_run_to_continue_has_a_name(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "--continue"]) == 2
    assert capsys.readouterr().err == "error: --continue: expected output.name=NAME, to find the run again\n"


def test_a_run_to_continue_has_the_settings_that_are_asked_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--config", str(config), "--continue", "output.name=mine"]
    assert main(command) == 0
    run = Path("runs") / "mine"
    before = {path: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    assert main([*command, "training.optimizer.lr=0.5"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}: was started with training.optimizer.lr: ")
    assert ", but 0.5 is requested; " in error
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert main([*command, "output.tensorboard=true"]) == 0  # the training corpus is the same
    assert capsys.readouterr().out.startswith("Done: ")
