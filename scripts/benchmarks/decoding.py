#!/usr/bin/env python3
"""Measures how fast recordings are decoded and packed, compared with a plain loop of soundfile and torchaudio.

One-second WAV files of noise at 16 and at 44.1 kHz; both ways end in 16000 int16 samples an utterance in one file.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from speechmlp.audio_format import FULL_SCALE, NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command
from speechmlp.labels import LETTERS

RATES = (SAMPLE_RATE, 44_100)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, metavar="N", default=2000, help="of each rate (%(default)s)")
    parser.add_argument("--repeats", type=int, metavar="N", default=3, help="the best counts (%(default)s)")
    return parser


def _make(folder: Path, rate: int, count: int) -> list[Utterance]:
    generator = np.random.default_rng(rate)
    utterances = []
    for number in range(count):
        path = folder / f"{number}.wav"
        soundfile.write(path, generator.uniform(-0.5, 0.5, rate).astype(np.float32), rate, subtype="PCM_16")
        utterances.append(Utterance(path, LETTERS[number % 26], f"s{number % 100}"))
    write_manifest(folder / "manifest.tsv", utterances)
    return utterances


def _processor_time() -> float:
    """Returns seconds that all cores have worked for this process and the processes it started."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _plain(utterances: list[Utterance], target: Path) -> float:
    """Returns the seconds of the loop that everybody writes first."""
    started = time.perf_counter()
    with target.open("wb") as file:
        for utterance in utterances:
            samples, rate = soundfile.read(utterance.path, dtype="float32")
            wave = torchaudio.functional.resample(torch.from_numpy(samples), rate, SAMPLE_RATE)[:NUM_SAMPLES]
            wave = torch.nn.functional.pad(wave, (0, NUM_SAMPLES - len(wave)))
            file.write((wave * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16).numpy().tobytes())
    return time.perf_counter() - started


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.files < 1 or arguments.repeats < 1:
        raise UserError("--files and --repeats: expected 1 or more")
    with tempfile.TemporaryDirectory(prefix="speechmlp-decoding-") as scratch:
        for rate in RATES:
            folder = Path(scratch) / str(rate)
            folder.mkdir()
            utterances = _make(folder, rate, arguments.files)
            ours, plain, ratios, work = [], [], [], []
            for repeat in range(arguments.repeats):
                started, worked = time.perf_counter(), _processor_time()
                open_packed(CorpusConfig(manifest=str(folder / "manifest.tsv"), cache=str(folder / f"cache{repeat}")))
                ours.append(len(utterances) / (time.perf_counter() - started))
                work.append((_processor_time() - worked) / len(utterances))
                plain.append(len(utterances) / _plain(utterances, folder / "plain.i16"))
                ratios.append(ours[-1] / plain[-1])
            print(
                f"{rate} Hz, {len(utterances)} files, {torch.get_num_threads()} threads: packed {max(ours):,.0f} a "
                f"second, plain loop {max(plain):,.0f}; {sorted(ratios)[len(ratios) // 2]:.1f} times (median); "
                f"{1000 * min(work):.2f} ms of processor time a file",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
