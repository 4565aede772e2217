#!/usr/bin/env python3
"""Tries every fault that is to be survived, and prints how many were tried, survived and lost. Takes an hour or so.

Disks, broken recordings, files of strangers, archives, downloads and numbers are the tests of this repository; kills
and the long run are `check_runs.py`, generated inputs `fuzz.py`.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from speechmlp.errors import run_command

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "interruption, and a second process": "training/test_resume.py",
    "disk": "training/test_disk.py",
    "broken audio": "audio/test_broken_audio.py",
    "numbers": "training/test_divergence.py",
    "checkpoints of strangers": "runs/test_checkpoint.py",
    "manifests": "data/test_manifest.py",
    "config files": "config/test_config.py",
    "archives and downloads": "corpora/test_files.py",
}


def _tested(name: str) -> tuple[int, int, int]:
    """Returns how many tests of a file there are, how many passed, and how many failed; the others were skipped."""
    with tempfile.TemporaryDirectory(prefix="speechmlp-faults-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"tests/{name}",
            f"--junitxml={report}",
            "-p",
            "no:cacheprovider",
        ]
        subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
        suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    tests, skipped, failed, broken = (int(suite.get(key, 0)) for key in ("tests", "skipped", "failures", "errors"))
    return tests - skipped, tests - skipped - failed - broken, failed + broken


def _printed(*command: str) -> tuple[list[list[str]], bool]:
    """Returns the cells of the rows of the table that a script prints, without its head, and whether all was well."""
    whole = [sys.executable, str(ROOT / "scripts" / command[0]), *command[1:]]
    result = subprocess.run(whole, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]], result.returncode == 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", metavar="N", default="20", help="of each experiment (%(default)s)")
    parser.add_argument("--epochs", metavar="N", default="2000", help="of the long run (%(default)s)")
    parser.add_argument("--inputs", metavar="N", default="10000", help="of each kind that is generated (%(default)s)")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    well = True
    print("| fault | tried | survived | lost |\n|---|---|---|---|", flush=True)
    for fault, name in TESTS.items():
        tried, survived, lost = _tested(name)
        well = well and lost == 0
        print(f"| {fault} | {tried} | {survived} | {lost} |", flush=True)
    rows, sound = _printed("check_runs.py", "--kills", arguments.kills, "--epochs", arguments.epochs)
    for experiment, fault, *counts in rows:
        print(f"| {experiment}: {fault} | {' | '.join(counts)} |", flush=True)
    well = well and sound
    rows, sound = _printed("fuzz.py", "--inputs", arguments.inputs)
    for kind, count, told, valid, failed, slowest, memory in rows:
        survived = int(told) + int(valid)
        print(f"| generated {kind} ({slowest} s at most, {memory} MB) | {count} | {survived} | {failed} |", flush=True)
    return 0 if well and sound else 1


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _check, None))
