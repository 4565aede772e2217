#!/usr/bin/env python3
"""Compares exported files with PyTorch: size, time for one letter, and letters recognised on a manifest's split."""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import run_command
from speechmlp.export.formats import FORMATS, export
from speechmlp.export.portable import Predictor
from speechmlp.models.inference import EVALUATION_BATCH
from speechmlp.recognition.recognizer import load_recognizer

ROUNDS = 15
CALLS = 40
"""Of each kind, in turn, a round: what else the machine does then meets all of them."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", metavar="FILE", help="the model; the one in the package by default")
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid", help="(%(default)s)")
    return parser


def _latency(kinds: dict[str, Predictor], waveform: Tensor) -> dict[str, tuple[float, float]]:
    """Returns median and 99th percentile of a call's time for each kind, in ms of the one thread that computes."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, predictor in kinds.items():
            predictor(waveform)
            for _ in range(CALLS):
                started = time.thread_time()
                predictor(waveform)
                times[kind].append(time.thread_time() - started)
    return {
        kind: (1000 * statistics.median(found), 1000 * statistics.quantiles(found, n=100)[98])
        for kind, found in times.items()
    }


def _benchmark(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    checkpoint = load_recognizer(arguments.checkpoint, "cpu").checkpoint
    corpus = checkpoint.config.corpus.model_copy(update={"manifest": arguments.manifest})
    letters = SpokenLetters(open_packed(corpus), arguments.split).to(torch.device("cpu"))

    def pytorch(waveforms: Tensor) -> Tensor:
        with torch.inference_mode():
            return (checkpoint.model(waveforms) / checkpoint.temperature).softmax(1)  # type: ignore[no-any-return]

    kinds: dict[str, Predictor] = {"pytorch": pytorch}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, form in FORMATS.items():
            file = Path(folder) / f"model{form.suffix}"
            export(checkpoint, "model", kind, file)
            kinds[kind], sizes[kind] = form.read(file, 1), file.stat().st_size
    found = {
        kind: torch.cat([predictor(batch.waveforms) for batch in letters.batches(EVALUATION_BATCH)])
        for kind, predictor in kinds.items()
    }
    times = _latency(kinds, letters.take(torch.zeros(1, dtype=torch.int64)).waveforms)

    expected = found["pytorch"]
    print(
        f"{len(letters)} letters of {arguments.manifest}, split {arguments.split}; one thread, ratios within this run. "
        "Accuracy is there to compare the files: a model may have been trained on these letters\n"
    )
    print(
        "| | bytes | size / onnx | p50 in ms | p99 in ms | / PyTorch | accuracy | other letters | largest difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, probabilities in found.items():
        size = f"{sizes[kind]:,} | {sizes[kind] / sizes['onnx']:.2f}" if kind in sizes else "|"
        other = (probabilities.argmax(1) != expected.argmax(1)).sum().item()
        accuracy = (probabilities.argmax(1) == letters.labels).double().mean().item()
        difference = (probabilities - expected).abs().max().item()
        (middle, late), ratio = times[kind], times[kind][0] / times["pytorch"][0]
        latency = f"{middle:.2f} | {late:.2f} | {ratio:.2f}"
        print(f"| {kind} | {size} | {latency} | {100 * accuracy:.2f} % | {other} | {difference:.1g} |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _benchmark, None))
