#!/usr/bin/env python3
"""Calculates whether data, arithmetic or network bind a training over many processes: assumptions in, a table out.

An epoch of N utterances on W processes, G to a machine, batch B each, D bytes an utterance, F floating-point operations
an utterance, P parameters:

    arithmetic = N F / (W x speed of a process)
    data       = N D / (machines x what a machine reads a second)
    network    = N / (W B) x (2 (W - 1) / W x 4 P / bandwidth of a process + 2 log2(W) x latency)

Whole ring all-reduces after each step; what overlaps is not taken off.
"""

import argparse
import math
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from speechmlp.audio import NUM_SAMPLES
from speechmlp.config_file import load_config
from speechmlp.errors import UserError, run_command
from speechmlp.models import SpeechClassifier

FOURIER = 2.5
"""Floating-point operations of a real transform of n samples over n log2 n; FlopCounterMode counts products only."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", default="configs/letters.yaml", help="(%(default)s)")
    parser.add_argument("--utterances", type=float, metavar="N", default=1e8, help="(%(default)g)")
    parser.add_argument("--batch", type=int, metavar="B", default=512, help="of a process (%(default)s)")
    parser.add_argument("--per-machine", type=int, metavar="G", default=8, help="processes (%(default)s)")
    parser.add_argument(
        "--speed", type=float, metavar="FLOPS", default=2e13, help="of a process, kept up (%(default)g)"
    )
    parser.add_argument("--reading", type=float, metavar="B/S", default=2e9, help="of a machine (%(default)g)")
    parser.add_argument("--network", type=float, metavar="B/S", default=5e9, help="of a process (%(default)g)")
    parser.add_argument("--latency", type=float, metavar="S", default=2e-5, help="of a message (%(default)g)")
    return parser


def operations(config_file: str) -> tuple[float, int]:
    """Returns floating-point operations of a training step for one utterance, and the number of parameters."""
    config, count = load_config(config_file, []), 4
    model = SpeechClassifier(config).train()
    with FlopCounterMode(display=False) as counter:
        features, loss = model.training_features(0.1 * torch.randn(count, NUM_SAMPLES))
        (model.network(features).square().mean() + loss).backward()
    products = counter.get_total_flops() / count
    if config.front_end.kind == "raw":
        return products, model.num_parameters()
    n_fft = config.front_end.n_fft
    frames = 1 + NUM_SAMPLES // config.front_end.hop_length
    return products + frames * FOURIER * n_fft * math.log2(n_fft), model.num_parameters()


def _plan(arguments: argparse.Namespace) -> int:
    numbers = [value for name, value in vars(arguments).items() if name != "config"]
    if min(numbers) <= 0:
        raise UserError("expected positive numbers")
    work, parameters = operations(arguments.config)
    count, batch, size = arguments.utterances, arguments.batch, 2 * NUM_SAMPLES
    print(
        f"{arguments.config}: {count:g} utterances of {size:,} bytes ({count * size / 1e12:.1f} TB), "
        f"{work / 1e6:,.0f} million operations an utterance, {parameters:,} parameters; batch {batch} a process. "
        f"Assumed: {arguments.speed / 1e12:g} TFLOP/s a process, {arguments.reading / 1e9:g} GB/s read by a machine "
        f"of {arguments.per_machine}, {arguments.network / 1e9:g} GB/s and {1e6 * arguments.latency:g} µs "
        "between processes.\n"
    )
    print(
        "| processes | their batch | arithmetic, s | data, s | network, s an epoch | binds |\n|---|---|---|---|---|---|"
    )
    for processes in (1, 2, 8, 64, 512):
        machines = math.ceil(processes / arguments.per_machine)
        steps = count / (processes * batch)
        exchange = 2 * (processes - 1) / processes * 4 * parameters / arguments.network
        times = {
            "arithmetic": count * work / (processes * arguments.speed),
            "data": count * size / (machines * arguments.reading),
            "network": steps * (exchange + 2 * math.log2(processes) * arguments.latency),
        }
        figures = " | ".join(f"{seconds:,.0f}" for seconds in times.values())
        print(f"| {processes} | {processes * batch:,} | {figures} | {max(times, key=lambda name: times[name])} |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _plan, None))
