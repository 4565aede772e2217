"""Packs a corpus larger than memory and trains on it for one epoch, and reports the largest resident memory.

200,000 one-second recordings are 6.4 GB decoded, in a folder that is removed at the end. The recordings are a few
thousand files, each in the manifest many times under names of their own (hard links); reading them costs the same.

    python -m tests.acceptance.scale
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.data.manifest import Split, Utterance, write_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.labels import LETTERS

CONFIG = """
corpus: {{manifest: {manifest}, cache: {cache}, audit: {audit}}}
front_end: {{kind: log_mel}}
model: {{kind: mlp, hidden: [128]}}
training: {{epochs: 1, batch_size: 256, optimizer: {{kind: adam, lr: 0.001}}}}
device: cpu
output: {{folder: {runs}, name: scale}}
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--utterances", type=int, metavar="N", default=200_000, help="(%(default)s)")
    parser.add_argument("--folder", metavar="FOLDER", help="where room for them is (the system's temporary folder)")
    parser.add_argument("--limit", type=float, metavar="GB", default=1.5, help="of resident memory (%(default)s)")
    return parser


def _make(folder: Path, count: int) -> Path:
    generator = np.random.default_rng(0)
    utterances = []
    for number in tqdm(range(count), "making recordings", disable=None):
        path = folder / "wav" / f"{number % 1000:03}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < 2000:
            noise = generator.uniform(-0.5, 0.5, NUM_SAMPLES).astype(np.float32)
            soundfile.write(path, noise, SAMPLE_RATE, subtype="PCM_16")
        else:
            os.link(folder / "wav" / f"{number % 1000:03}" / f"{number % 2000}.wav", path)
        speaker = number % 1000
        split: Split = "valid" if speaker < 20 else "test" if speaker < 40 else "train"
        utterances.append(Utterance(path, LETTERS[number % 26], f"s{speaker}", split))
    write_manifest(folder / "manifest.tsv", utterances)
    return folder / "manifest.tsv"


def _check(arguments: argparse.Namespace) -> int:
    if arguments.utterances < 4000:
        raise UserError("--utterances: expected 4000 or more")
    free = shutil.disk_usage(arguments.folder or tempfile.gettempdir()).free
    needed = arguments.utterances * 40_000
    if free < needed:
        raise UserError(
            f"expected {needed / 1e9:.0f} GB of free disk space, found {free / 1e9:.0f}; name another --folder"
        )
    with tempfile.TemporaryDirectory(prefix="speechmlp-scale-", dir=arguments.folder) as scratch:
        folder = Path(scratch)
        manifest = _make(folder, arguments.utterances)
        text = CONFIG.format(manifest=manifest, cache=folder / "cache", runs=folder / "runs", audit="true")
        (folder / "scale.yaml").write_text(text, encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "speechmlp.train", "--config", str(folder / "scale.yaml")]
        result = subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, text=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        print(result.stdout, end="")
        size = sum(path.stat().st_size for path in (folder / "cache").glob("*/*.i16")) / 1e9
    print(
        f"{arguments.utterances} utterances, {size:.1f} GB decoded: packed and trained on once in "
        f"{time.perf_counter() - started:.0f} s; largest resident memory {peak:.2f} GB"
    )
    return 0 if result.returncode == 0 and peak <= arguments.limit else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
