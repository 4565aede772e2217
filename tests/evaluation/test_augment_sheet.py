"""The page of augmented examples, made by the command."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import soundfile

from tests.conftest import ROOT, Run

SHEET = ["-m", "speechmlp", "augment-sheet"]


def read_page(folder: Path) -> tuple[list[bytes], list["np.typing.NDArray[np.float64]"]]:
    """Returns the pictures and the sounds, at 16 kHz, of a page."""
    page = (folder / "index.html").read_text()
    assert [path.name for path in sorted(folder.iterdir())] == [".gitignore", "index.html"]
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]*)"', page)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    sounds = []
    for data in re.findall(r'src="data:audio/wav;base64,([^"]*)"', page):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert (len(samples), rate) == (16_000, 16_000)
        sounds.append(samples)
    return pictures, sounds


def test_the_sheet_shows_and_plays_every_version(synthetic_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    config = [*SHEET, "--config", ROOT / "configs" / "letters.yaml", f"corpus.manifest={synthetic_corpus}"]
    result = run_python(*config, "--letters", "2", "--versions", "3", "--output", "sheet")
    assert result.returncode == 0, result.stderr
    pictures, sounds = read_page(tmp_path / "sheet")
    assert len(sounds) == 2 * 4
    assert len(set(pictures)) == 2 * 4
    assert all(abs(samples).max() > 0.5 for samples in sounds)
    again = run_python(*config, "--letters", "1", "--versions", "1", "--output", "sheet")
    assert again.returncode == 0, again.stderr
    assert len(read_page(tmp_path / "sheet")[1]) == 2


def test_the_sheet_shows_waveform_augmentation(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "raw.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\naugment: {{speed: 0.3, shift: 1.0}}\n"
    )
    result = run_python(*SHEET, "--config", "raw.yaml", "--letters", "1", "--versions", "1", "--output", "sheet")
    assert result.returncode == 0, result.stderr
    original, moved = read_page(tmp_path / "sheet")[1]
    assert abs(original - moved).max() > 0.1


def test_names_in_the_page_are_text(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    manifest = tone_corpus.with_name("marked.tsv")
    manifest.write_text(tone_corpus.read_text().replace("\ts0\t", "\t<b>s0</b>\t"))
    config = ["--config", ROOT / "configs" / "seed.yaml", f"corpus.manifest={manifest}", "augment={shift: 1.0}"]
    result = run_python(*SHEET, *config, "--letters", "32", "--versions", "1", "--output", "sheet")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "sheet" / "index.html").read_text()
    assert "&lt;b&gt;s0" in page
    assert "<b>s0" not in page


def test_mistakes_are_reported_and_nothing_is_overwritten(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    seed = [*SHEET, "--config", ROOT / "configs" / "seed.yaml", f"corpus.manifest={tone_corpus}"]
    plain = run_python(*seed)
    assert plain.returncode == 2
    assert "augment is null" in plain.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    occupied = run_python(*seed, "augment={shift: 1.0}", "--output", "mine")
    assert occupied.returncode == 2
    assert "mine: holds thesis.txt, which is not of an earlier report" in occupied.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
