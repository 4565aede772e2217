"""Shared fixtures: generated recordings, and a synthetic corpus and a trained model that all workers share."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock
from numpy.typing import NDArray
from playwright.sync_api import Browser, Playwright, sync_playwright

from speechmlp.corpora.synthetic import prepare_synthetic
from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.labels import LETTERS
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]
REAL_RECORDINGS = ROOT.parent / "shared" / "data"

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PYTHONS = (
    "current",
    pytest.param(
        "before tarfile.data_filter",
        marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python's tarfile needs data_filter itself"),
    ),
)
"""Current security releases of Python, and earlier ones."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_configure() -> None:
    # A shell that starts the tests in the background ignores SIGINT, and the processes started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if "corpus" in item.keywords and not REAL_RECORDINGS.is_dir():
            item.add_marker(pytest.mark.skip(reason="no real recordings next to the checkout"))
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """The folder of real corpora, for tests with the marker `corpus`."""
    return REAL_RECORDINGS


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield opened
    opened.close()


def tone(hertz: float, seconds: float, rate: int = 16_000, level: float = 0.5) -> NDArray[np.float32]:
    """Returns a sine, float32 [T]."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@cache
def tone_file(speaker: int, letter: int) -> bytes:
    """Returns a recording of `tone_corpus`."""
    file, rate = io.BytesIO(), (16_000, 22_050)[speaker % 2]
    wave = tone(200 + 120 * letter, 0.3 + 0.05 * speaker, rate, 0.2 + 0.1 * speaker)
    soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def tone_corpus(tmp_path: Path) -> Path:
    """The manifest of a corpus of tones: 26 pitches by 6 speakers of different loudness and rate."""
    folder = tmp_path / "tones"
    utterances = []
    splits = ("train", "train", "train", "train", "valid", "test")
    for number, split in enumerate(splits):
        for index, letter in enumerate(LETTERS):
            path = folder / f"s{number}" / f"{letter}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_file(number, index))
            utterances.append(Utterance(path, letter, f"s{number}", split))  # type: ignore[arg-type]
    write_manifest(folder / "manifest.tsv", utterances)
    return folder / "manifest.tsv"


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that the first worker of a session makes and the others wait for."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        if not (root / name).exists():
            shutil.rmtree(root / f"{name}.partial", ignore_errors=True)
            (root / f"{name}.partial").mkdir()
            make(root / f"{name}.partial")
            (root / f"{name}.partial").rename(root / name)
    return root / name


@pytest.fixture(scope="session")
def synthetic_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a small synthetic corpus of 20 voices."""

    def make(folder: Path) -> None:
        prepare_synthetic(folder / "corpus", num_speakers=20, takes=1, seed=0)

    return once(tmp_path_factory, "synthetic", make) / "corpus" / "manifest.tsv"


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs commands in forked processes."""
    started = Forks()
    yield started
    started.close()


@pytest.fixture(scope="session")
def spoken_checkpoint(synthetic_corpus: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best.pt of a small model of the best kind, trained on the synthetic corpus."""
    smaller = [
        "corpus.mix=[]",
        "corpus.negatives=[]",
        "corpus.learn=train",
        "front_end.endpoint_width=16",
        "front_end.endpoint_blocks=1",
    ]
    smaller += ["model.width=48", "model.blocks=2", "model.channel_hidden=96", "model.dropout=0", "augment=null"]
    quick = ["epochs=10", "batch_size=32", "optimizer.lr=0.01", "keep=best", "mixup=0", "ema=0", "precision=float32"]
    command: list[str | Path] = ["-m", "speechmlp.train", "--config", ROOT / "configs" / "letters.yaml"]
    command += [*smaller, *(f"training.{value}" for value in quick)]
    command += [f"corpus.manifest={synthetic_corpus}", "device=cpu", "output.name=letters"]
    folder = once(tmp_path_factory, "spoken", lambda folder: forks.run(command, folder).check_returncode())
    return folder / "runs" / "letters" / "best.pt"


@pytest.fixture
def run_python(forks: Forks, tmp_path: Path) -> Run:
    """Runs `python ARGUMENTS...` as a process of its own in an empty folder."""

    def run(
        *arguments: str | Path, timeout: float = 300, stdin: bytes = b"", stdout: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return forks.run(arguments, tmp_path, timeout, stdin, stdout)

    return run
