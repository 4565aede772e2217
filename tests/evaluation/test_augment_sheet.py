"""The page of augmented examples, made by the command."""

import json
from pathlib import Path

import soundfile

from tests.conftest import ROOT, Run

SHEET = ["-m", "speechmlp", "augment-sheet"]


def test_the_sheet_shows_and_plays_every_version(synthetic_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    config = [*SHEET, "--config", ROOT / "configs" / "letters.yaml", f"corpus.manifest={synthetic_corpus}"]
    result = run_python(*config, "--letters", "2", "--versions", "3", "--output", "sheet")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "sheet" / "index.html").read_text()
    for row in range(2):
        pictures = set()
        for version in range(4):
            name = f"{row}-{version}"
            assert f'src="{name}.png"' in page
            assert f'src="{name}.wav"' in page
            picture = (tmp_path / "sheet" / f"{name}.png").read_bytes()
            assert picture.startswith(b"\x89PNG")
            pictures.add(picture)
            samples, rate = soundfile.read(tmp_path / "sheet" / f"{name}.wav")
            assert (len(samples), rate) == (16_000, 16_000)
            assert abs(samples).max() > 0.5
        assert len(pictures) == 4
    again = run_python(*config, "--letters", "1", "--versions", "1", "--output", "sheet")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "sheet" / "1-0.png").exists()


def test_the_sheet_shows_waveform_augmentation(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "raw.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\naugment: {{speed: 0.3, shift: 1.0}}\n"
    )
    result = run_python(*SHEET, "--config", "raw.yaml", "--letters", "1", "--versions", "1", "--output", "sheet")
    assert result.returncode == 0, result.stderr
    as_it_is, moved = (soundfile.read(tmp_path / "sheet" / f"0-{version}.wav")[0] for version in range(2))
    assert abs(as_it_is - moved).max() > 0.1


def test_mistakes_are_told_and_nothing_is_overwritten(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    seed = [*SHEET, "--config", ROOT / "configs" / "seed.yaml", f"corpus.manifest={tone_corpus}"]
    plain = run_python(*seed)
    assert plain.returncode == 2
    assert "augment is null" in plain.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    occupied = run_python(*seed, "augment={shift: 1.0}", "--output", "mine")
    assert occupied.returncode == 2
    assert "mine: exists and is not an earlier result" in occupied.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
