#!/usr/bin/env python3
"""Measures from the start of the process to the first step of training, and the memory of a whole epoch."""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from speechmlp.errors import UserError, run_command

CHILD = """
import os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from speechmlp.train import main
if sys.argv[1] == "step":
    register_optimizer_step_post_hook(lambda *_: os._exit(0))
sys.exit(main(sys.argv[2:]))
"""
IMPORT = "import torch, torchaudio"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="(%(default)s)")
    parser.add_argument("configs", nargs="*", metavar="FILE", default=["configs/seed.yaml", "configs/letters.yaml"])
    return parser


def _run(*arguments: str) -> float:
    """Returns the seconds that a Python process takes."""
    started = time.perf_counter()
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(result.stderr.strip().removeprefix("error: ") or f"exit status {result.returncode}")
    return time.perf_counter() - started


def _peak() -> float:
    """Returns the largest resident memory of any process that was run so far, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise UserError("--rounds: expected 1 or more")
    times: dict[str, list[float]] = {}
    peaks: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="speechmlp-start-") as scratch:
        quick = ["device=cpu", f"output.folder={scratch}", "training.epochs=1"]
        for config in arguments.configs:
            _run("-c", CHILD, "step", "--config", config, *quick)  # decodes the corpus
        for _ in range(arguments.rounds):
            for config in arguments.configs:
                seconds = _run("-c", CHILD, "step", "--config", config, *quick)
                times.setdefault(Path(config).name, []).append(seconds)
            times.setdefault(IMPORT, []).append(_run("-c", IMPORT))
        for config in arguments.configs:
            before = _peak()
            _run("-c", CHILD, "epoch", "--config", config, *quick)
            # The system reports the largest of all children so far, so a smaller one is only known to be smaller.
            peaks[Path(config).name] = f"{_peak():,.0f}" if _peak() > before else f"under {before:,.0f}"
    print("| | start to first step, s | least and most | memory of an epoch, MB |\n|---|---|---|---|")
    for name, found in times.items():
        print(
            f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} – {max(found):.2f} | {peaks.get(name, '')} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
