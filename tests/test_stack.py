"""Many models that learn together in one process: each as it would alone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmlp.checkpoint import load_checkpoint
from speechmlp.lab import Job, stacks
from tests.conftest import ROOT, Run

AUGMENT = (
    "{shift: 1.0, speed: 0.1, noise: 0.5, babble: 0.5, reverb: 0.3, telephone: 0.5, vocal_tract: 0.1, mask_bands: 2}"
)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
DIFFERENT = [
    ["training.seed=0"],
    ["training.seed=1", "training.optimizer.lr=0.001", "training.schedule.kind=cosine"],
    ["training.seed=2", "training.ema=0.9", "training.clip_grad_norm=0.5", "training.keep=last"],
    ["training.seed=3", "training.epochs=2", "training.optimizer={kind: sgd, lr: 0.01}"],
]


@pytest.fixture
def small(tone_corpus: Path, tmp_path: Path) -> Path:
    """A configuration without random draws in a step, so that learning alone and together can be compared.

    Adam's eps is large: a bias before batch normalisation has no gradient but rounding, which Adam would make whole
    steps of.
    """
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\n"
        "front_end: {kind: log_mel, hop_length: 1600, normalizer: corpus}\n"
        "model: {hidden: [16], norm: batch}\ndevice: cpu\n"
        "training: {epochs: 4, batch_size: 16, optimizer: {eps: 1.0e-4}}\n"
    )
    return tmp_path / "small.yaml"


def each(choices: list[list[str]]) -> list[str]:
    return [word for number, own in enumerate(choices) for word in ("--each", f"output.name=r{number}", *own)]


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_seconds(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records(run)]


@pytest.mark.parametrize("device", DEVICES)
def test_each_learns_what_it_learns_alone(device: str, small: Path, run_python: Run, tmp_path: Path) -> None:
    train = ["-m", "speechmlp.train", "--config", small, f"device={device}"]
    together = run_python(*train, "output.folder=together", *each(DIFFERENT))
    assert together.returncode == 0, together.stderr
    for number, own in enumerate(DIFFERENT):
        assert f"r{number}: Stopped: all {2 if number == 3 else 4} epochs done" in together.stdout
        alone = run_python(*train, "output.folder=alone", f"output.name=r{number}", *own)
        assert alone.returncode == 0, alone.stderr
        ours, theirs = (records(tmp_path / folder / f"r{number}") for folder in ("together", "alone"))
        assert len(ours) == len(theirs) == (2 if number == 3 else 4)
        for one, other in zip(ours, theirs, strict=True):
            for key in ("train_loss", "valid_loss", "lr"):
                assert one[key] == pytest.approx(other[key], rel=1e-4), (number, key)
        sizes = [(tmp_path / folder / f"r{number}" / "last.pt").stat().st_size for folder in ("together", "alone")]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # its own weights, and not the whole stack
        best = [load_checkpoint(tmp_path / folder / f"r{number}" / "best.pt").model for folder in ("together", "alone")]
        for one, other in zip(*(model.parameters() for model in best), strict=True):
            assert torch.allclose(one, other, atol=1e-3)
    scored = run_python("-m", "speechmlp.evaluate", "--checkpoint", "together/r0/best.pt", "--split", "valid")
    assert scored.returncode == 0, scored.stderr


@pytest.mark.parametrize("device", DEVICES)
def test_random_draws_are_each_models_own(device: str, small: Path, run_python: Run, tmp_path: Path) -> None:
    draws = ["model.dropout=0.3", f"augment={AUGMENT}", "training.mixup=0.2"]
    train = ["-m", "speechmlp.train", "--config", small, f"device={device}", *draws]
    for folder in ("one", "two"):
        done = run_python(*train, f"output.folder={folder}", *each([["training.seed=5"], ["training.seed=5"]]))
        assert done.returncode == 0, done.stderr
    first, second = (without_seconds(tmp_path / "one" / f"r{number}") for number in (0, 1))
    assert first != second  # the same order and first weights
    assert first[-1]["train_loss"] < first[0]["train_loss"]
    assert [first, second] == [without_seconds(tmp_path / "two" / f"r{number}") for number in (0, 1)]


def test_what_is_interrupted_goes_on_bit_for_bit(small: Path, run_python: Run, tmp_path: Path) -> None:
    epochs = ["training.epochs=30", "training.keep=last"]
    command = ["-m", "speechmlp.train", "--config", str(small), "--continue", *epochs]
    choices = each([["training.seed=0"], ["training.seed=1"], ["training.seed=2", "training.epochs=3"]])
    whole = run_python(*command, "output.folder=whole", *choices)
    assert whole.returncode == 0, whole.stderr
    again = [*command, "output.folder=parts", *choices]
    process = subprocess.Popen([sys.executable, *again], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "parts" / "r2" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].startswith("interrupted; go on from what was saved last")
    assert process.returncode == 130
    gone_on = run_python(*again)
    assert gone_on.returncode == 0, gone_on.stderr
    assert "Done: parts/r2: all 3 epochs done" in gone_on.stdout.replace("\\", "/")
    for number in range(3):
        parts, at_once = (without_seconds(tmp_path / folder / f"r{number}") for folder in ("parts", "whole"))
        assert parts == at_once


def test_one_that_explodes_leaves_the_others_to_their_end(small: Path, run_python: Run, tmp_path: Path) -> None:
    choices = [["training.seed=0"], ["training.seed=1", "training.optimizer.lr=1e38"], ["training.seed=2"]]
    done = run_python("-m", "speechmlp.train", "--config", small, *each(choices))
    assert done.returncode == 2
    problem, utterances = done.stderr.splitlines()
    assert problem.startswith("error: r1: epoch ")
    assert "there is no checkpoint yet" in problem
    assert utterances.startswith("error: r1: its utterances: ")
    assert [records(tmp_path / "runs" / f"r{number}")[-1]["epoch"] for number in (0, 2)] == [4, 4]


def test_what_cannot_learn_together_is_told(small: Path, run_python: Run, tmp_path: Path) -> None:
    train = ["-m", "speechmlp.train", "--config", small]
    for arguments, expected in (
        (each([[], ["model.hidden=[4]"]]), "--each: expected one model.hidden for all, found [16] and [4]; what may"),
        (["front_end={kind: aligned}", *each([[], []])], "front_end.kind: aligned ones learn with their model"),
        (["--each", "training.seed=1"], "--each: expected an output.name=NAME of its own in every one"),
        (each([["training.sed=1"]]), "did you mean training.seed?"),
    ):
        told = run_python(*train, *arguments)
        assert (told.returncode, len(told.stderr.splitlines())) == (2, 1), told.stderr
        assert expected in told.stderr
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "r1" / "config.yaml").touch()
    told = run_python(*train, *each([[], []]))
    assert (told.returncode, len(told.stderr.splitlines())) == (2, 1), told.stderr
    assert f"{Path('runs/r1')}: this run exists" in told.stderr
    assert not (tmp_path / "runs" / "r0").exists()


def test_jobs_are_stacked_where_they_can_be(small: Path, tmp_path: Path) -> None:
    widths = [("model.hidden=[4]", f"training.seed={seed}") for seed in range(3)] + [("model.hidden=[8]",)]
    jobs = [Job(str(small), overrides, tmp_path / str(number)) for number, overrides in enumerate(widths)]
    aligned = [Job(str(ROOT / "configs" / "letters.yaml"), (), tmp_path / name) for name in ("a", "b")]
    assert stacks([*jobs, *aligned], 2) == [jobs[:2], [jobs[2]], [jobs[3]], [aligned[0]], [aligned[1]]]
    assert stacks(jobs, 1) == [[job] for job in jobs]


def test_a_sweep_learns_in_stacks(small: Path, run_python: Run, tmp_path: Path) -> None:
    sweep = [ROOT / "scripts" / "sweep.py", "--config", small, "--name", "rates", "--seeds", "2", "--stack", "3"]
    rates = ["--set", "training.optimizer.lr=0.01,1e38,0.001", "--jobs", "2"]
    done = run_python(*sweep, *rates)
    assert done.returncode == 2
    over = [run.name for run in sorted((tmp_path / "runs" / "rates").iterdir()) if (run / "best.pt").exists()]
    assert over == [f"training.optimizer.lr-{rate}-seed{seed}" for rate in ("0.001", "0.01") for seed in (0, 1)]
    assert len(done.stderr.splitlines()) == 4  # what happened, and to which utterances
    assert all(line.startswith("error: training.optimizer.lr-1e38-seed") for line in done.stderr.splitlines())
