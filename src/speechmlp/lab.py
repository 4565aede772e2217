"""Many runs: each a process of its own, side by side, finished ones not repeated, interrupted ones resumed."""

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

from speechmlp.config_file import load_config, require_same_settings, shared_settings
from speechmlp.errors import UserError

CONFIG = "config.yaml"
"""A run that has it can be resumed; `runlog.CONFIG`, which cannot be imported here without torch."""


@dataclass(frozen=True)
class Job:
    """One run to have: a config file, its overrides, and the run's folder."""

    config: str
    overrides: tuple[str, ...]
    run: Path


def read_metrics(run: Path) -> list[dict[str, float | int | bool | str | None]]:
    """Returns a run's records, one an epoch; none where it has not finished its first."""
    metrics = run / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.exists() else []


def _is_over(run: Path) -> bool:
    records = read_metrics(run)
    return bool(records and records[-1]["stop"])


def visible_gpus() -> list[str]:
    """Returns the GPUs that runs may use, as `CUDA_VISIBLE_DEVICES` names them; asks no CUDA library to start."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")] if not listed.returncode else []
    return [str(number) for number in range(len(lines))]


def finish(jobs: Sequence[Job], threads: int | None = None, gpu: str | None = None) -> None:
    """Trains runs to their ends in one process, or goes on where they were interrupted.

    Args:
        jobs: what to train; several have one config file and learn together.
        threads: processor threads of the process; torch's choice where it is None.
        gpu: the one that the process sees, as `CUDA_VISIBLE_DEVICES` names it; what this process sees where it is None.

    Raises:
        UserError: training ends with an error, which is passed on.
    """
    wanted = [job for job in jobs if not _is_over(job.run)]
    if not wanted:
        return
    every = []
    for job in wanted:
        if not (job.run / CONFIG).exists():
            shutil.rmtree(job.run, ignore_errors=True)  # killed while its folder was made: nothing in there
        place = [f"output.folder={json.dumps(str(job.run.parent))}", f"output.name={json.dumps(job.run.name)}"]
        every.append([*job.overrides, *place])
    command = [sys.executable, "-m", "speechmlp.train", "--continue", "--config", wanted[0].config]
    command += every[0] if len(every) == 1 else [word for each in every for word in ("--each", *each)]
    environment = dict(os.environ)
    environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    environment |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    unfinished = [job for job in wanted if not _is_over(job.run)]
    if result.returncode and unfinished:  # killed at its very end, it had nothing left to do
        names = ", ".join(job.run.name for job in unfinished)
        told = [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]
        own = tuple(f"{job.run.name}: " for job in unfinished)  # how lines of a stack begin
        told = told or [result.stderr.strip() or f"exit status {result.returncode}"]
        raise UserError(*(line if line.startswith(own) else f"{names}: {line}" for line in told))


def stacks(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Returns jobs by those that can learn together, up to `size` in each, in the order of their first ones.

    Raises:
        UserError: a job's configuration is wrong.
    """
    if size == 1:
        return [[job] for job in jobs]
    together: dict[str, list[Job]] = {}
    for job in jobs:
        config = load_config(job.config, job.overrides)
        alone = str(job.run) if config.front_end.kind == "aligned" else None  # learns with its model
        key = json.dumps([job.config, alone, shared_settings(config)])
        together.setdefault(key, []).append(job)
    return [found[first : first + size] for found in together.values() for first in range(0, len(found), size)]


def finish_all(jobs: Sequence[Job], at_once: int, stack: int = 1) -> None:
    """Trains many runs, `at_once` processes side by side, sharing the processor's cores and spread over the GPUs.

    Args:
        jobs: what to train.
        at_once: processes.
        stack: up to how many models learn together in one process, where they can.

    Raises:
        UserError: some runs ended with errors, one line each; the others are finished all the same. Or one that is
            there has other settings; then none is begun.
    """
    for job in jobs:
        if (job.run / CONFIG).exists():
            require_same_settings(load_config(job.config, job.overrides), load_config(job.run / CONFIG), job.run)
    threads = max(1, (os.cpu_count() or 1) // at_once) if at_once > 1 else None
    gpus: SimpleQueue[str | None] = SimpleQueue()
    every = visible_gpus()
    for number in range(at_once):
        gpus.put(every[number % len(every)] if every else None)

    def train_some(some: list[Job]) -> None:
        gpu = gpus.get()  # as many as there are processes at once: never waits
        try:
            finish(some, threads, gpu)
        finally:
            gpus.put(gpu)

    problems: list[str] = []
    with ThreadPoolExecutor(at_once) as pool, tqdm(desc="runs", total=len(jobs), disable=None) as bar:
        counts = {pool.submit(train_some, some): len(some) for some in stacks(jobs, stack)}
        for future in as_completed(counts):
            bar.update(counts[future])
            if isinstance(error := future.exception(), UserError):
                problems += error.problems
            elif error is not None:
                raise error
    if problems:
        raise UserError(*problems)
