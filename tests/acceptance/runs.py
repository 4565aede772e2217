"""Kills training at random moments and inside checkpoint writes, resumes, and compares with the uninterrupted run.

Weights, optimizer, metrics (but for the seconds) and the calibrated best.pt have to be the same bits. Two experiments:
a plain one, and one with everything that draws or remembers: dropout, augmentation, mixup, a moving average, Muon,
bfloat16, a mixed-in corpus and negatives. Then a run of thousands of epochs, whose memory and open files must not grow
(Linux). Prints a Markdown table.

    python -m tests.acceptance.runs
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.data.manifest import Split, Utterance, write_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.labels import LETTERS, NOT_A_LETTER

ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = 10
"""To interrupt a run before it is over."""
SMALL = ["training.epochs=4", "training.batch_size=8", "device=cpu", "corpus.audit=false"]
EXPERIMENTS = {
    "plain": ["--config", str(ROOT / "configs" / "quickstart.yaml"), *SMALL, "model.hidden=[128]"],
    "all options": [
        *["--config", str(ROOT / "configs" / "letters.yaml"), *SMALL, "corpus.learn=train", "training.keep=best"],
        *["model.width=32", "model.blocks=1", "model.channel_hidden=64", "front_end.endpoint_width=16"],
        *["training.mixup=0.2", "training.precision=bfloat16"],
        "corpus.mix=[{manifest: more/manifest.tsv, weight: 0.5}]",
        "corpus.negatives=[{manifest: noises/non_letters.tsv, weight: 0.2}]",
    ],
}
MOMENTS = ("anywhere", "inside a write of last.pt", "anywhere", "inside a write of best.pt")
"""When processes are killed, in turn."""

HAUL = [
    *["model.hidden=[8]", "front_end.hop_length=1600", "training.batch_size=104"],
    "corpus.manifest=letters/manifest.tsv",
]
LARGEST_GROWTH = 0.03
"""Of resident memory, from the second tenth of a long run's epochs to the last."""


def make_corpora(folder: Path) -> None:
    """Writes tones of a pitch a letter as `letters` and `more`, and noise as `noises`, with manifests."""
    noise = np.random.default_rng(0)
    for name, splits in (("letters", ("train",) * 4 + ("valid", "test")), ("more", ("train",) * 2)):
        utterances = []
        for speaker, split in enumerate(splits):
            for index, letter in enumerate(LETTERS):
                path = folder / name / f"s{speaker}" / f"{letter}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                wave = 0.3 * np.sin(2 * np.pi * (200 + 120 * index) * np.arange(5000 + 500 * speaker) / SAMPLE_RATE)
                soundfile.write(path, wave + 0.01 * noise.standard_normal(len(wave)), SAMPLE_RATE, subtype="PCM_16")
                chosen: Split = "train" if split == "train" else "valid" if split == "valid" else "test"
                utterances.append(Utterance(path, letter, f"{name}{speaker}", chosen))
        write_manifest(folder / name / "manifest.tsv", utterances)
    others = []
    for number in range(20):
        path = folder / "noises" / "wav" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.2 * noise.standard_normal(NUM_SAMPLES), SAMPLE_RATE, subtype="PCM_16")
        others.append(Utterance(path, NOT_A_LETTER, "unknown", "train"))
    write_manifest(folder / "noises" / "non_letters.tsv", others)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Returns a training process in a folder, with one thread, its output in pipes."""
    command = [sys.executable, "-m", "speechmlp.train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def train_whole(folder: Path, *arguments: str) -> float:
    """Trains to the end; returns how many seconds passed after the run folder was there.

    Raises:
        RuntimeError: it fails.
    """
    with start(folder, *arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Run: "):
                begun = time.perf_counter()
        passed = time.perf_counter() - begun
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return passed


def _bits(value: Any) -> Any:
    """Returns a value in which equal means the same bits; without the seconds that an epoch took."""
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, dict):
        return {key: _bits(inner) for key, inner in value.items() if key not in ("seconds", "output")}
    return [_bits(inner) for inner in value] if isinstance(value, list | tuple) else repr(value)


def differences(one: Path, other: Path) -> list[str]:
    """Returns what differs between two runs' checkpoints and metrics."""
    found = []
    for name in ("last.pt", "best.pt"):
        first, second = (torch.load(run / name, weights_only=True) for run in (one, other))
        found += [f"{name}: {key}" for key in first if _bits(first[key]) != _bits(second[key])]
    texts = [(run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() for run in (one, other)]
    first, second = ([_bits(json.loads(line)) for line in lines] for lines in texts)
    return found + (["metrics.jsonl"] if first != second else [])


@dataclass(frozen=True)
class Trial:
    """One interruption: when it came, what was wrong afterwards, and whether the run was over before it came."""

    moment: str
    problems: tuple[str, ...]
    over: bool


def interrupt(folder: Path, name: str, arguments: list[str], moment: str, number: int, wait: float) -> Trial:
    """Trains a new run `name`, sends a signal, resumes to the end, and compares with the run `whole`.

    Args:
        folder: with the corpora.
        name: of the run.
        arguments: of the experiment.
        moment: one of `MOMENTS`.
        number: of the signal.
        wait: seconds after the run folder is there, for `anywhere`; otherwise how often the file is written before.
    """
    run = folder / "runs" / name
    with start(folder, *arguments, f"output.name={name}") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stdout.readline()) and not line.startswith("Run: "):
            pass
        if moment == "anywhere":
            time.sleep(wait)
        else:
            partial = run / f".{moment.rpartition(' ')[2]}.partial"
            for _ in range(1 + int(wait) % 3):
                _until(process, partial, there=False)
                _until(process, partial, there=True)
        process.send_signal(number)
        output, errors = process.communicate()
    problems = []
    inside = moment == "anywhere" or number != signal.SIGKILL or any(run.glob(".*.partial"))
    came = moment if inside else f"just after a write of {moment.rpartition(' ')[2]}"
    if number != signal.SIGKILL and "Traceback" in errors:
        problems.append("a traceback")
    over = process.returncode == 0 or "Temperature: " in output  # a signal that comes afterwards changes nothing
    if not over and number != signal.SIGKILL:
        if process.returncode != 128 + number:
            problems.append(f"status {process.returncode}")
        if "; saved, go on with: speechmlp train --resume " not in errors:
            problems.append("does not say how to go on")
    if not over:
        resumed = start(folder, "--resume", f"runs/{name}")
        _, errors = resumed.communicate()
        if resumed.returncode and "training is over" not in errors:
            problems.append(f"resuming failed: {errors.strip()[-200:]}")
    if not problems:
        problems += differences(folder / "runs" / "whole", run)
    problems += [f"left: {path.name}" for path in run.glob(".*.partial")]
    return Trial(came, tuple(problems), over)


def _until(process: "subprocess.Popen[str]", path: Path, there: bool) -> None:
    while path.exists() is not there and process.poll() is None:
        pass  # busy, because a write takes a millisecond


def check(folder: Path, experiment: str, kills: int, seed: int, device: str = "cpu") -> Iterator[tuple[str, Trial]]:
    """Yields signal and outcome of so many SIGKILLs, and of a SIGINT and a SIGTERM for every ten."""
    chance = random.Random(seed)
    arguments = [*EXPERIMENTS[experiment], "corpus.manifest=letters/manifest.tsv", f"device={device}"]
    seconds = train_whole(folder, *arguments, "output.name=whole")
    numbers = [signal.SIGKILL] * kills + [signal.SIGINT, signal.SIGTERM] * -(-kills // 10)
    for trial, number in enumerate(numbers):
        moment = MOMENTS[trial % len(MOMENTS)] if number == signal.SIGKILL else "anywhere"
        for attempt in range(ATTEMPTS):
            wait = chance.uniform(0, 0.95 * seconds) if moment == "anywhere" else trial
            outcome = interrupt(folder, f"trial{trial}-{attempt}", arguments, moment, number, wait)
            if outcome.problems or not outcome.over:
                break
            seconds *= 0.9  # the machine had been slower when the whole run was timed
        yield number.name, outcome


def resident_and_open(process: int) -> tuple[float, int]:
    """Returns the resident memory of a process in MB, and how many files it has open."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return kilobytes / 1024, len(list(Path(f"/proc/{process}/fd").iterdir()))


def haul(folder: Path, epochs: int) -> list[tuple[float, int]]:
    """Returns resident memory in MB and open files after every epoch of a run in a folder with corpora.

    Raises:
        UserError: training fails.
    """
    arguments = [*EXPERIMENTS["plain"], *HAUL, f"training.epochs={epochs}", "output.name=long"]
    measured: list[tuple[float, int]] = []
    with start(folder, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith(f"epoch {len(measured) + 1}/") and len(measured) < epochs - 1:
                measured.append(resident_and_open(process.pid))
        errors = process.stderr.read()
    if process.returncode:
        raise UserError(f"training failed: {errors.strip()}")
    return measured


def growth(measured: list[tuple[float, int]]) -> tuple[float, int]:
    """Returns how much memory, as a fraction, and how many open files the last tenth has more than the second."""
    tenth = len(measured) // 10
    early, late = measured[tenth : 2 * tenth], measured[-tenth:]
    memory = [median(size for size, _ in part) for part in (early, late)]
    return memory[1] / memory[0] - 1, max(count for _, count in late) - max(count for _, count in early)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, metavar="N", default=20, help="of each experiment (%(default)s)")
    parser.add_argument("--epochs", type=int, metavar="N", default=2000, help="of the long run; 0: none (%(default)s)")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="(%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the moments (%(default)s)")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    if arguments.kills < 0 or (arguments.epochs and arguments.epochs < 20):
        raise UserError("expected 0 or more --kills, and 0 or 20 or more --epochs")
    lost = 0
    print("| experiment | fault | tried | survived | lost |\n|---|---|---|---|---|")
    for experiment in EXPERIMENTS if arguments.kills else ():
        with tempfile.TemporaryDirectory(prefix="speechmlp-resume-") as scratch:
            make_corpora(Path(scratch))
            counts: dict[str, list[int]] = {}
            for name, trial in check(Path(scratch), experiment, arguments.kills, arguments.seed, arguments.device):
                tried = counts.setdefault(f"{name} {trial.moment}{' (it had ended)' if trial.over else ''}", [0, 0])
                tried[0] += 1
                tried[1] += not trial.problems
                for problem in trial.problems:
                    print(f"{experiment}: {name} {trial.moment}: {problem}", file=sys.stderr)
        for fault, (tried_, survived) in counts.items():
            print(f"| {experiment} | {fault} | {tried_} | {survived} | {tried_ - survived} |", flush=True)
            lost += tried_ - survived
    if arguments.epochs:
        with tempfile.TemporaryDirectory(prefix="speechmlp-haul-") as scratch:
            make_corpora(Path(scratch))
            measured = haul(Path(scratch), arguments.epochs)
        memory, files = growth(measured)
        grown = int(memory > LARGEST_GROWTH or files > 0)
        ends = f"{measured[0][0]:.0f} to {measured[-1][0]:.0f} MB, {100 * memory:+.1f}% after the first tenth"
        print(f"| small run | {arguments.epochs} epochs: {ends}, {files} further files | 1 | {1 - grown} | {grown} |")
        lost += grown
    return 1 if lost else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
