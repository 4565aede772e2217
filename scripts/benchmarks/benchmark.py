#!/usr/bin/env python3
"""Writes docs/benchmark.md: the parts that are named, or all that this machine can; the others keep what they have.

Each part is a script of its own and can be run alone; its command is in the document.
"""

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from speechmlp.errors import UserError, run_command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmark.md"
HEAD = """# Speed

Written by `scripts/benchmarks/benchmark.py`; each part says by which command, on which machine and at which commit.
"""
BEST = "configs/letters.yaml"
ON_A_GPU = "--utterances 6238 --rounds 5 --without WAV device=cuda corpus.manifest=data/synthetic/manifest.tsv"
"""As many utterances as ISOLET's training speakers."""
PARTS: dict[str, tuple[str, list[str]]] = {
    "training": (
        "Training",
        [
            "scripts/benchmarks/training.py --config configs/seed.yaml --utterances 2048 --rounds 5",
            f"scripts/benchmarks/training.py --config {BEST} --utterances 256 --rounds 5",
            f"scripts/benchmarks/training.py --config {BEST} --utterances 256 --rounds 5 training.precision=bfloat16",
        ],
    ),
    "gpu": (
        "Training on a GPU",
        [
            f"scripts/benchmarks/training.py --config {config} {ON_A_GPU} training.batch_size={size}"
            for config in ("configs/seed.yaml", BEST)
            for size in (64, 512)
        ],
    ),
    "busy": (
        "While other programs run",
        [
            "scripts/benchmarks/busy.py --config configs/seed.yaml --rounds 2 training.epochs=10",
            f"scripts/benchmarks/busy.py --config {BEST} --rounds 2 training.epochs=2",
        ],
    ),
    "preparation": ("Preparation", ["scripts/benchmarks/decoding.py", "scripts/benchmarks/data.py"]),
    "start": ("Start and memory", ["scripts/benchmarks/start.py --rounds 3"]),
    "latency": ("One clip", ["scripts/benchmarks/export.py"]),
    "growth": ("Growth", ["scripts/benchmarks/growth.py --picture docs/images/growth.png"]),
}
"""Name -> title, commands; `gpu` wants one."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    return parser


def _machine() -> str:
    """Returns one line about processor, devices, versions, commit, and what else the machine does."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} cores of {names[0]}" if names else model
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    versions = []
    for package in ("torch", "onnxruntime", "lightning", "transformers"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    commit = ""
    if shutil.which("git"):
        git = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    load = "" if sys.platform == "win32" else f", load {os.getloadavg()[0]:.2f}"
    return (
        f"{model}, {', '.join(devices) or 'no GPU'}, Python {platform.python_version()}, {', '.join(versions)}; "
        f"commit {commit or 'unknown'}, {time.strftime('%Y-%m-%d')}{load} at the start."
    )


def _section(part: str) -> str:
    title, commands = PARTS[part]
    lines = [f"## {title}", "", _machine()]
    for command in commands:
        script, *arguments = shlex.split(command)
        print(command, flush=True)
        result = subprocess.run(
            [sys.executable, str(ROOT / script), *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        if result.returncode:
            raise UserError(f"{command}: exit status {result.returncode}; {DOCUMENT} keeps what it has of {part}")
        lines += ["", f"`{command}`", "", result.stdout.strip()]
    if part == "growth":
        lines += ["", "![Cost of an utterance as corpus, hidden layer and batch grow](images/growth.png)"]
    return "\n".join(lines) + "\n"


def _sections() -> dict[str, str]:
    """Returns the document's sections by title."""
    if not DOCUMENT.exists():
        return {}
    parts = DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def _benchmark(arguments: argparse.Namespace) -> int:
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        raise UserError(f"{unknown[0]}: expected parts of {', '.join(PARTS)}")
    for part in arguments.parts or [part for part in PARTS if part != "gpu" or torch.cuda.is_available()]:
        made = _section(part)
        sections = _sections() | {PARTS[part][0]: made}
        kept = [sections[title] for title, _ in PARTS.values() if title in sections]
        DOCUMENT.write_text("\n".join([HEAD, *kept]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _benchmark, None))
