"""Preparation of words of Speech Commands, from a folder and from an archive."""

import tarfile
from pathlib import Path

import pytest
import soundfile

from speechmlp.corpora.words import choose, prepare_words
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from tests.conftest import Run, tone


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Returns words of 20 speakers, with what else is in the published archive."""
    root = tmp_path / "commands"
    for number in range(20):
        for word in ("bed", "yes", "a"):
            path = root / word / f"{number:08x}_nohash_{number % 3}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(200 + number, 0.5), 16_000)
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "tap.wav", tone(200, 0.5), 16_000)
    (root / "README.md").write_text("Speech Commands")
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_words_are_copied(tree: Path, tmp_path: Path, run_python: Run, packed: bool) -> None:
    source = tree
    if packed:
        source = tmp_path / "commands.tar.gz"
        with tarfile.open(source, "w:gz") as tar:
            tar.add(tree, "./")
    result = run_python("-m", "speechmlp", "prepare", "words", "--source", source, "--output", "out")
    assert result.returncode == 0, result.stderr
    assert "Words: 20 of 20 speakers" in result.stdout
    words = read_manifest(tmp_path / "out" / "non_letters.tsv", letters=False)
    assert {word.groups["word"] for word in words} == {"bed", "yes"}
    assert {word.split for word in words} == {"train", "valid", "test"}
    assert len({word.speaker for word in words}) == 20
    for word in words:
        original = tree / word.groups["word"] / word.path.name
        assert word.path.read_bytes() == original.read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"non_letters.tsv", "wav"}


def test_the_choice_does_not_depend_on_the_folder_or_other_speakers() -> None:
    names = [f"{word}/{speaker}_nohash_{take}.wav" for word in ("up", "no") for speaker in "pqrs" for take in range(4)]
    chosen = choose(names, 2)
    assert len(chosen) == 8
    assert {f"x/{name}" for name in chosen} == set(choose([f"x/{name}" for name in names], 2))
    assert set(choose([name for name in names if "/p_" in name], 2)) == {name for name in chosen if "/p_" in name}
    assert choose(["up/p.wav", "p_nohash_0.wav", "up/p_nohash_0.txt", "b/p_nohash_0.wav"], 1) == {}


def test_what_is_not_speech_commands_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected recordings such as bed/1a2b_nohash_0\.wav, found none"):
        prepare_words(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match="no such file or folder"):
        prepare_words(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(UserError, match="cannot be unpacked"):
        prepare_words(tmp_path / "broken.tar.gz", tmp_path / "out")
    with pytest.raises(UserError, match="expected 1 or more words"):
        prepare_words(None, tmp_path / "out", 0)
    monkeypatch.setattr("speechmlp.corpora.words.URL", "http://127.0.0.1:9/speech_commands.tar.gz")
    with pytest.raises(UserError, match=r"cannot be downloaded .* --source PATH"):
        prepare_words(None, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "broken.tar.gz"}
