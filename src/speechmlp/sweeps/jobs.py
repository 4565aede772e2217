"""Many runs, trained in parallel, each in its own process; finished ones are skipped, interrupted ones resumed."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tqdm import tqdm

from speechmlp.config.loading import Note, dump_yaml, load_config, require_same_settings
from speechmlp.errors import UserError
from speechmlp.files import write_text
from speechmlp.runs.folder import CONFIG, METRICS

BASE = "sweep.yaml"
"""The configuration that all runs of a sweep share, except for their overrides."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: config file, overrides, and run folder."""

    config: str
    overrides: tuple[str, ...]
    run: Path


def combinations(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns every combination of overrides of axes like `model.dropout=0.2,0.4`.

    Raises:
        UserError: an axis has no key or no values.
    """
    choices = []
    for axis in axes:
        key, equals, values = axis.partition("=")
        if not equals or not values:
            raise UserError(f"--set: expected KEY=V1,V2,..., found {axis!r}")
        if key.strip() == "training.seed":
            raise UserError(
                "--set: expected another key than training.seed; --seeds N trains with the seeds 0 to N - 1"
            )
        choices.append([f"{key}={value}" for value in values.split(";" if ";" in values else ",")])
    return list(itertools.product(*choices))


def grid(config: str, axes: Sequence[str], seeds: int, folder: Path, note: Note) -> list[Job]:
    """Returns the runs of every combination and seed.

    Args:
        config: file or name of the configuration.
        axes: as `combinations` takes them.
        seeds: runs of each combination, with the seeds 0 to `seeds` - 1.
        folder: where the run folders go.
        note: called with what an override drops.

    Raises:
        UserError: a combination does not fit the schema, or two have the same name.
    """
    jobs: list[Job] = []
    named: dict[str, tuple[str, ...]] = {}
    for overrides in combinations(axes):
        load_config(config, overrides, note)  # mistakes end the sweep before it begins
        name = re.sub(r"[^\w.=+-]+", "_", ",".join(overrides)) or "plain"
        if (other := named.setdefault(name, overrides)) is not overrides:
            pair = f"{' '.join(other)} and {' '.join(overrides)}"
            raise UserError(f"--set: expected values that differ in letters or digits, found {pair}")
        for seed in range(seeds):
            run = folder / f"{name.replace('=', '-')}-seed{seed}"
            jobs.append(Job(config, (*overrides, f"training.seed={seed}"), run))
    return jobs


def read_metrics(run: Path) -> list[dict[str, float | int | bool | str | None]]:
    """Returns a run's records, one per epoch; none if it has not finished the first."""
    metrics = run / METRICS
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.exists() else []


def _is_over(run: Path) -> bool:
    records = read_metrics(run)
    return bool(records and records[-1]["stop"])


def visible_gpus() -> list[str]:
    """Returns the GPUs that runs may use, in the notation of `CUDA_VISIBLE_DEVICES`, without initialising CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")] if not listed.returncode else []
    return [str(number) for number in range(len(lines))]


def finish(job: Job, threads: int | None = None, gpu: str | None = None) -> None:
    """Trains a run to its end in a separate process, or resumes it if it was interrupted.

    Args:
        job: the run.
        threads: CPU threads of the process; None for torch's default.
        gpu: value of `CUDA_VISIBLE_DEVICES` for the process; None to inherit it.

    Raises:
        UserError: training failed; the messages are those of the process.
    """
    if _is_over(job.run):
        return
    if not (job.run / CONFIG).exists():
        shutil.rmtree(job.run, ignore_errors=True)  # killed while creating its folder, which has no results
    command = [sys.executable, "-m", "speechmlp.train", "--continue", "--config", job.config, *job.overrides]
    command += [
        f"output.folder={json.dumps(str(job.run.parent), ensure_ascii=False)}",
        f"output.name={json.dumps(job.run.name, ensure_ascii=False)}",
    ]
    environment = dict(os.environ)
    environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    environment |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    if result.returncode and not _is_over(job.run):  # a process killed at the very end may have finished the run
        errors = [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]
        killed = result.returncode == -getattr(signal, "SIGKILL", 9)
        reason = "was killed, perhaps for lack of memory; take fewer --jobs" if killed else ""
        errors = errors or [reason or result.stderr.strip() or f"exit status {result.returncode}"]
        raise UserError(*(f"{job.run.name}: {error}" for error in errors))


@contextmanager
def only_runs_of(config: str, jobs: Sequence[Job], folder: Path) -> Iterator[None]:
    """Keeps the base configuration of a sweep in its folder, so that no runs of another one come to lie there.

    Args:
        config: file or name of the base configuration.
        jobs: the runs.
        folder: of the sweep; removed in the end if it has no run.

    Raises:
        UserError: the folder has runs of another base configuration, or is something else.
    """
    base = load_config(config, ["training.seed=0"])  # each run has its own
    kept = folder / BASE
    if kept.exists():
        require_same_settings(base, load_config(kept), folder)
    elif (folder / CONFIG).exists():
        raise UserError(f"{folder}: is a run, not the folder of a sweep; choose another --name")
    elif others := sorted({path.parent for path in folder.glob(f"*/{CONFIG}")} - {job.run for job in jobs}):
        raise UserError(f"{others[0]}: is no run of this sweep; choose another --name, or move it away")
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot write the sweep: {error.strerror or error}") from error
        write_text(kept, dump_yaml(base))
    try:
        yield
    finally:
        if not any(folder.glob(f"*/{CONFIG}")):
            kept.unlink(missing_ok=True)
            with suppress(OSError):  # there is something else in them
                folder.rmdir()
                folder.parent.rmdir()


def finish_all(jobs: Sequence[Job], at_once: int) -> None:
    """Trains many runs in parallel, dividing CPU cores and GPUs between the processes.

    Args:
        jobs: the runs.
        at_once: number of parallel processes.

    Raises:
        UserError: an existing run has other settings, and nothing was started; or some runs failed (one line each) and
            all others are finished.
    """
    for job in jobs:
        if (job.run / CONFIG).exists():
            require_same_settings(load_config(job.config, job.overrides), load_config(job.run / CONFIG), job.run)
    threads = max(1, (os.cpu_count() or 1) // at_once) if at_once > 1 else None
    gpus: SimpleQueue[str | None] = SimpleQueue()
    every = visible_gpus()
    for number in range(at_once):
        gpus.put(every[number % len(every)] if every else None)

    def train(job: Job) -> None:
        gpu = gpus.get()  # never blocks: there is one entry per process
        try:
            finish(job, threads, gpu)
        finally:
            gpus.put(gpu)

    problems: list[str] = []
    with ThreadPoolExecutor(at_once) as pool, tqdm(desc="runs", total=len(jobs), disable=None) as bar:
        for future in as_completed([pool.submit(train, job) for job in jobs]):
            bar.update()
            if isinstance(error := future.exception(), UserError):
                problems += error.problems
            elif error is not None:
                raise error
    if problems:
        raise UserError(*problems)
