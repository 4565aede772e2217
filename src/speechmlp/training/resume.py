"""Start of a training run: from random weights, from a trained model, or from the last checkpoint in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from speechmlp.config.loading import load_config, override_config, require_same_settings, validate_config
from speechmlp.config.schema import Config
from speechmlp.runs.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from speechmlp.runs.folder import CONFIG, LAST, lock_run, named_run, write_metrics
from speechmlp.runs.history import finished
from speechmlp.training.distributed import Processes


@dataclass(frozen=True)
class Start:
    """Start of a training run.

    Attributes:
        config: resolved.
        run: the folder to continue; None for a new one.
        last: its last checkpoint; None if there is none yet.
        lock: of the folder; None if it is new, and in all processes but the first.
        over: why its training is over; None if it is not.
    """

    config: Config
    run: Path | None = None
    last: Checkpoint | None = None
    lock: FileLock | None = None
    over: str | None = None


def load_start(config: Config) -> tuple[Config, Checkpoint | None]:
    """Returns the configuration with the front end and the layers of the model to start from, and its checkpoint.

    The front end and the layers stay as configured, and there is no checkpoint, without `start_from`.

    Raises:
        UserError: the checkpoint cannot be read, or does not suit the rest of the configuration.
    """
    given = config.training.start_from
    if given is None:
        return config, None
    trained = load_checkpoint(find_checkpoint(given))
    same = ("input", "front_end", "model")
    taken = {section: getattr(trained.config, section) for section in same}
    changed = config.model_copy(update=taken).model_dump(mode="json")
    return validate_config(changed, f"training.start_from={given}"), trained


def resume(run: Path, overrides: Sequence[str], processes: Processes) -> Start:
    """Returns the start that continues a run.

    Raises:
        UserError: there is no such run, another process trains in it, or an override is wrong.
    """
    locks: list[FileLock] = []

    def read() -> Checkpoint | Config:
        locks.append(lock_run(run))
        if (run / LAST).exists() or not (run / CONFIG).exists():
            last = load_checkpoint(run / LAST)
            write_metrics(run, last.history)
            return last
        return load_config(run / CONFIG)  # it ended before its first checkpoint

    found = processes.from_first(read)
    last = found if isinstance(found, Checkpoint) else None
    config = override_config(found.config if isinstance(found, Checkpoint) else found, overrides)
    over = finished(last.history, config.training) if last is not None else None
    return Start(config, run, last, locks[0] if locks else None, over)


def go_on(config: Config, processes: Processes) -> Start:
    """Returns the start that continues the run of a configuration's name; a new start if there is none.

    Raises:
        UserError: the run has other settings or no name, or another process trains in it.
    """
    run = processes.from_first(lambda: named_run(config))
    if run is None:
        return Start(config)
    start = resume(run, [], processes)
    require_same_settings(load_start(config)[0], start.config, run)
    return start
