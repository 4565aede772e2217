"""The run folder: resolved configuration, environment, one line of metrics an epoch, checkpoints."""

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path

from speechmlp.config import Config
from speechmlp.config_file import dump_yaml
from speechmlp.engine import EpochRecord
from speechmlp.environment import describe_environment
from speechmlp.errors import UserError

BEST, LAST, METRICS, CONFIG, ENVIRONMENT = "best.pt", "last.pt", "metrics.jsonl", "config.yaml", "environment.json"


def create_run(config: Config, config_name: str) -> Path:
    """Returns a new run folder with the resolved configuration and the environment in it.

    Args:
        config: its `output` section says where, and under which name.
        config_name: names the run, with the time, where `output.name` is null.

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
                        f"{folder}: this run exists; choose another output.name, or go on with --resume {folder}"
                    ) from None
        (folder / CONFIG).write_text(dump_yaml(config), encoding="utf-8")
        (folder / ENVIRONMENT).write_text(json.dumps(describe_environment(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{parent / name}: cannot write the run folder: {error.strerror or error}") from error
    return folder


def checkpointed_run(config: Config) -> Path | None:
    """Returns the folder of a configuration's run where it has a checkpoint to go on from.

    What an interruption within the first epoch left is removed: nothing in there but settings.

    Raises:
        UserError: the configuration does not name its run.
    """
    if config.output.name is None:
        raise UserError("--continue: expected output.name=NAME too, by which the run is found again")
    run = Path(config.output.folder) / config.output.name
    if (run / LAST).exists():
        return run
    with contextlib.suppress(OSError):  # no such folder, or other things in it: create_run tells
        for name in (CONFIG, ENVIRONMENT, METRICS):
            (run / name).unlink(missing_ok=True)
        run.rmdir()
    return None


def write_metrics(run: Path, history: Iterable[EpochRecord]) -> None:
    """Writes metrics.jsonl anew from the records of the epochs done.

    Raises:
        UserError: it cannot be written.
    """
    write_text(run / METRICS, "".join(json.dumps(record.to_json()) + "\n" for record in history))


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def newest_checkpoint(folder: str | Path) -> Path:
    """Returns the best checkpoint of the run that was written to last.

    Raises:
        UserError: there is no run with a checkpoint.
    """
    found = sorted(Path(folder).glob(f"*/{BEST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"{folder}: no run with a {BEST} here; train one (python -m speechmlp.train --config "
            "configs/quickstart.yaml) or name a checkpoint with --checkpoint FILE"
        )
    return found[-1]


def model_name(checkpoint: Path) -> str:
    """Returns how to call the model of a checkpoint: after its run, or after a file that has a name of its own."""
    return checkpoint.resolve().parent.name if checkpoint.name in (BEST, LAST) else checkpoint.stem
