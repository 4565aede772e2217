"""Which files of a folder are recordings: names, contents, links, hidden files; nothing is left out silently."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio.recordings import SUFFIXES, LeftOut, recordings_in
from speechmlp.corpora.folder import letter_of, read_folder
from speechmlp.data.manifest import read_manifest
from tests.conftest import Run, tone

SOUND = wav_bytes(tone(300, 0.5), 16_000)


def make(root: Path, *names: str, content: bytes = SOUND) -> None:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listed(root: Path) -> tuple[list[str], dict[str, str]]:
    left_out = LeftOut()
    found = [str(path.relative_to(root)) for path in recordings_in(root, left_out)]
    return found, {str(path.relative_to(root)): reason for path, reason in left_out.reasons.items()}


def test_what_is_no_recording_is_listed(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "b/c.WAV", "b/._c.WAV", ".DS_Store", ".hidden.wav", ".git/x.wav", "b/.cache/y.wav")
    make(tmp_path, "Thumbs.db", "desktop.ini", "notes.txt", "b/cover.jpg", "x.wav.bak2", content=b"not a sound at all")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    make(tmp_path, "folder.wav/d.wav")
    found, left_out = listed(tmp_path)
    assert found == ["a.wav", "b/c.WAV", "folder.wav/d.wav"]
    hidden = {".DS_Store", ".hidden.wav", ".git", "b/._c.WAV", "b/.cache"}
    other = {"Thumbs.db", "desktop.ini", "notes.txt", "b/cover.jpg", "x.wav.bak2"}
    assert left_out.keys() == hidden | other | {"pipe.wav"}
    assert {left_out[name] for name in hidden} == {"a hidden file", "a hidden folder"}
    assert {left_out[name] for name in other} == {"not an audio file"}


def test_names_of_every_format_and_recordings_with_any_name(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate(sorted(SUFFIXES))]
    assert {".amr", ".caf", ".wma", ".weba", ".3gp", ".aiff", ".opus", ".spx", ".mka"} <= SUFFIXES
    make(tmp_path, *names, *(name.upper() for name in names), content=b"?")
    odd = ["recording", "a.wav.1", "b.dat", "c.WAV_old", "d.", "e.bin"]
    for name, form in zip(odd, ("WAV", "FLAC", "OGG", "AIFF", "CAF", "AU"), strict=True):
        soundfile.write(tmp_path / name, tone(300, 0.2), 16_000, format=form)
    make(tmp_path, "image.heic", content=b"\0\0\0\x18ftypheic\0\0\0\0")
    make(tmp_path, "film.avi", content=b"RIFF\0\0\0\0AVI LIST")
    found, left_out = listed(tmp_path)
    assert set(found) == {*names, *(name.upper() for name in names), *odd}
    assert set(left_out) == {"image.heic", "film.avi"}


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/a.wav", "in/b.wav")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.wav").symlink_to("absent")
    (tmp_path / "in" / "gone.txt").symlink_to("absent")
    found, left_out = listed(tmp_path / "in")
    assert found == ["b.wav", "gone.wav", "link/a.wav"]  # a link to a missing file becomes an error when it is read
    assert left_out.keys() == {"up", "gone.txt"}
    assert left_out["up"] == "a link to a folder above it"


def test_folders_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    left_out = LeftOut()
    assert recordings_in(tmp_path / "absent", left_out) == []
    assert left_out.reasons == {tmp_path / "absent": "cannot be read: No such file or directory"}


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        *(
            (name, "A")
            for name in ("a", "A", "A ", " a", "a\u00a0", "\u200bA", "Letter A", "letter_a", "a-letter", "Ａ")
        ),
        *((name, "Z") for name in ("zed", "zee", "Zed ", "ZEE", "letter zed")),
        *((name, "W") for name in ("double u", "double-u", "Double_U", "doubleyou")),
        *((name, "H") for name in ("aitch", "haitch")),
        *((name, None) for name in ("words", "bee", "see", "aa", "1", "é", "ß", "", "letter", "_", "a1", "A (copy)")),
    ],
)
def test_folders_of_letters(name: str, letter: str | None) -> None:
    assert letter_of(name) == letter


def test_prepare_folder_lists_what_it_leaves_out(tmp_path: Path, run_python: Run) -> None:
    root = tmp_path / "mine"
    for speaker in ("anna", "bob", "carl", "Anna"):
        make(root, f"a/{speaker}_nohash_0.caf", f"zed/{speaker}_nohash_0.amr", f"B /{speaker}_nohash_0.wma")
    make(root, "a/._anna_nohash_0.wav", "a/deep/x.wav", "words/y.wav", "loose.wav", ".DS_Store")
    make(root, "a/Thumbs.db", "readme.md", content=b"text")
    result = run_python("-m", "speechmlp", "prepare", "folder", "--source", root, "--output", "out/m.tsv")
    assert result.returncode == 0, result.stderr
    assert "Folder: 12 letters of 4 speakers" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[7] == "left out in all: 7 files and folders"
    names = ("mine/a/._anna_nohash_0.wav", "mine/a/deep", "mine/words", "mine/loose.wav", "mine/.DS_Store")
    for name in (*names, "mine/a/Thumbs.db", "mine/readme.md"):
        assert sum(f"{tmp_path}/{name}: " in line for line in lines) == 1
    assert "warning: names of speakers look alike: 'Anna' (" in result.stdout
    assert {one.letter for one in read_manifest(tmp_path / "out/m.tsv", allow_outside=True)} == set("AZB")


@pytest.mark.parametrize("kind", ["annex", "cache", "folder", "whole"])
def test_links_keep_their_names_and_places(kind: str, tmp_path: Path, run_python: Run) -> None:
    """As git-annex and Hugging Face's cache link single files, DVC folders, and people whole data folders."""
    root = tmp_path / "data"
    for number, speaker in enumerate(("anna", "bob", "carl")):
        for letter in "ab":
            name = f"{letter}/{speaker}_nohash_0.wav"
            places = {"annex": ".git/annex/SHA256E-{}.wav", "cache": "../blobs/{}", "folder": "../dvc/{}"}
            place = places.get(kind, "../kept/{}")
            stored = (root / place.format(f"{number}{letter}" if kind in ("annex", "cache") else name)).absolute()
            make(stored.parent, stored.name)
            (root / letter).parent.mkdir(parents=True, exist_ok=True)
            if kind in ("annex", "cache"):
                (root / letter).mkdir(exist_ok=True)
                (root / name).symlink_to(os.path.relpath(stored, root / letter))
            elif kind == "folder" and not (root / letter).exists():
                (root / letter).symlink_to(stored.parent)
    if kind == "whole":
        shutil.rmtree(root)
        root.symlink_to(tmp_path / "kept")
    result = run_python("-m", "speechmlp", "prepare", "folder", "--source", "data", "--output", "data/manifest.tsv")
    assert result.returncode == 0, result.stderr
    assert "outside" not in result.stdout
    paths = [line.split("\t")[0] for line in (root / "manifest.tsv").read_text().splitlines()[1:]]
    assert paths == sorted(f"{letter}/{speaker}_nohash_0.wav" for letter in "ab" for speaker in ("anna", "bob", "carl"))
    audit = run_python("-m", "speechmlp", "audit", "--manifest", "data/manifest.tsv", "--text")
    assert "unreadable" not in audit.stdout
    assert "do not exist" not in audit.stdout


def test_a_missing_file_behind_a_link_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a/x.wav")
    (tmp_path / "a" / "y.wav").symlink_to("../.git/annex/objects/y.wav")
    left_out = LeftOut()
    assert [one.path.name for one in read_folder(tmp_path, left_out)] == ["x.wav"]
    assert left_out.reasons == {tmp_path / "a" / "y.wav": "a link to a missing file"}


def test_predict_lists_what_it_leaves_out(tmp_path: Path, run_python: Run) -> None:
    make(tmp_path, "in/a.wav", "in/._a.wav", "in/.DS_Store", "in/b.weird")
    make(tmp_path, "in/c.txt", content=b"text")
    result = run_python("-m", "speechmlp", "predict", "in")
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 2)
    assert result.stderr.splitlines() == [
        "left out: in/.DS_Store: a hidden file",
        "left out: in/._a.wav: a hidden file",
        "left out: in/c.txt: not an audio file",
        "left out in all: 3 files and folders",
    ]


def test_names_that_are_not_utf8_end_in_one_line(tmp_path: Path, run_python: Run) -> None:
    name = os.fsdecode(b"caf\xe9_nohash_0.wav")
    make(tmp_path, f"mine/a/{name}", "mine/a/b_nohash_0.wav")
    result = run_python("-m", "speechmlp", "prepare", "folder", "--source", "mine", "--output", "m.tsv")
    problem = "error: 'mine/a/caf\\udce9_nohash_0.wav': expected a name in UTF-8; rename it\n"
    assert (result.returncode, result.stderr) == (2, problem)
    assert not (tmp_path / "m.tsv").exists()
    folder = tmp_path / os.fsdecode(b"f\xe9")
    make(folder, "a.wav")
    (folder / "m.tsv").write_text("path\tletter\na.wav\tA\n")
    for words in (["audit", "--manifest"], ["evaluate", "--checkpoint", "x", "--manifest"]):
        result = run_python("-m", "speechmlp", *words, folder / "m.tsv")
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr


def test_prepare_long_lists_what_it_leaves_out(tmp_path: Path) -> None:
    from speechmlp.corpora.long import read_tree

    make(tmp_path, "anna/1.wav", "anna/._1.wav", "bob/2.wav")
    make(tmp_path, "anna/1.txt", "notes.md", content=b"a b")
    recordings, without, left_out = read_tree(tmp_path)
    assert [recording.path.name for recording in recordings] == ["1.wav"]
    assert without == ["bob/2.wav"]
    assert {path.name for path in left_out.reasons} == {"._1.wav", "notes.md"}
