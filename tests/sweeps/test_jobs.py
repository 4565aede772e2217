"""Sweeps and comparisons, run as commands."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from speechmlp.errors import UserError
from speechmlp.runs.folder import newest_checkpoint
from speechmlp.sweeps.compare import FEWEST, SIGNIFICANT, render_table, sign_flip_p, smallest_p
from speechmlp.sweeps.jobs import Job, combinations, finish_all, visible_gpus
from tests.conftest import ROOT, Run


def test_a_grid_has_every_combination() -> None:
    assert combinations([]) == [()]
    assert combinations(["a=1,2", "b=[1,2];[3]"]) == [
        ("a=1", "b=[1,2]"),
        ("a=1", "b=[3]"),
        ("a=2", "b=[1,2]"),
        ("a=2", "b=[3]"),
    ]
    with pytest.raises(UserError, match="--set: expected KEY=V1"):
        combinations(["a"])
    with pytest.raises(UserError, match=r"--set: expected another key than training\.seed; --seeds N"):
        combinations(["training.seed=1,2"])


def test_the_sign_flip_test_is_exact() -> None:
    assert sign_flip_p([1, 2, 3, 4, 5]) == 2 / 32
    assert sign_flip_p([1, -1]) == 1.0
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_a_comparison_of_few_seeds_says_which_p_is_possible_at_all() -> None:
    for pairs in range(1, 9):
        assert sign_flip_p([0.1 + 0.01 * number for number in range(pairs)]) == smallest_p(pairs)
    assert smallest_p(FEWEST) < SIGNIFICANT < smallest_p(FEWEST - 1)

    def table(seeds: int) -> list[str]:
        groups = {name: {seed: 0.5 + 0.1 * (name == "b") + 0.001 * seed for seed in range(seeds)} for name in "ab"}
        return render_table(groups).splitlines()

    *rows, note = table(2)
    assert rows[3].endswith("| +10.00 | 0.500 |")
    assert note.startswith(
        "With 2 pairs of seeds, no p smaller than 0.500 is possible, however large the difference is;"
    )
    assert "With 5 pairs of seeds, no p smaller than 0.062 is possible" in table(5)[-1]
    assert table(6)[-1].startswith("| b | 6 |")
    *rows, note = table(1)
    assert "±" not in rows[2]  # one run has no spread
    assert note.startswith("With 1 pair of seeds, no p smaller than 1.000")


def test_only_the_smallest_comparisons_are_noted() -> None:
    groups = {
        "a": dict.fromkeys(range(8), 0.5),
        "b": {0: 0.6, 1: 0.7},
        "c": dict.fromkeys(range(8), 0.6),
        "d": {9: 0.1},
    }
    notes = [line for line in render_table(groups).splitlines() if line.startswith("With")]
    assert len(notes) == 1
    assert notes[0].startswith("With 2 pairs")


def test_a_sweep_can_be_resumed_and_compared(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\n"
        "front_end: {kind: log_mel, hop_length: 1600}\ntraining: {epochs: 2}\ndevice: cpu\n"
    )
    sweep = ["-m", "speechmlp", "sweep", "--config", "small.yaml", "--name", "widths", "--seeds", "1"]
    first = run_python(*sweep, "--set", "model.hidden=[4];[16]", "--jobs", "2")
    assert first.returncode == 0, first.stderr
    runs = sorted(path for path in (tmp_path / "runs" / "widths").iterdir() if path.is_dir())
    assert [run.name for run in runs] == ["model.hidden-_16_-seed0", "model.hidden-_4_-seed0"]
    kept = (runs[0] / "last.pt").stat().st_mtime_ns
    lines = (runs[1] / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    again = run_python(*sweep, "--set", "model.hidden=[4];[16]", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert (runs[0] / "last.pt").stat().st_mtime_ns == kept
    config = (tmp_path / "small.yaml").read_text()
    (tmp_path / "small.yaml").write_text(config.replace("epochs: 2", "epochs: 3"))
    other = run_python(*sweep, "--set", "model.hidden=[4];[16]", "--jobs", "1")
    assert other.returncode == 2
    run = Path("runs/widths/model.hidden-_4_-seed0")
    assert run_python(*sweep, "--set", "model.hidden=[8]").stderr == other.stderr  # which would be a new run
    assert not (tmp_path / "runs" / "widths" / "model.hidden-_8_-seed0").exists()
    assert other.stderr.splitlines() == [
        f"error: {run.parent}: was started with training.epochs: 2, but 3 is requested; move the folder away to train "
        "again, or change the setting with speechmlp train --resume"
    ]
    evaluated = run_python("-m", "speechmlp.evaluate", "--device", "cpu")
    assert f"Checkpoint: {newest_checkpoint(tmp_path / 'runs').relative_to(tmp_path)} (the newest" in evaluated.stdout
    as_run = run_python(*sweep[:-3], "widths/model.hidden-_4_-seed0", *sweep[-2:])
    assert "--name: expected a name of letters, digits" in as_run.stderr
    compared = run_python("-m", "speechmlp", "compare", *runs)
    assert compared.returncode == 0, compared.stderr
    rows = compared.stdout.splitlines()
    assert rows[2].startswith("| model.hidden-_16_ | 1 | ")
    assert rows[3].startswith("| model.hidden-_4_ | 1 | ")
    assert rows[3].count("|") == rows[0].count("|")
    assert rows[0].endswith("| answered right | answered wrong | rejected | rejected though ranked right |")
    assert len(re.findall(r"\d+\.\d\d %", rows[3])) == 1 + 4
    os.truncate(runs[0] / "metrics.jsonl", 0)
    unfinished = run_python("-m", "speechmlp", "compare", *runs)
    assert (unfinished.returncode, len(unfinished.stderr.splitlines())) == (2, 1)


def test_mistakes_end_a_sweep_before_it_starts(run_python: Run, tmp_path: Path) -> None:
    seed = str(ROOT / "configs" / "seed.yaml")
    sweep = ["-m", "speechmlp", "sweep", "--config", seed, "--name", "x"]
    wrong = run_python(*sweep, "--set", "model.hiden=[4]")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "did you mean model.hidden?" in wrong.stderr
    failing = run_python(*sweep, "--set", "corpus.manifest=absent.tsv", "--seeds", "2")
    assert failing.returncode == 2
    prefixes = [line.partition(": absent.tsv: no such manifest")[0] for line in sorted(failing.stderr.splitlines())]
    assert prefixes == [f"error: corpus.manifest-absent.tsv-seed{seed}" for seed in (0, 1)]
    same = run_python(*sweep, "--set", "model.hidden=[4];[ 4 ]")
    assert "--set: expected values that differ in letters or digits, found model.hidden=[4] and model" in same.stderr
    assert not (tmp_path / "runs").exists()
    for name, expected in {
        "a": "error: runs/a: is a run, not the folder of a sweep; choose another --name",
        "b": "error: runs/b/mine-seed0: is no run of this sweep; choose another --name, or move it away",
    }.items():
        run = tmp_path / "runs" / (name if name == "a" else "b/mine-seed0")
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("device: cpu\n")
        mixed = run_python("-m", "speechmlp", "sweep", "--config", seed, "--name", name)
        assert (mixed.returncode, mixed.stderr.splitlines()) == (2, [expected])
        assert not list((tmp_path / "runs" / name).rglob("sweep.yaml"))


@pytest.mark.slow
def test_a_sweep_over_kinds_says_once_what_they_drop(run_python: Run, tmp_path: Path) -> None:
    seed = str(ROOT / "configs" / "seed.yaml")
    kinds = [
        "--set",
        "training.optimizer.kind=adam,sgd",
        "--set",
        "model.dropout=0,0.1",
        "--set",
        "corpus.manifest=no.tsv",
    ]
    result = run_python("-m", "speechmlp", "sweep", "--config", seed, "--name", "x", "--seeds", "1", *kinds)
    notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert notes[0].startswith("note: training.optimizer.kind=sgd: dropped training.optimizer.betas")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_other_runs_finish_if_one_diverges(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\n"
        "front_end: {kind: log_mel, hop_length: 1600}\nmodel: {hidden: [4]}\ntraining: {epochs: 1}\ndevice: cpu\n"
    )
    sweep = ["-m", "speechmlp", "sweep", "--config", "small.yaml", "--name", "rates", "--seeds", "1", "--jobs", "2"]
    done = run_python(*sweep, "--set", "training.optimizer.lr=1e38,0.01")
    assert done.returncode == 2
    problem, utterances = done.stderr.splitlines()
    assert problem.startswith("error: training.optimizer.lr-1e38-seed0: epoch 1, step ")
    assert "there is no checkpoint yet" in problem
    assert utterances.startswith("error: training.optimizer.lr-1e38-seed0: its utterances: ")
    runs = tmp_path / "runs" / "rates"
    assert [run.name for run in runs.iterdir() if (run / "best.pt").exists()] == ["training.optimizer.lr-0.01-seed0"]


def test_visible_gpus_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8932f937")
    assert visible_gpus() == ["2", "GPU-8932f937"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-2)'\n")
    program.chmod(0o755)
    assert visible_gpus() == ["0", "1"]


def test_runs_are_spread_over_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in place of the interpreter records its environment."""
    seen = tmp_path / "seen"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS" >> {seen}\nsleep 0.3\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    finish_all([Job("c.yaml", (), tmp_path / str(number)) for number in range(8)], at_once=4)
    lines = seen.read_text().splitlines()
    assert sorted(lines) == ["4 2"] * 4 + ["5 2"] * 4
    assert sorted(lines[:4]) == ["4 2", "4 2", "5 2", "5 2"]
