#!/usr/bin/env python3
"""Trains the network that tells voices from other sounds (`speechmlp.audio.speech`), which decides the second to use.

Letters of training speakers, at many levels, in noise, rooms and telephone bands, are voices and noise (friction);
generated noises and given recordings of noises are noise if they last; generated tones, buzzes, clicks and knocks are
others. Test speakers are not used. The same seed gives the same weights.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio.recordings import SUFFIXES
from speechmlp.audio.speech import CLASSES, WEIGHTS, Analysis, judge
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.files import whole_file

Samples = NDArray[np.float64]
Generator = np.random.Generator
VOICE, NOISE, OTHER = range(len(CLASSES))
HIDDEN = 16
PERIODIC, CORE = 2, 1
"""Indices of measurements."""
LASTING = 6
"""Frames within 10 dB of the loudest one from which on a noise could be friction; those of clicks are shorter."""
WEAKEST = 25.0
"""dB below the loudest sound of a recording from which on sounds are not used."""


def _time(seconds: float) -> Samples:
    return np.arange(max(2, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE


def _between(rng: Generator, low: float, high: float) -> float:
    """Returns a number between two, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _shape(rng: Generator, seconds: float) -> Samples:
    """Returns an envelope: an attack, then a plateau, a decay or a swell."""
    time = _time(seconds)
    kind = rng.integers(3)
    attack = _between(rng, 0.0005, 0.05)
    if kind == 0:
        shape = np.minimum(1, (time[-1] - time) / _between(rng, 0.001, 0.08))
    elif kind == 1:
        shape = np.exp(-time / _between(rng, 0.03, 0.5))
    else:
        shape = np.sin(np.pi * (time + 1e-4) / (time[-1] + 2e-4)) ** rng.uniform(0.3, 2)
    return np.asarray(shape * np.minimum(1, time / attack))


def _row(rng: Generator, one: Callable[[], Samples], most: int) -> Samples:
    """Returns one to `most` sounds in a row."""
    count = int(rng.integers(1, most + 1)) if rng.random() < 0.5 else 1
    parts = []
    pause = _between(rng, 0.002, 0.2)
    for _ in range(count):
        parts += [rng.uniform(0.4, 1) * one(), np.zeros(round(pause * SAMPLE_RATE))]
    return np.concatenate(parts[:-1])


def tones(rng: Generator) -> Samples:
    """Returns notes of a few partials: pure, dual, harmonic or not, steady, gliding or trembling."""
    partials = int(rng.choice([1, 1, 2, 3, 6, 20]))
    harmonic = rng.random() < 0.6
    slope = rng.uniform(0, 2)
    glide = partials < 6 and rng.random() < 0.4  # many partials that glide are a voice
    tremble = rng.uniform(0, 0.15) if rng.random() < 0.25 else 0.0
    speed, square = rng.uniform(4, 30), rng.random() < 0.4
    odd = harmonic and rng.random() < 0.4

    def note() -> Samples:
        seconds = _between(rng, 0.05, 1.0)
        time = _time(seconds)
        base = _between(rng, 150, 4000) if partials < 4 else _between(rng, 150, 1500)
        bend = np.ones(len(time))
        if glide:
            bend = _between(rng, 0.25, 4) ** (time / time[-1])
        if tremble:
            wave = np.sin(2 * np.pi * speed * time)
            bend = bend * (1 + tremble * (np.sign(wave) if square else wave))
        phase = 2 * np.pi * np.cumsum(base * bend) / SAMPLE_RATE
        sound = np.zeros(len(time))
        for number in range(1, partials + 1):
            ratio = (2 * number - 1 if odd else number) if harmonic else _between(rng, 1, 6)
            level = number**-slope * rng.uniform(0.5, 1)
            sound += level * np.sin(ratio * phase + rng.uniform(0, 6)) * (ratio * base * bend < 7800)
        return sound * _shape(rng, seconds)

    return _row(rng, note, 6)


def buzzes(rng: Generator) -> Samples:
    """Returns buzzers and horns: square and saw-tooth waves whose pitch stays, drifts or trembles."""
    low = rng.uniform(0.2, 0.5)
    drift = _between(rng, 0.8, 1.25) if rng.random() < 0.5 else 1.0
    tremble = rng.uniform(0, 0.05) if rng.random() < 0.3 else 0.0
    base, speed = _between(rng, 200, 1500), rng.uniform(4, 30)
    square = rng.random() < 0.5
    band = rng.uniform(100, 800), _between(rng, 2500, 8000)

    def buzz() -> Samples:
        seconds = _between(rng, 0.08, 1.0)
        time = _time(seconds)
        bend = drift ** (time / time[-1]) * (1 + tremble * np.sin(2 * np.pi * speed * time))
        phase = np.cumsum(base * bend) / SAMPLE_RATE % 1
        sound = np.where(phase < low, 1.0, -1.0) if square else 2 * phase - 1
        sound = sound - sound.mean()
        if rng.random() < 0.5:  # a loudspeaker
            frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
            gain = np.exp(-np.maximum(0, band[0] - frequency) / 150 - np.maximum(0, frequency - band[1]) / 600)
            sound = np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))
        return np.asarray(sound * _shape(rng, seconds))

    return _row(rng, buzz, 4)


def bursts(rng: Generator) -> Samples:
    """Returns noises of any band: clicks, keys, claps, breath, sniffs, rustle."""
    low = _between(rng, 30, 4000)
    high = min(7900.0, low * _between(rng, 1.5, 40))
    decay = _between(rng, 0.0005, 0.3)

    def burst() -> Samples:
        seconds = max(0.02, min(1.0, 5 * decay * _between(rng, 0.5, 2)))
        spectrum = np.fft.rfft(rng.standard_normal(round(seconds * SAMPLE_RATE)))
        frequency = np.fft.rfftfreq(round(seconds * SAMPLE_RATE), 1 / SAMPLE_RATE)
        spectrum *= np.exp(-np.maximum(0, low - frequency) / 150 - np.maximum(0, frequency - high) / 600)
        noise = np.fft.irfft(spectrum, round(seconds * SAMPLE_RATE))
        time = _time(seconds)
        if decay < 0.08 or rng.random() < 0.3:
            return noise * np.exp(-time / decay) * np.minimum(1, time / _between(rng, 0.0002, 0.01))
        return noise * _shape(rng, seconds)[: len(noise)]

    return _row(rng, burst, 6)


def knocks(rng: Generator) -> Samples:
    """Returns damped modes: knocks, taps, thumps, pops."""
    modes = int(rng.integers(1, 6))
    low, high = (20.0, 200.0) if rng.random() < 0.3 else (60.0, 3000.0)

    def knock() -> Samples:
        time = _time(0.5)
        sound = rng.uniform(0, 0.5) * rng.standard_normal(len(time)) * np.exp(-time / _between(rng, 0.0005, 0.006))
        for _ in range(modes):
            decay = _between(rng, 0.004, 0.12)
            sound += (
                rng.uniform(0.2, 1)
                * np.exp(-time / decay)
                * np.sin(2 * np.pi * _between(rng, low, high) * time + rng.uniform(0, 6))
            )
        return sound

    return _row(rng, knock, 4)


def steps(rng: Generator) -> Samples:
    """Returns jumps of the baseline that stay, or settle."""
    time = _time(0.8)
    return np.exp(-time / _between(rng, 0.002, 3)) * np.cos(2 * np.pi * rng.uniform(0, 20) * time)


GENERATED = {"tones": tones, "buzzes": buzzes, "bursts": bursts, "knocks": knocks, "steps": steps}


def _read(path: Path, start: float | None = None, end: float | None = None) -> Samples:
    samples = to_mono_16k(*load(path, start, end)).double().numpy()
    samples = samples - samples.mean()
    size = min(80, len(samples) // 4)
    samples[:size] *= np.linspace(0, 1, size)
    samples[len(samples) - size :] *= np.linspace(1, 0, size)
    return np.asarray(samples)


def _worse(samples: Samples, rng: Generator) -> Samples:
    """Returns a recording as others would have made it: another speed, a telephone's band, a room, less treble."""
    length = max(800, round(len(samples) * rng.uniform(0.85, 1.2)))
    samples = np.interp(np.linspace(0, len(samples) - 1, length), np.arange(len(samples)), samples)
    if rng.random() < 0.3:
        size = round(rng.uniform(0.05, 0.4) * SAMPLE_RATE)
        room = rng.standard_normal(size) * np.exp(-5 * np.arange(size) / size) * _between(rng, 0.01, 0.1)
        room[0] = 1
        samples = np.convolve(samples, room)
    if rng.random() < 0.5:
        frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
        low, high = rng.uniform(50, 350), rng.choice([rng.uniform(3000, 3800), rng.uniform(4000, 8000)])
        band = np.exp(-np.maximum(0, low - frequency) / 50 - np.maximum(0, frequency - high) / 200)
        samples = np.fft.irfft(np.fft.rfft(samples) * band, len(samples))
    return np.asarray(samples)


def _measured(samples: Samples, rng: Generator) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Puts a sound into a recording with some noise; returns the measurements of what is found, and the levels."""
    length = len(samples) + round(rng.uniform(0.4, 3) * SAMPLE_RATE)
    floor = rng.standard_normal(length)
    if rng.random() < 0.5:
        floor = np.convolve(floor, np.ones(8) / 2.8, "same")
    peak = rng.uniform(0.03, 0.9)
    recording = peak * 10 ** (rng.uniform(-80, -25) / 20) * floor
    at = int(rng.integers(0, length - len(samples) + 1))
    recording[at : at + len(samples)] += peak * samples / max(1e-9, float(np.abs(samples).max()))
    analysis = Analysis(recording.astype(np.float32))
    found = [
        (first, last)
        for first, last in analysis.stretches()
        if first * 160 < at + len(samples) and last * 160 + 512 > at
    ]
    if not found:
        return np.zeros((0, 18), np.float32), np.zeros(0)
    levels = np.array([analysis.smooth[first:last].max() for first, last in found])
    return analysis.measurements(found), levels - levels.max()


Example = tuple[NDArray[np.float32], int, str]


def _letter_examples(samples: Samples, rng: Generator) -> Iterator[Example]:
    """Yields the sounds of a letter: vowels are voices, what else is loud enough is noise."""
    measurements, levels = _measured(_worse(samples, rng), rng)
    for row, level in zip(measurements, levels, strict=True):
        vowel = row[PERIODIC] > 0.6 and np.exp(row[CORE]) >= 5
        if level > -WEAKEST:
            yield row, VOICE if vowel or len(levels) == 1 else NOISE, "letter"


def _other_examples(samples: Samples, kind: str, rng: Generator) -> Iterator[Example]:
    for row, level in zip(*_measured(samples, rng), strict=True):
        lasting = kind in ("bursts", "noises") and np.exp(row[CORE]) >= LASTING
        if level > -WEAKEST:
            yield row, NOISE if lasting else OTHER, kind


def _noise_files(folders: Sequence[str]) -> list[Path]:
    found = [
        path
        for folder in folders
        for path in sorted(Path(folder).rglob("*") if Path(folder).is_dir() else [Path(folder)])
        if path.suffix.lower() in SUFFIXES
    ]
    if not found and folders:
        raise UserError(f"--noises: expected recordings, or folders of them, found none in {' '.join(folders)}")
    return found


def examples(arguments: argparse.Namespace, rng: Generator) -> Iterator[Example]:
    """Yields measurements with class and kind."""
    letters = [one for manifest in arguments.voices for one in read_manifest(manifest) if one.split in ("train", None)]
    for number in rng.permutation(len(letters))[: arguments.letters]:
        one = letters[number]
        yield from _letter_examples(_read(one.path, one.start, one.end), rng)
    for kind, draw in GENERATED.items():
        for _ in range(arguments.generated if kind != "steps" else arguments.generated // 4):
            yield from _other_examples(draw(rng), kind, rng)
    for path in _noise_files(arguments.noises):
        noise = _read(path)
        for _ in range(4):
            size = round(rng.uniform(0.1, 1.2) * SAMPLE_RATE)
            first = int(rng.integers(0, max(1, len(noise) - size)))
            yield from _other_examples(noise[first : first + size] if len(noise) > 3 * size else noise, "noises", rng)


def _fit(
    inputs: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float32], seed: int
) -> dict[str, NDArray[np.float32]]:
    """Returns the trained network as arrays."""
    torch.manual_seed(seed)
    mean, deviation = inputs.mean(0), inputs.std(0)
    scaled = torch.from_numpy(np.clip((inputs - mean) / deviation, -4, 4))
    inner, outer = nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, len(CLASSES))
    parameters = [*inner.parameters(), *outer.parameters()]
    optimizer = torch.optim.AdamW(parameters, 2e-2, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 1500)
    target, weight = torch.from_numpy(labels), torch.from_numpy(weights)
    for _ in range(1500):
        logits = outer(inner(scaled).tanh())
        loss = (weight * nn.functional.cross_entropy(logits, target, reduction="none")).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    print(f"Loss: {loss.item():.4f}")
    return {
        "mean": mean,
        "deviation": deviation,
        "inner": inner.weight.detach().numpy().T.copy(),
        "inner_bias": inner.bias.detach().numpy(),
        "outer": outer.weight.detach().numpy().T.copy(),
        "outer_bias": outer.bias.detach().numpy(),
    }


def _train(arguments: argparse.Namespace) -> int:
    rng = np.random.default_rng(arguments.seed)
    rows, labels, kinds = zip(*examples(arguments, rng), strict=True)
    inputs, label, kind = np.stack(rows), np.array(labels), np.array(kinds)
    weight = np.zeros(len(label), np.float32)
    for name in np.unique(kind):
        for number in np.unique(label[kind == name]):
            some = (kind == name) & (label == number)
            weight[some] = some.sum() ** -0.5
    for number in (VOICE, NOISE):
        weight[label == number] *= weight[label == OTHER].sum() / weight[label == number].sum()
    stored = _fit(inputs, label, weight / weight.mean(), arguments.seed)
    with whole_file(Path(arguments.output)) as file:
        np.savez(file, **stored)  # type: ignore[arg-type]
    odds = judge(inputs, stored)
    for name in np.unique(kind):
        for number in np.unique(label[kind == name]):
            some = (kind == name) & (label == number)
            right = (odds[some].argmax(1) == number).mean()
            print(f"{name}, {CLASSES[number]}: {some.sum()} sounds, {100 * right:.1f}% right")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", nargs="+", metavar="MANIFEST", required=True, help="letters of training speakers")
    parser.add_argument(
        "--noises", nargs="*", metavar="PATH", default=[], help="recordings of noises, or their folders"
    )
    parser.add_argument("--letters", type=int, default=3000, metavar="N", help="letters used (%(default)s)")
    parser.add_argument("--generated", type=int, default=900, metavar="N", help="sounds of each kind (%(default)s)")
    parser.add_argument("--output", metavar="FILE", default=str(WEIGHTS), help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _train, None))
