"""The run folder: resolved configuration, environment, one line of metrics per epoch, checkpoints."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from speechmlp.config.loading import dump_yaml
from speechmlp.config.schema import Config
from speechmlp.environment import describe_environment
from speechmlp.errors import UserError
from speechmlp.files import PARTIAL, write_text
from speechmlp.runs.history import EpochRecord

BEST, LAST, METRICS, CONFIG, ENVIRONMENT = "best.pt", "last.pt", "metrics.jsonl", "config.yaml", "environment.json"


def create_run(config: Config, config_name: str) -> Path:
    """Returns a new run folder with the resolved configuration and the environment in it.

    Args:
        config: its `output` section has the parent folder and the name.
        config_name: names the run, together with the time, if `output.name` is null.

    Raises:
        UserError: a run of that name exists, or the folder cannot be written.
    """
    parent = Path(config.output.folder)
    name = config.output.name or f"{config_name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:
                if config.output.name:
                    raise UserError(
                        f"{folder}: this run exists; choose another output.name, or continue with --resume {folder}"
                    ) from None
    except OSError as error:
        raise UserError(f"{parent / name}: cannot write the run folder: {error.strerror or error}") from error
    write_text(folder / CONFIG, dump_yaml(config))  # from now on the run can be resumed
    write_text(folder / ENVIRONMENT, json.dumps(describe_environment(), indent=2) + "\n")
    return folder


def named_run(config: Config) -> Path | None:
    """Returns the folder of the run named in a configuration, or None if it does not exist yet.

    Raises:
        UserError: the configuration does not name a run.
    """
    if config.output.name is None:
        raise UserError("--continue: expected output.name=NAME, to find the run again")
    run = Path(config.output.folder) / config.output.name
    return run if (run / CONFIG).exists() else None


def lock_run(run: Path) -> FileLock:
    """Locks a run folder until this process ends, and removes incomplete files of a killed process.

    Returns:
        The lock.

    Raises:
        UserError: another process has the lock, or there is no such run.
    """
    if not any((run / name).exists() for name in (CONFIG, LAST)):  # locking would create the folder or a file in it
        raise UserError(f"{run}: not a run folder; --resume takes the folder of a run")
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{run}: another process is using this run; wait for it, or start a new run") from error
    except OSError as error:
        raise UserError(f"{run}: cannot be used as a run folder: {error.strerror or error}") from error
    for left in run.glob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)
    return lock


def write_metrics(run: Path, history: Iterable[EpochRecord]) -> None:
    """Writes metrics.jsonl from the records of the finished epochs.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(run / METRICS, "".join(json.dumps(record.to_json()) + "\n" for record in history))


def whole_history(checkpoint: Path, history: list[EpochRecord]) -> list[EpochRecord]:
    """Returns the history of a checkpoint, with the epochs after it that the metrics in its folder have."""
    try:
        lines = (checkpoint.parent / METRICS).read_text(encoding="utf-8").splitlines()
        found = [EpochRecord(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        return history
    return found if history and found[: len(history)] == history else history


def newest_checkpoint(folder: str | Path) -> Path:
    """Returns the best checkpoint of the most recent run, of a sweep or alone.

    Raises:
        UserError: there is no run with a checkpoint.
    """
    checkpoints = [*Path(folder).glob(f"*/{BEST}"), *Path(folder).glob(f"*/*/{BEST}")]  # the latter are of sweeps
    found = sorted(checkpoints, key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"{folder}: contains no run with a {BEST}; train one (speechmlp train --config "
            "quickstart) or choose a checkpoint with --checkpoint FILE"
        )
    return found[-1]


def model_name(checkpoint: Path) -> str:
    """Returns a name for the model of a checkpoint: that of its run, or of the file if it has its own name."""
    return checkpoint.resolve().parent.name if checkpoint.name in (BEST, LAST) else checkpoint.stem
