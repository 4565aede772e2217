"""Acceptance runs, in sizes that fit into minutes; each module here can be run for longer by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.generated import write_clean_corpus
from tests.conftest import CHROMIUM, ROOT

pytestmark = pytest.mark.slow


def accept(name: str, *arguments: str | Path) -> str:
    """Runs `python -m tests.acceptance.NAME`, which has to end with status 0; returns what it prints."""
    command = [sys.executable, "-m", f"tests.acceptance.{name}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_runs_that_are_killed_or_interrupted_go_on_bit_for_bit(device: str) -> None:
    rows = accept("runs", "--kills", "4", "--epochs", "0", "--device", device).splitlines()
    assert any("SIGKILL inside a write of last.pt" in row or "just after a write of last.pt" in row for row in rows)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_many_epochs_take_no_more_memory_and_files_than_few() -> None:
    assert "small run | 60 epochs: " in accept("runs", "--kills", "0", "--epochs", "60")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory as Linux gives it")
def test_a_corpus_larger_than_memory_is_packed_and_trained_on(tmp_path: Path) -> None:
    assert "60000 utterances, 1.9 GB decoded" in accept("scale", "--utterances", "60000", "--folder", tmp_path)


def test_every_way_to_recognise_gives_the_same_letters(synthetic_corpus: Path) -> None:
    answers = accept("agreement", "--manifest", synthetic_corpus, "--split", "test")
    assert answers.count(" 0 letters unlike evaluate's") == 4


@pytest.mark.parametrize("seed", ["1", "2"])
def test_an_audit_finds_planted_faults_wherever_they_are(seed: str, tmp_path: Path) -> None:
    assert "Planted: " in accept("audit", "--manifest", write_clean_corpus(tmp_path), "--seed", seed)


def test_wrong_labels_are_among_the_most_doubted(synthetic_corpus: Path) -> None:
    assert "seed 2: 12 of 416 labels changed" in accept("label_doubt", "--manifest", synthetic_corpus, "--least", "0.5")


def test_intervals_contain_the_true_accuracy_about_as_often_as_they_say() -> None:
    assert len(accept("intervals", "--trials", "300").splitlines()) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory as POSIX gives it")
def test_generated_inputs_are_valid_or_reported() -> None:
    rows = accept("fuzz", "--inputs", "2000").splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["2000"] * 4


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_letters_appear_on_the_page_while_they_are_spoken(synthetic_corpus: Path) -> None:
    arguments = ("--manifest", synthetic_corpus, "--split", "test", "--pauses", "0.1", "0.6", "--every", "2")
    rows = [row.split(" | ") for row in accept("live", *arguments).splitlines()[1:]]
    assert [row[0] for row in rows] == ["0.1 s", "0.6 s"]
    for row in rows:
        page, without_page = (float(row[column].rstrip("%")) for column in (2, 3))
        assert page <= without_page + 15  # a busy machine drops some of what is played
        assert float(row[5].split(" s")[0]) < 2  # on a busy machine
