from pathlib import Path

import pytest
import soundfile

from speechmlp.corpora.folder import assign_splits, read_folder, read_source, warning_of
from speechmlp.data.manifest import SPLITS, read_manifest
from speechmlp.errors import UserError
from tests.conftest import Run, tone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for speaker in ("anna", "bob", "carl", "dora"):
        for letter in ("a", "B"):
            (root / letter).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / letter / f"{speaker}_nohash_0.wav", tone(300, 0.2), 16_000)
    (root / "a" / "notes.txt").write_text("not audio")
    (root / "words").mkdir()
    return root


def test_a_folder_is_read_by_the_convention_of_speech_commands(folder: Path) -> None:
    utterances = read_folder(folder)
    assert len(utterances) == 8
    assert {utterance.letter for utterance in utterances} == {"A", "B"}
    assert {utterance.speaker for utterance in utterances} == {"anna", "bob", "carl", "dora"}


def test_the_command_writes_a_manifest_with_splits_by_speaker(folder: Path, run_python: Run, tmp_path: Path) -> None:
    script = ["-m", "speechmlp", "prepare", "folder"]
    result = run_python(*script, "--source", folder, "--output", "out/manifest.tsv")
    assert result.returncode == 0, result.stderr
    assert "Folder: 8 letters of 4 speakers" in result.stdout
    assert "warning" not in result.stdout
    utterances = read_manifest(tmp_path / "out" / "manifest.tsv", allow_outside=True)
    assert {utterance.split for utterance in utterances} == {"train", "valid", "test"}
    assert all(utterance.path.exists() for utterance in utterances)
    for wrong in (["--output", "out.csv"], ["--output", "o.tsv", "--valid", "0.9", "--test", "0.1"]):
        rejected = run_python(*script, "--source", folder, *wrong)
        assert (rejected.returncode, len(rejected.stderr.splitlines())) == (2, 1)


def test_a_tab_in_a_name_is_reported_in_one_line(folder: Path, run_python: Run, tmp_path: Path) -> None:
    (folder / "a" / "anna_nohash_0.wav").rename(folder / "a" / "an\tna_nohash_0.wav")
    result = run_python("-m", "speechmlp", "prepare", "folder", "--source", folder, "--output", "out/manifest.tsv")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "expected a name without tabs and line breaks; rename it" in result.stderr
    assert not (tmp_path / "out" / "manifest.tsv").exists()


def test_one_or_two_speakers_are_split_by_file(tmp_path: Path) -> None:
    for letter in "abc":
        (tmp_path / letter).mkdir()
        for number in range(10):
            (tmp_path / letter / f"anna_nohash_{number}.wav").touch()
    utterances, by_speaker = assign_splits(read_source(tmp_path), 0.2, 0.2)
    assert not by_speaker
    assert {(u.split, u.letter) for u in utterances} == {(split, le) for split in SPLITS for le in "ABC"}
    warning = warning_of(utterances, by_speaker)
    assert warning is not None
    assert "corpus.shared_speakers=true" in warning


def test_unknown_speakers_are_split_by_file(tmp_path: Path) -> None:
    for letter in "abc":
        (tmp_path / letter).mkdir()
        for number in range(10):
            (tmp_path / letter / f"{number}.wav").touch()
    utterances, by_speaker = assign_splits(read_source(tmp_path), 0.2, 0.2)
    assert not by_speaker
    assert {utterance.split for utterance in utterances} == {"train", "valid", "test"}


def test_a_wrong_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(UserError, match="no such folder of letter folders, and no such manifest"):
        read_source(tmp_path / "none")
    (tmp_path / "readme").touch()
    with pytest.raises(UserError, match=r"expected recordings in .*/a/ to .*/z/, found readme"):
        read_folder(tmp_path)


@pytest.mark.corpus
def test_the_index_of_real_prompts_is_a_manifest(real_recordings: Path) -> None:
    utterances = read_source(real_recordings / "prompts" / "index.tsv")
    assert len(utterances) == 698
    assert len({utterance.speaker for utterance in utterances}) >= 29
    assert all(utterance.start is not None and utterance.path.exists() for utterance in utterances)
