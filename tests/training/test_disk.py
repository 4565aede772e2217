"""Disks that are full, closed, limited or gone while a run goes on: one line, and the last good checkpoint stays."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from speechmlp.runs.checkpoint import load_checkpoint
from tests.acceptance.runs import EXPERIMENTS, make_corpora, start
from tests.forks import Forks

LIMIT = 11 << 19
"""Bytes: more than the decoded letters or best.pt take, and less than last.pt with its optimizer."""
PLAIN = [*EXPERIMENTS["plain"], "corpus.manifest=letters/manifest.tsv"]
RESUME = ["-m", "speechmlp.train", "--resume", "runs/good", "training.epochs=4"]


def can_mount() -> bool:
    """Whether this system lets us mount file systems of our own."""
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="no file systems of one's own here")


@pytest.fixture(scope="module")
def good_run(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A folder with corpora and a run of one epoch."""
    folder = tmp_path_factory.mktemp("disk")
    make_corpora(folder)
    command = ["-m", "speechmlp.train", *PLAIN, "output.name=good", "training.epochs=1"]
    forks.run(command, folder).check_returncode()
    return folder


@pytest.fixture
def folder(good_run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(good_run, tmp_path / "copy"))


def run(folder: Path, *arguments: str, before: str = "", limit: Callable[[], None] | None = None) -> str:
    """Trains in a folder with file systems of its own, set up by shell commands; returns the one line of its error."""
    quoted = " ".join(f"'{argument}'" for argument in (sys.executable, *arguments))
    command = ["unshare", "-Urm", "sh", "-c", f"set -e; {before}\n{quoted}"] if before else [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def require_intact(folder: Path) -> None:
    """The good run's checkpoints load, and nothing half-written lies about."""
    assert len(load_checkpoint(folder / "runs/good/last.pt").history) >= 1
    assert load_checkpoint(folder / "runs/good/best.pt")
    assert [path.name for path in folder.rglob("*.partial")] == []


@needs_mount
def test_a_full_disk(folder: Path) -> None:
    # A file system of the run's own, with less room than a second last.pt takes; then back to where we can look.
    size = sum(path.stat().st_size for path in (folder / "runs/good").iterdir()) + LIMIT
    before = f"mount -t tmpfs -o size={size} none /mnt; cp -a runs/good /mnt/; mount --bind /mnt runs"
    error = run(folder, *RESUME, before=before + "; trap 'rm -rf kept; cp -a /mnt kept' EXIT")
    assert error == "error: runs/good/last.pt: cannot be written: No space left on device\n"
    kept = folder / "kept" / "good"
    assert len(load_checkpoint(kept / "last.pt").history) == 1
    assert load_checkpoint(kept / "best.pt")
    assert [path.name for path in kept.glob(".*.partial")] == []
    require_intact(folder)


@needs_mount
def test_a_disk_that_can_only_be_read(folder: Path) -> None:
    closed = "mount --bind runs runs; mount -o remount,ro,bind runs"
    error = run(folder, *RESUME, before=closed)
    assert error == "error: runs/good: cannot be used as a run folder: Read-only file system\n"
    error = run(folder, "-m", "speechmlp.train", *PLAIN, "output.name=new", before=closed)
    assert error == "error: runs/new: cannot write the run folder: Read-only file system\n"
    require_intact(folder)


@needs_mount
def test_a_full_disk_while_recordings_are_decoded(folder: Path) -> None:
    before = "mkdir -p cache; mount -t tmpfs -o size=1m none cache; trap 'ls -A cache >left' EXIT"
    error = run(folder, "-m", "speechmlp.train", *PLAIN, "corpus.cache=cache", "output.name=new", before=before)
    assert error == "error: cache: cannot write the decoded corpus: No space left on device\n"
    assert all(name.endswith(".lock") for name in (folder / "left").read_text().splitlines())
    assert not (folder / "runs/new").exists()


def test_a_limit_of_the_size_of_files(folder: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    before = (folder / "runs/good/last.pt").read_bytes()
    assert len(before) > LIMIT
    assert run(folder, *RESUME, limit=limit) == "error: runs/good/last.pt: cannot be written: File too large\n"
    assert (folder / "runs/good/last.pt").read_bytes() == before
    require_intact(folder)


@pytest.mark.slow
def test_a_run_folder_that_is_removed(folder: Path) -> None:
    gone = folder / "runs/gone"
    with start(folder, *PLAIN, "output.name=gone", "training.epochs=100000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                break
        while gone.exists():
            shutil.rmtree(gone, ignore_errors=True)
        process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: runs/gone/")
    assert errors.endswith(": cannot be written: No such file or directory\n")
    assert not gone.exists()
    require_intact(folder)


def test_a_run_that_was_killed_while_it_wrote_leaves_nothing_after_the_next(folder: Path, forks: Forks) -> None:
    (folder / "runs/good/.best.pt.partial").write_bytes(b"half")
    forks.run([*RESUME, "training.epochs=2"], folder).check_returncode()
    require_intact(folder)
