"""Train many runs in parallel, each in its own process; finished runs are skipped, interrupted ones resumed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tqdm import tqdm

from speechmlp.config.loading import load_config, require_same_settings
from speechmlp.errors import UserError
from speechmlp.runs.folder import CONFIG, METRICS


@dataclass(frozen=True)
class Job:
    """One run of a sweep: config file, overrides, and run folder."""

    config: str
    overrides: tuple[str, ...]
    run: Path


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
    command += [f"output.folder={json.dumps(str(job.run.parent))}", f"output.name={json.dumps(job.run.name)}"]
    environment = dict(os.environ)
    environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    environment |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode and not _is_over(job.run):  # a process killed at the very end may have finished the run
        errors = [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]
        errors = errors or [result.stderr.strip() or f"exit status {result.returncode}"]
        raise UserError(*(f"{job.run.name}: {error}" for error in errors))


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
