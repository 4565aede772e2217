#!/usr/bin/env python3
"""Measures training while other programs run, as it is and with threads that soon sleep while they wait (Linux).

Alone, with a program that keeps one core busy, and with another training, on a small synthetic corpus. The settings
take turns, round after round; the seconds of the epochs are reported, without those of the start.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechmlp.corpora.synthetic import prepare_synthetic
from speechmlp.errors import UserError, run_command

SETTINGS = (None, "1000")
"""Of `GOMP_SPINCOUNT`: GNU OpenMP's own, and what that takes by itself if it knows of fewer cores than threads."""
OTHERS = ("nothing", "a busy program", "another training")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", default="configs/seed.yaml", help="(%(default)s)")
    parser.add_argument(
        "--speakers", type=int, metavar="N", default=20, help="each says all letters once (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", default=3, help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def seconds_of_epochs(arguments: list[str], others: str, count: str | None) -> float:
    """Returns the seconds of a training's epochs with a setting of `GOMP_SPINCOUNT`.

    Raises:
        UserError: it ends with an error, which is passed on.
    """
    command = ["-m", "speechmlp.train", *arguments, "device=cpu"]
    environment = {**os.environ, **({} if count is None else {"GOMP_SPINCOUNT": count})}
    with tempfile.TemporaryDirectory(prefix="speechmlp-busy-") as scratch, ExitStack() as started:

        def start(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
            process = subprocess.Popen([sys.executable, *arguments], text=True, **options)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        if others == "a busy program":
            start("-c", "while True: pass")
        processes = []
        for number in range(2 if others == "another training" else 1):
            folder = [f"output.folder={json.dumps(scratch)}", f"output.name=run{number}"]
            processes.append(
                start(*command, *folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                raise UserError(errors.strip().removeprefix("error: ") or f"exit status {process.returncode}")
        lines = (Path(scratch) / "run0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return float(sum(json.loads(line)["seconds"] for line in lines))


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise UserError("--rounds: expected 1 or more")
    found: dict[tuple[str, str | None], list[float]] = {(others, count): [] for others in OTHERS for count in SETTINGS}
    with (
        tempfile.TemporaryDirectory(prefix="speechmlp-busy-") as scratch,
        tqdm(desc="trainings", total=arguments.rounds * len(found), disable=None) as bar,
    ):
        prepare_synthetic(Path(scratch), num_speakers=arguments.speakers, takes=1, seed=0)
        corpus = [f"corpus.manifest={json.dumps(f'{scratch}/manifest.tsv')}", "corpus.mix=[]", "corpus.negatives=[]"]
        training = ["--config", arguments.config, *corpus, *arguments.overrides]
        for _ in range(arguments.rounds):
            for (others, count), each in found.items():
                each.append(seconds_of_epochs(training, others, count))
                bar.update()
    changes = "".join(f" {override}" for override in arguments.overrides)
    print(f"{Path(arguments.config).name}{changes}: {arguments.rounds} rounds\n")
    print(f"| other programs | as it is, s | GOMP_SPINCOUNT={SETTINGS[1]}, s | quicker |\n|---|---|---|---|")
    for others in OTHERS:
        usual, brief = (statistics.median(found[others, count]) for count in SETTINGS)
        print(f"| {others} | {usual:.1f} | {brief:.1f} | {usual / brief:.2f} × |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
