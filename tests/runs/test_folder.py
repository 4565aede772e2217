import errno
import json
import os
import warnings
from pathlib import Path

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.runs.folder import create_run, lock_run, newest_checkpoint, write_metrics
from speechmlp.runs.history import EpochRecord


def configured(tmp_path: Path, name: str = "null") -> Config:
    return load_config(None, [f"output.folder={json.dumps(str(tmp_path / 'runs'))}", f"output.name={name}"])


def test_a_run_records_configuration_and_environment(tmp_path: Path) -> None:
    config = configured(tmp_path)
    run = create_run(config, "seed")
    assert run.name.startswith("seed-20")
    assert load_config(run / "config.yaml") == config
    assert json.loads((run / "environment.json").read_text())["torch"].startswith(torch.__version__.split("+")[0])


def test_runs_started_in_the_same_second_get_different_folders(tmp_path: Path) -> None:
    assert len({create_run(configured(tmp_path), "x") for _ in range(4)}) == 4


def test_a_named_run_is_not_overwritten(tmp_path: Path) -> None:
    run = create_run(configured(tmp_path, "mine"), "x")
    assert run.name == "mine"
    with pytest.raises(UserError, match=r"this run exists; choose another output\.name, or continue with --resume"):
        create_run(configured(tmp_path, "mine"), "x")


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder"):
        create_run(configured(tmp_path), "x")
    with pytest.raises(UserError, match="cannot be written"):
        write_metrics(tmp_path / "none", [])


def test_metrics_are_one_line_per_epoch(tmp_path: Path) -> None:
    records = [EpochRecord(epoch, epoch * 10, 0.01, 3.0, 3.0, 0.1, 0.5, True, None) for epoch in (1, 2)]
    write_metrics(tmp_path, records)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [EpochRecord(**json.loads(line)) for line in lines] == records


@pytest.mark.skipif(os.name != "posix", reason="other systems have no flock")
def test_runs_are_locked_on_file_systems_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    run = create_run(configured(tmp_path), "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock says that it takes another way
        lock = lock_run(run)
        with pytest.raises(UserError, match="another process is using this run"):
            lock_run(run)
        lock.release()
        lock_run(run).release()


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no run with a best\.pt"):
        newest_checkpoint(tmp_path)
    for age, name in enumerate(["c", "a", "b"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.pt").touch()
        os.utime(tmp_path / name / "best.pt", (1000 - age, 1000 - age))
    (tmp_path / "unfinished").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "c" / "best.pt"
    (tmp_path / "sweep" / "run").mkdir(parents=True)
    (tmp_path / "sweep" / "run" / "best.pt").touch()
    assert newest_checkpoint(tmp_path) == tmp_path / "sweep" / "run" / "best.pt"
