"""Preparation of TI46: a tree of generated audio in its exact layout, in NIST SPHERE."""

import io
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import soundfile

from speechmlp.audio.decoding import load_letter
from speechmlp.corpora.ti46 import prepare_ti46
from speechmlp.data.manifest import read_manifest, shared_speakers
from speechmlp.errors import UserError
from tests.conftest import Run, tone

SPEAKERS = [f"{gender}{number}" for gender in "fm" for number in range(1, 9)]
LETTERS = "az"
PREPARE = ["-m", "speechmlp", "prepare", "ti46"]


@cache
def nist(hertz: float) -> bytes:
    """Returns a NIST SPHERE file of a tone."""
    file = io.BytesIO()
    soundfile.write(file, tone(hertz, 0.02, 12_500), 12_500, format="NIST", subtype="PCM_16")
    return file.getvalue()


def write_tree(root: Path, suffix: str = "wav", upper: bool = False) -> Path:
    for speaker in SPEAKERS:
        for part, takes in {
            "train": [f"set{take}" for take in range(10)],
            "test": [f"s{session}t{take}" for session in range(1, 9) for take in range(2)],
        }.items():
            folder = Path("ti_alpha", part, speaker)
            folder = root / (str(folder).upper() if upper else folder)
            folder.mkdir(parents=True)
            for letter in LETTERS:
                for number, take in enumerate(takes):
                    name = f"0{letter}{speaker}{take}.{suffix}"
                    (folder / (name.upper() if upper else name)).write_bytes(nist(300 + 10 * number + ord(letter)))
    # The release also has digits and commands, with similar names.
    digits = root / "ti20" / "train" / "f1"
    digits.mkdir(parents=True)
    for name in ("00", "en"):
        (digits / f"{name}f1set0.{suffix}").write_bytes(nist(300))
    return root


@pytest.mark.parametrize(("suffix", "upper"), [("wav", False), ("sph", True)])
def test_both_splits_are_written_and_explained(tmp_path: Path, suffix: str, upper: bool, run_python: Run) -> None:
    source = write_tree(tmp_path / "ti46", suffix, upper)
    result = run_python(*PREPARE, "--source", source, "--output", "out")
    assert result.returncode == 0, result.stderr
    assert "TI46 alpha: 832 letters of 16 speakers" in result.stdout
    assert "manifest.tsv is split by speaker" in result.stdout
    assert "published.tsv is the published split, with the same speakers in training and test" in result.stdout
    assert "warning: 9984 of 10816 recordings are missing: train/f1/0bf1set0, " in result.stdout
    folder = tmp_path / "out"

    tested: list[str] = []
    for fold in range(1, 5):
        utterances = read_manifest(folder / f"fold{fold}.tsv", allow_outside=True)
        by_split = {s: {u.speaker for u in utterances if u.split == s} for s in ("train", "valid", "test")}
        assert {split: len(speakers) for split, speakers in by_split.items()} == {"train": 10, "valid": 2, "test": 4}
        assert all(Counter(s[0] for s in speakers)["f"] == len(speakers) / 2 for speakers in by_split.values())
        tested += by_split["test"]
    assert sorted(tested) == SPEAKERS
    assert (folder / "manifest.tsv").read_text() == (folder / "fold1.tsv").read_text()

    with pytest.raises(UserError, match=r"corpus\.shared_speakers=true"):
        read_manifest(folder / "published.tsv", allow_outside=True)
    published = read_manifest(folder / "published.tsv", allow_shared=True, allow_outside=True)
    assert Counter(u.split for u in published) == {"train": 16 * 2 * 8, "valid": 16 * 2 * 2, "test": 16 * 2 * 16}
    assert len(shared_speakers(published)) == 16
    waveform, length = load_letter(published[0].path)  # 12.5 kHz becomes 16 kHz
    assert length == pytest.approx(320, abs=2)
    assert waveform.abs().max() > 0.4


def test_copies_and_unreadable_files_are_counted(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "ti46")
    folder = source / "ti_alpha" / "train" / "f1"
    (folder / "0AF1SET0.SPH").write_bytes(nist(300))
    (folder / "0af1set1.wav").write_bytes(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\n")
    (folder / "0af1set2.wav").unlink()
    lines = "\n".join(prepare_ti46(source, tmp_path / "out").lines())
    assert "TI46 alpha: 830 letters" in lines
    assert "0af1set1.wav: compressed by shorten; convert it with sph2pipe" in lines
    assert "1 files are copies of others" in lines
    assert "missing: train/f1/0af1set2, " in lines


def test_a_wrong_folder_is_reported_in_one_line(tmp_path: Path, run_python: Run) -> None:
    (tmp_path / "wrong" / "isolet1").mkdir(parents=True)
    result = run_python(*PREPARE, "--source", tmp_path / "wrong", "--output", "out")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "expected TI46 alpha, with recordings like ti_alpha/train/f1/0af1set0.wav" in result.stderr
    assert "found isolet1" in result.stderr
    assert not (tmp_path / "out").exists()
