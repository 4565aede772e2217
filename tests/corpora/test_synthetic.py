import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechmlp.corpora.synthetic import ACCENTS, BLOCK, draw_voices, prepare_synthetic
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_files_for_any_number_of_processes(tmp_path: Path) -> None:
    speakers = BLOCK + 3  # more than a block, and not a multiple
    prepare_synthetic(tmp_path / "one", speakers, takes=1, seed=7, workers=1)
    prepare_synthetic(tmp_path / "two", speakers, takes=1, seed=7, workers=3)
    prepare_synthetic(tmp_path / "other", speakers, takes=1, seed=8, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == speakers * 26 + 1
    assert set(contents(tmp_path / "one").values()).isdisjoint(contents(tmp_path / "other").values())


def test_splits_have_different_voices(synthetic_corpus: Path) -> None:
    utterances = read_manifest(synthetic_corpus)
    assert len(utterances) == 20 * 26
    variants: dict[str | None, set[str]] = {}
    for utterance in utterances:
        variants.setdefault(utterance.split, set()).add(utterance.speaker.partition("+")[2])
    assert set(variants) == {"train", "valid", "test"}
    assert not variants["train"] & variants["valid"]
    assert not (variants["train"] | variants["valid"]) & variants["test"]
    for utterance in utterances[::17]:
        samples, rate = soundfile.read(utterance.path)
        assert rate == 22_050
        assert 0.1 < len(samples) / rate < 1.5
        assert np.abs(samples).max() > 0.05
    assert {utterance.letter for utterance in utterances} == set(LETTERS)


def test_voices_are_many_and_distinct() -> None:
    voices = [voice for voice, _ in draw_voices(400, seed=0)]
    assert len({voice.speaker for voice in voices}) == 400
    assert {voice.accent for voice in voices} == set(ACCENTS)


def test_other_labels_are_spoken(tmp_path: Path) -> None:
    labels = ("A", "0", "space bar", "a/b")
    utterances = prepare_synthetic(tmp_path / "x", 10, 1, labels=labels, workers=1)
    assert len(utterances) == 40
    assert len({one.path for one in utterances}) == 40
    assert {one.letter for one in utterances} == set(labels)
    lengths = {
        label: np.mean([soundfile.info(one.path).duration for one in utterances if one.letter == label])
        for label in labels
    }
    assert lengths["space bar"] > lengths["A"]


@pytest.mark.parametrize("count", [0, 9, 100_000])
def test_invalid_numbers_of_speakers_are_reported(tmp_path: Path, count: int) -> None:
    with pytest.raises(UserError, match=rf"expected 10 to \d+ speakers, found {count}"):
        prepare_synthetic(tmp_path / "x", count)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"takes": 0}, {"seed": -1}, {"workers": 0}])
def test_invalid_settings_are_reported(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected 1 or more takes and workers"):
        prepare_synthetic(tmp_path / "x", 10, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_a_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not an earlier result"):
        prepare_synthetic(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_missing_extra_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install 'speechmlp\[synthetic\]'"):
        prepare_synthetic(tmp_path / "x", 10)


def test_a_missing_voice_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from speechmlp.corpora.synthetic import ESpeak

    voice = draw_voices(10, 0)[0][0]
    with pytest.raises(UserError, match="eSpeak NG has no voice xx"):
        ESpeak().choose(replace(voice, accent="xx"))
