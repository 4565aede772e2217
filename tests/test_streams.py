"""Terminals that lack characters, full disks, readers that end, and closed streams, in all kinds of commands."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from speechmlp.audio.encoding import wav_bytes
from speechmlp.runs.checkpoint import PACKAGED, load_checkpoint
from tests.conftest import ROOT, Run, tone
from tests.training.test_disk import needs_mount

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
QUICK = ["training.epochs=2", "model.hidden=[8]", "device=cpu", "corpus.audit=false"]
EXPERIMENT = ["--config", str(ROOT / "configs" / "quickstart.yaml")]


def sweep_config(manifest: Path) -> list[str]:
    path = manifest.parent / "short.yaml"
    text = (ROOT / "configs" / "quickstart.yaml").read_text()
    text = re.sub(r"(?m)^(\s+epochs:) .*", r"\1 1", re.sub(r"(?m)^(\s+manifest:) .*", rf"\1 {manifest}", text))
    path.write_text(text)
    return ["--config", str(path)]


def words_of(command: str, manifest: Path) -> list[str]:
    """Returns the arguments of a command on the corpus of tones; all print at least two lines."""
    score = ["--checkpoint", str(PACKAGED), "--manifest", str(manifest), "--device", "cpu"]
    return {
        "train": ["train", *EXPERIMENT, f"corpus.manifest={manifest}", *QUICK, "output.name=run"],
        "evaluate": ["evaluate", *score, "--json", "scores.json"],
        "predict": ["predict", *[str(manifest.parent / "s0" / f"{letter}.wav") for letter in "ABCD"]],
        "audit": ["audit", "--manifest", str(manifest), "--report", "audit"],
        "sweep": ["sweep", *sweep_config(manifest), "--name", "grid", "--seeds", "1"],
        "prepare": ["prepare", "noises", "--output", "noises", "--sources", "10"],
    }[command]


WRITES = {
    "train": "runs/run/best.pt",
    "evaluate": "scores.json",
    "audit": "audit/index.html",
    "sweep": "runs/grid/quickstart-seed0/best.pt",
    "prepare": "noises/non_letters.tsv",
}
"""What a command writes besides its standard output."""


@pytest.fixture
def nobody(tmp_path: Path) -> Callable[[], Path]:
    """Makes a pipe whose reader ends at once."""

    def make() -> Path:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        threading.Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)), daemon=True).start()
        return pipe

    return make


def written(folder: Path, command: str) -> list[Path]:
    return [path for path in folder.glob(WRITES[command].replace("quickstart-seed0", "*")) if path.stat().st_size]


@pytest.mark.parametrize("command", ["evaluate", "audit", "prepare"])
def test_files_are_written_without_a_reader(
    command: str, tone_corpus: Path, run_python: Run, nobody: Callable[[], Path], tmp_path: Path
) -> None:
    result = run_python("-m", "speechmlp", *words_of(command, tone_corpus), stdout=nobody())
    assert result.returncode == (1 if command == "audit" else 0)  # the corpus of tones has errors
    assert "Error" not in result.stderr
    assert written(tmp_path, command)


@pytest.mark.parametrize("command", ["train", "evaluate", "sweep", "prepare"])
def test_a_full_disk_under_standard_output_is_one_line_and_the_files_are_written(
    command: str, tone_corpus: Path, run_python: Run, tmp_path: Path
) -> None:
    result = run_python("-m", "speechmlp", *words_of(command, tone_corpus), stdout=FULL)
    lines = [line for line in result.stderr.splitlines() if "rror" in line]
    assert (result.returncode, lines) == (2, ["error: standard output: cannot be written: No space left on device"])
    assert written(tmp_path, command)


def test_predict_ends_early_without_a_reader(tone_corpus: Path, run_python: Run, nobody: Callable[[], Path]) -> None:
    for more in ([], ["--format", "csv"], ["--format", "jsonl"], ["--spell"]):
        full = run_python("-m", "speechmlp", *words_of("predict", tone_corpus), *more, stdout=FULL)
        problem = "error: standard output: cannot be written: No space left on device\n"
        assert (full.returncode, full.stderr) == (2, problem)
    ended = run_python("-m", "speechmlp", *words_of("predict", tone_corpus), stdout=nobody())
    assert (ended.returncode, ended.stderr) == (141, "")


@needs_mount
def test_a_full_disk_under_a_corpus_is_one_line(tmp_path: Path) -> None:
    folder = "mkdir small; mount -t tmpfs -o size=300k none small"
    program = f"{shlex.quote(sys.executable)} -m speechmlp prepare noises --sources 10 --output small/noises"
    command = ["unshare", "-Urm", "bash", "-c", f"set -e; {folder}; {program} || (ls -A small; exit 2)"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")  # nothing is left in the folder
    assert result.stderr == "error: small/noises: cannot be written: No space left on device\n"


def test_help_ends_in_one_line_too(run_python: Run) -> None:
    for words in (["--help"], ["train", "--help"], ["prepare", "an4", "--help"], ["--version"]):
        result = run_python("-m", "speechmlp", *words, stdout=FULL)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


def shell(
    command: str, folder: Path, encoding: str = "utf-8", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a shell command in which `speechmlp` is the program."""
    program = f'speechmlp() {{ {shlex.quote(sys.executable)} -m speechmlp "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        encoding=encoding,
        check=False,
    )


def test_train_goes_on_after_head(tone_corpus: Path, tmp_path: Path) -> None:
    words = shlex.join([*words_of("train", tone_corpus), "training.epochs=30"])
    result = shell(f"speechmlp {words} | head -n 4; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 4
    assert len(load_checkpoint(tmp_path / "runs/run/last.pt").history) == 30
    assert load_checkpoint(tmp_path / "runs/run/best.pt").temperature != 1


def test_lines_arrive_at_once(tone_corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "speechmlp", *words_of("train", tone_corpus), "training.epochs=100000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("epoch 2/") for line in process.stdout)  # long before 8 kB of them
        process.kill()


@pytest.mark.slow
def test_closed_streams(tone_corpus: Path, tmp_path: Path) -> None:
    predict = shlex.join(words_of("predict", tone_corpus))
    closed = shell(f"speechmlp {predict} >&-", tmp_path)
    assert (closed.returncode, len(closed.stderr.splitlines())) == (2, 1)
    assert closed.stderr.startswith("error: standard output is closed; expected ")
    quiet = shell(f"speechmlp {predict} absent.wav 2>&-", tmp_path)
    assert (quiet.returncode, len(quiet.stdout.splitlines())) == (2, 4)  # no error among the answers
    assert shell("speechmlp predict - <&-", tmp_path).stderr.startswith("error: standard input: ")
    train = shlex.join(words_of("train", tone_corpus))
    daemon = shell(f"speechmlp {train} <&- >&- 2>&-", tmp_path)
    assert (daemon.returncode, daemon.stdout, daemon.stderr) == (0, "", "")
    assert len(load_checkpoint(tmp_path / "runs/run/last.pt").history) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "environment"),
    [
        ("cp1252", {"PYTHONIOENCODING": "cp1252"}),
        ("utf-8", {"LC_ALL": "C"}),
        ("ascii", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_names_that_the_terminal_cannot_show(encoding: str, environment: dict[str, str], tmp_path: Path) -> None:
    names = [b"a.wav", "ł é 字.wav".encode(), b"caf\xe9.wav", "😀.wav".encode()]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(wav_bytes(tone(300, 0.5), 16_000))
    answers = "(speechmlp predict *.wav absent-ł.wav; speechmlp predict . --format csv)"
    result = shell(answers, tmp_path, encoding, **environment)
    assert (result.returncode, len(result.stdout.splitlines()), len(result.stderr.splitlines())) == (0, 9, 1)
    assert result.stderr.startswith("error: absent-")
    assert result.stdout.count("caf\\udce9.wav") == 2
    table = shell("speechmlp predict . --format jsonl", tmp_path, encoding, **environment)
    paths = [json.loads(line)["path"] for line in table.stdout.splitlines()]
    if encoding != "ascii":
        assert {os.fsencode(path) for path in paths} == set(names)


def test_a_manifest_whose_name_the_terminal_cannot_show(tone_corpus: Path, tmp_path: Path) -> None:
    folder = tone_corpus.parent.rename(tmp_path / "töne ł")
    words = shlex.join(words_of("train", folder / "manifest.tsv"))
    result = shell(f"speechmlp {words}", tmp_path, "cp1252", PYTHONIOENCODING="cp1252")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Corpus: {tmp_path}/töne \\u0142/manifest.tsv: 104 training ")
    assert "epoch 2/2" in result.stdout
