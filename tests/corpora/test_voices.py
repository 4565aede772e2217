"""The corpus of natural synthetic voices, spoken by the real synthesisers."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.corpora.voices import VOICES, draw_speakers, prepare_voices, trim
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from tests.conftest import Run, tone

INSTALLED = [engine for engine in VOICES if engine != "flite" or shutil.which("flite")]


@pytest.mark.parametrize("engine", VOICES)
def test_every_letter_is_spoken_and_the_same_seed_gives_the_same_files(engine: str, tmp_path: Path) -> None:
    if engine not in INSTALLED:
        pytest.skip("the program flite is not installed")
    once, again = (prepare_voices(tmp_path / name, [engine], per_voice=1, takes=1) for name in ("once", "again"))
    assert [u.letter for u in once] == [*LETTERS] * len(VOICES[engine])
    assert {u.split for u in once} == {"train"}
    hashes = [[hashlib.sha256(u.path.read_bytes()).hexdigest() for u in part] for part in (once, again)]
    different = sum(one != other for one, other in zip(*hashes, strict=True))
    assert different <= (5 if engine == "pico" else 0)  # Pico reads uninitialised memory
    assert len(set(hashes[0])) == len(once)
    for utterance in once:
        samples, rate = soundfile.read(utterance.path)
        assert 0.08 < len(samples) / rate < 1.5
        assert 0.45 < abs(samples).max() <= 0.51


def test_speakers_differ_in_pitch_and_tempo() -> None:
    speakers = draw_speakers(list(VOICES), 5, seed=0)
    assert len({speaker.name for speaker in speakers}) == 5 * sum(map(len, VOICES.values()))
    assert speakers == draw_speakers(list(VOICES), 5, seed=0)
    assert speakers != draw_speakers(list(VOICES), 5, seed=1)
    assert np.std([speaker.pitch for speaker in speakers]) > 0.1


def test_silence_around_a_letter_is_cut_off() -> None:
    sound = tone(300, 0.3)
    kept = trim(np.concatenate([np.zeros(4000, np.float32), sound, np.zeros(9000, np.float32)]), 16_000)
    assert len(sound) <= len(kept) <= len(sound) + 4 * 160
    assert abs(kept).max() == pytest.approx(0.5)
    with pytest.raises(UserError, match="silence"):
        trim(np.zeros(100, np.float32), 16_000)


def test_a_missing_program_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"flite is not on the path; .*apt install flite.*--engines hibari piper pico"):
        prepare_voices(tmp_path / "corpus", ["flite"])
    assert list(tmp_path.iterdir()) == []


def test_the_command(run_python: Run, tmp_path: Path) -> None:
    script = ["-m", "speechmlp", "prepare", "voices"]
    result = run_python(*script, "--engines", "pico", "--speakers", "1", "--takes", "1", "--output", "out")
    assert result.returncode == 0, result.stderr
    assert "Voices: 52 letters of 2 speakers" in result.stdout
    assert (tmp_path / "out" / "manifest.tsv").read_text().count("\n") == 53
    wrong = run_python(*script, "--speakers", "0", "--output", "other")
    assert wrong.returncode == 2
    assert "expected 1 or more speakers" in wrong.stderr
