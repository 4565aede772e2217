#!/usr/bin/env python3
"""Measures what an utterance costs as corpus, hidden layer and batch grow, on noise; draws it too."""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from speechmlp.audio_format import NUM_SAMPLES
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.sampler import Sampler
from speechmlp.environment import keep_freed_memory
from speechmlp.errors import UserError, run_command
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import select_device
from speechmlp.training.loop import Task, train
from speechmlp.training.optimizers import build_optimizer

GROWTH = {
    "utterances": (256, 1024, 4096),
    "hidden": (25, 50, 100, 200, 400, 800),
    "batch": (8, 16, 32, 64, 128, 256, 512),
}
USUAL = {"utterances": 1024, "hidden": 100, "batch": 64}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", metavar="FILE", default="configs/seed.yaml", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, metavar="N", default=2, help="(%(default)s)")
    parser.add_argument("--picture", metavar="FILE", help="PNG to draw")
    return parser


def _noise(count: int, device: torch.device) -> DeviceCorpus:
    samples = torch.randint(-9999, 9999, (count, NUM_SAMPLES), dtype=torch.int16).to(device)
    positions = torch.arange(count, device=device)
    return DeviceCorpus([samples], [positions], positions % 26, torch.full_like(positions, NUM_SAMPLES))


def _cost(config: Config, count: int, valid: DeviceCorpus) -> float:
    """Returns microseconds of processor time, or on a GPU of time, for each utterance of an epoch."""
    model = SpeechClassifier(config).to(valid.device)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    corpus = _noise(count, valid.device)
    sampler = Sampler(corpus.labels, [count], [], 0.0)
    epochs = train(Task(model, corpus, sampler, valid, config.training), optimizer)
    next(epochs)  # warms up
    clock = time.process_time if valid.device.type == "cpu" else time.perf_counter
    started = clock()
    next(epochs)
    return 1e6 * (clock() - started) / count


def _draw(found: dict[str, dict[int, list[float]]], file: Path) -> None:
    from speechmlp.evaluation.html_page import load_pyplot

    pyplot = load_pyplot()
    figure, plots = pyplot.subplots(1, len(found), figsize=(11, 3), layout="constrained", sharey=True)
    for plot, (axis, costs) in zip(plots, found.items(), strict=True):
        plot.plot(list(costs), [statistics.median(each) for each in costs.values()], "o-")
        plot.set(xlabel=axis, xscale="log", yscale="log")
        plot.set_xticks(list(costs), labels=[str(size) for size in costs], minor=False)
        plot.minorticks_off()
    plots[0].set(
        ylabel="µs an utterance", yticks=(50, 100, 200, 500, 1000), yticklabels=("50", "100", "200", "500", "1000")
    )
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise UserError("--rounds: expected 1 or more")
    keep_freed_memory()
    base = load_config(arguments.config, ["training.epochs=2", "training.balance=0"])
    valid = _noise(26, select_device(base.device))
    found: dict[str, dict[int, list[float]]] = {axis: {size: [] for size in sizes} for axis, sizes in GROWTH.items()}
    for _ in range(arguments.rounds):
        for axis, costs in found.items():
            for size, each in costs.items():
                sizes = USUAL | {axis: size}
                changes = [f"training.batch_size={sizes['batch']}", f"model.hidden=[{sizes['hidden']}]"]
                config = load_config(arguments.config, ["training.epochs=2", "training.balance=0", *changes])
                each.append(_cost(config, sizes["utterances"], valid))
    print(
        f"{Path(arguments.config).name} with {USUAL['utterances']} utterances, hidden layer {USUAL['hidden']}, ", end=""
    )
    print(
        f"batch {USUAL['batch']}, one of them changed; {arguments.rounds} rounds, {torch.get_num_threads()} threads, ",
        end="",
    )
    print(f"{valid.device}\n\n| | | processor µs an utterance | least and most |\n|---|---|---|---|")
    for axis, costs in found.items():
        for size, each in costs.items():
            print(f"| {axis} | {size:,} | {statistics.median(each):.0f} | {min(each):.0f} – {max(each):.0f} |")
    if arguments.picture:
        _draw(found, Path(arguments.picture))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
