"""Preparation of ISOLET: trees of generated audio in its exact layouts."""

import re
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.corpora.isolet import prepare_isolet, read_adc
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from tests.conftest import Run, tone

SPEAKERS = {part: [f"{gender}{name}{part}" for gender in "fm" for name in ("ab", "cmc")] for part in range(1, 6)}
SAID = "ABCDQ"
PREPARE = ["-m", "speechmlp", "prepare", "isolet"]


def samples_of(speaker: str, letter: str, take: int) -> np.ndarray:
    pitch = 200 + 10 * LETTERS.index(letter) + len(speaker) + ord(speaker[0]) + 3 * take
    return (20_000 * tone(pitch, 0.02)).astype(np.int16)


def write_adc(path: Path, samples: np.ndarray, period: int = 250) -> None:
    header = struct.pack(">hhhhii", 8, 1, 1, period, len(samples), 1)
    path.write_bytes(header + samples.astype(">i2").tobytes())


def write_tree(root: Path, kind: str) -> Path:
    for part, speakers in SPEAKERS.items():
        for speaker in speakers:
            folder = root / "isolet_spoken_letter_database_v1.3" / "speech" / f"isolet{part}" / speaker
            if kind == "flat":
                folder = root / f"ISOLET{part}"
            folder.mkdir(parents=True, exist_ok=True)
            for letter in SAID:
                for take in (1, 2):
                    samples = samples_of(speaker, letter, take)
                    if kind == "adc":
                        write_adc(folder / f"{speaker}-{letter}{take}-t.adc", samples)
                    else:
                        name = f"{speaker}-{letter}{take}-t.wav"
                        soundfile.write(folder / (name.lower() if kind == "flat" else name), samples, 16_000)
    return root


@pytest.mark.parametrize("kind", ["wav", "flat", "adc"])
def test_every_release_gives_the_published_protocol_and_five_folds(tmp_path: Path, kind: str, run_python: Run) -> None:
    source = write_tree(tmp_path / "isolet", kind)
    result = run_python(*PREPARE, "--source", source, "--output", "out/isolet")
    assert result.returncode == 0, result.stderr
    assert "ISOLET: 200 letters of 20 speakers" in result.stdout
    assert "warning: the whole corpus has 150 speakers" in result.stdout
    assert "warning: 840 of 7800 recordings are missing: isolet1/fab1/fab1-E1-t, " in result.stdout
    utterances = read_manifest(tmp_path / "out" / "isolet" / "manifest.tsv", allow_outside=True)
    assert {u.speaker for u in utterances if u.split == "test"} == set(SPEAKERS[5])
    assert Counter(u.gender for u in utterances) == {"female": 100, "male": 100}
    assert {u.gender for u in utterances if u.split == "valid"} == {"female", "male"}
    one = next(u for u in utterances if (u.speaker, u.letter) == ("mcmc3", "Q") and "q2" in u.path.name.lower())
    read, rate = soundfile.read(one.path, dtype="int16")
    assert rate == 16_000
    assert np.array_equal(read, samples_of("mcmc3", "Q", 2))
    tested: list[str] = []
    for fold in range(1, 6):
        folds = read_manifest(tmp_path / "out" / "isolet" / f"fold{fold}.tsv", allow_outside=True)
        assert Counter(u.letter for u in folds if u.split == "test") == dict.fromkeys(SAID, 8)
        tested += sorted({u.speaker for u in folds if u.split == "test"})
    assert sorted(tested) == sorted(speaker for speakers in SPEAKERS.values() for speaker in speakers)


def test_missing_unreadable_and_duplicate_files_are_counted(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "isolet", "flat")
    (source / "ISOLET1" / "fab1-a1-t.wav").unlink()
    (source / "ISOLET2" / "fab2-b1-t.wav").write_text("not audio")
    write_adc(source / "ISOLET3" / "fab3-c1-t.adc", samples_of("fab3", "C", 1))
    (source / "ISOLET3" / "fab3-d1-t.wav").unlink()
    write_adc(source / "ISOLET3" / "FAB3-D1-T.ADC", samples_of("fab3", "D", 1), period=200)
    lines = "\n".join(prepare_isolet(source, tmp_path / "out").lines())
    assert "ISOLET: 198 letters" in lines
    assert "warning: 841 of 7800 recordings are missing: isolet1/fab1/fab1-A1-t" in lines
    assert "warning: 1 files cannot be read and are skipped: " in lines
    assert "fab2-b1-t.wav: " in lines
    assert "1 files are copies of others" in lines
    old = next(
        u
        for u in read_manifest(tmp_path / "out" / "manifest.tsv", allow_outside=True)
        if (u.speaker, u.letter) == ("fab3", "D")
    )
    assert soundfile.info(old.path).samplerate == 20_000


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"abc", "expected 16 bytes of header, found 3 bytes in all"),
        (b"RIFF" + bytes(40), "expected an ISOLET header"),
        (struct.pack(">hhhhii", 8, 1, 1, 250, 100, 1) + bytes(50), "ends after 25 of 100 samples"),
    ],
)
def test_damaged_adc_files_are_reported(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "x.adc").write_bytes(data)
    with pytest.raises(UserError, match=problem):
        read_adc(tmp_path / "x.adc")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("empty", "expected ISOLET, with recordings like isolet1/fcmc0/fcmc0-A1-t.wav (or .adc); found nothing"),
        ("stray", "found fcmc0-A1-t.wav"),
        ("absent", "no such folder; expected ISOLET"),
        ("isolet.tgz", "is a file; unpack the archive and pass its folder"),
    ],
)
def test_a_wrong_source_is_reported(tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "stray").mkdir()
    soundfile.write(tmp_path / "stray" / "fcmc0-A1-t.wav", tone(300, 0.1), 16_000)  # in none of the parts
    (tmp_path / "isolet.tgz").write_text("")
    with pytest.raises(UserError, match=re.escape(problem)):
        prepare_isolet(tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "isolet", "flat")
    (source / "manifest.tsv").write_text("mine")
    with pytest.raises(UserError, match="contains the source and would be replaced"):
        prepare_isolet(source, source)
    assert len(list(source.glob("*/*.wav"))) == 200
