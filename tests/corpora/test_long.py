"""Preparation of long recordings of spelled words, spoken by eSpeak."""

from pathlib import Path

import pytest
import soundfile

from speechmlp.corpora.long import prepare_long, words_of
from speechmlp.corpora.synthetic import ESpeak, draw_voices
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from tests.conftest import Run, tone

SPELLED = {
    "anna/first": "S P E E D",
    "anna/second": "Q-U-I-C-K, yes.",
    "bob/one": "j a m five",
    "carl/one": "x Y z",
}


@pytest.fixture(scope="module")
def spelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of spelled words with transcripts, all in one voice."""
    root = tmp_path_factory.mktemp("spelled")
    espeak = ESpeak()
    espeak.choose(draw_voices(10, 0)[0][0])
    for name, text in SPELLED.items():
        path = root / f"{name}.flac"
        path.parent.mkdir(exist_ok=True)
        words = ", ".join(word if len(word) == 1 else word.lower() for word in words_of(text))
        soundfile.write(path, espeak.say(words, 50, 130), espeak.sample_rate)
        path.with_suffix(".txt").write_text(text)
    soundfile.write(root / "carl" / "alone.wav", tone(300, 1.0), 16_000)
    return root


@pytest.mark.parametrize(
    ("text", "spell", "words"),
    [
        ("S P E E D", False, "S P E E D"),
        ("Q-U-I-C-K, yes.", False, "Q U I C K yes"),
        ("my name is j.a.m. o'clock", False, "my name is J A M o'clock"),
        ("quick Jam", True, "Q U I C K J A M"),
        ("twenty-five 12 b", False, "twenty five B"),
    ],
)
def test_transcripts_are_parsed(text: str, spell: bool, words: str) -> None:
    assert words_of(text, spell) == tuple(words.split())


def test_letters_are_cut_with_speakers_and_splits(spelled: Path, run_python: Run, tmp_path: Path) -> None:
    result = run_python("-m", "speechmlp", "prepare", "long", "--source", spelled, "--output", "out", "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert "Long recordings: 16 letters of 3 speakers from 4 recordings, 0 not aligned" in result.stdout
    assert "warning: carl/alone.wav has no transcript next to it" in result.stdout
    utterances = read_manifest(tmp_path / "out" / "manifest.tsv")
    assert "".join(u.letter for u in utterances) == "SPEEDQUICKJAMXYZ"
    assert {u.speaker for u in utterances} == {"anna", "bob", "carl"}
    assert {u.split for u in utterances} == {"train", "valid", "test"}
    for utterance in utterances:
        info = soundfile.info(utterance.path)
        assert info.samplerate == 16_000
        assert 0.03 <= info.duration < 1.2


def test_recordings_that_cannot_be_aligned_are_reported_and_the_others_kept(spelled: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    for name, text in {"ok": "S P E E D", "odd": "xyzzyq b", "none": "five", "broken": "A"}.items():
        recording = spelled / "anna" / "first.flac"
        (source / f"{name}.flac").write_bytes(recording.read_bytes() if name != "broken" else b"no audio")
        (source / f"{name}.txt").write_text(text)
    summary = prepare_long(source, tmp_path / "out", workers=1)
    assert "".join(u.letter for u in summary.utterances) == "SPEED"
    problems = {Path(failure.split(": ")[0]).stem: failure for failure in summary.failures}
    assert set(problems) == {"odd", "none", "broken"}
    assert "no pronunciation of xyzzyq; --spell reads words as letters" in problems["odd"]
    assert "expected single letters, found none" in problems["none"]
    assert "cannot be decoded" in problems["broken"]
    assert summary.warning is not None
    (source / "ok.txt").write_text("")
    with pytest.raises(UserError, match="no recording could be aligned; the first problem"):
        prepare_long(source, tmp_path / "other", workers=1)
    assert not (tmp_path / "other").exists()


def test_a_folder_without_transcripts_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; expected recordings with transcripts, such as"):
        prepare_long(tmp_path / "none", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="found 0 recordings, none of them with a transcript"):
        prepare_long(tmp_path / "in", tmp_path / "out")
