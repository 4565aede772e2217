"""Preparation of isolated letters by people of public programs, from a folder and from a local server."""

import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from speechmlp.corpora import programs
from speechmlp.corpora.judging import verdict
from speechmlp.corpora.people import prepare_people
from speechmlp.corpora.programs import DEBIAN_LETTERS, Voice
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.prepare import judge_of
from tests.conftest import REAL_RECORDINGS, tone

HEADER = "path\tletter\tspeaker\tstart\tend\tuse\tlicence\torigin"


def ranked(first: str) -> Mapping[str, float]:
    """Returns probabilities with one letter first and the others in their order."""
    order = [first, *(letter for letter in LETTERS if letter != first)]
    return {letter: 0.5 ** (place + 1) for place, letter in enumerate(order)}


def judge(clips: Sequence[NDArray[np.int16]]) -> list[Mapping[str, float]]:
    """Recognises low tones as A, and high ones as Z."""
    low = [np.abs(np.diff(np.sign(clip))).sum() / max(1, len(clip)) < 0.1 for clip in clips]
    return [ranked("A" if one else "Z") for one in low]


def write_index(folder: Path, rows: Sequence[str]) -> None:
    for row in rows:
        path = folder / row.split("\t")[0]
        if ".." not in path.parts:
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(200 if "low" in path.name else 3000, 1.5, 44_100), 44_100)
    (folder / "index.tsv").write_text("\n".join([HEADER, *rows]) + "\n")


def test_recordings_are_copied_with_and_without_their_surroundings(tmp_path: Path) -> None:
    rows = [
        "x/A_low.flac\tA\tx\t0.2\t0.9\ttrain\tMIT\towner/x@1 : a.ogg",
        "x/B_low.flac\tB\tx\t\t\ttrain\tCC-BY-SA 3.0\towner/x@1 : b.ogg",
        "x/Z_low.flac\tZ\tx\t0.2\t0.9\ttrain\tMIT\towner/x@1 : z.ogg",
        "x/Z_high.flac\tZ\tx\t0.2\t9\ttrain\tMIT\towner/x@1 : z.ogg",
        "y/Z_low.flac\tZ\ty\t0.2\t0.9\tvalid\tGPL-3\towner/y@1 : z.wav",
        "z/A_low.flac\tA\tz\t0.2\t0.9\ttrain\tGPL-3\towner/z@1 : a.wav",
        "z/C_low.flac\tC\tz\t0.9\t0.2\ttrain\tMIT\towner/z@1 : c.wav",
        "z/D_low.flac\t1\tz\t0.1\t0.2\ttrain\tMIT\towner/z@1 : d.wav",
        "z/E_low.flac\tE\tz\t0.1\t0.2\tnever\tMIT\towner/z@1 : e.wav",
        "../F_low.flac\tF\tz\t0.1\t0.2\ttrain\tMIT\towner/z@1 : f.wav",
    ]
    write_index(tmp_path / "source", rows)
    soundfile.write(tmp_path / "F_low.flac", tone(200, 0.5), 16_000)
    (tmp_path / "source" / "digits.tsv").write_text(
        HEADER.replace("letter", "digit") + "\nx/A_low.flac\t7\tx\t0.2\t0.9\ttrain\tMIT\towner/x@1 : 7.ogg\n"
    )
    summary = prepare_people(tmp_path / "source", tmp_path / "out", judge)
    whole = read_manifest(tmp_path / "out" / "manifest.tsv")
    assert [(u.letter, u.speaker, u.split, u.start) for u in whole] == [
        ("A", "x", "train", None),
        ("B", "x", "train", None),
        ("Z", "x", "train", None),  # the high one
        ("Z", "y", "valid", None),  # validation voices are not filtered
    ]
    assert whole[0].groups == {"licence": "MIT", "origin": "owner/x@1 : a.ogg"}
    assert soundfile.info(whole[0].path).samplerate == 44_100
    cut = read_manifest(tmp_path / "out" / "cut.tsv")
    assert [(u.path.name, u.start) for u in cut] == [("A_low.flac", 0.2), ("Z_high.flac", 0.2), ("Z_low.flac", 0.2)]
    assert cut[1].end == pytest.approx(1.5, abs=0.01)
    digits = read_manifest(tmp_path / "out" / "non_letters.tsv", letters=False)
    assert [utterance.groups["digit"] for utterance in digits] == ["7"]
    reasons = {part.path: part.reason for part in summary.left_out}
    assert reasons == {
        "x/Z_low.flac": "recognised as A",
        "z/A_low.flac": "licence 'GPL-3'",
        "z/C_low.flac": "expected 0 <= start < end within 1.50 s, found 0.9 and 0.2",
        "z/D_low.flac": "is not a letter",
        "z/E_low.flac": "use 'never'",
        "../F_low.flac": "is outside the folder",
    }
    assert (tmp_path / "out" / "left_out.tsv").read_text().count("\n") == 7
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out", "F_low.flac"}


def test_a_folder_without_usable_letters_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as an index"):
        prepare_people(tmp_path, tmp_path.parent / "out", judge)
    (tmp_path / "index.tsv").write_text("path\tletter\na.wav\tA\n")
    with pytest.raises(UserError, match="expected lines with the columns path, letter, speaker"):
        prepare_people(tmp_path, tmp_path.parent / "out", judge)
    write_index(tmp_path, ["A_low.flac\tA\tx\t0.1\t0.2\ttrain\tall rights reserved\tx"])
    with pytest.raises(UserError, match=r"no letter is left: all 1 are left out; the first: A_low\.flac: licence"):
        prepare_people(tmp_path, tmp_path.parent / "out", judge)
    assert not (tmp_path.parent / "out").exists()


def test_letters_that_rhyme_are_kept() -> None:
    assert verdict("T", ranked("B")).reason == ""
    assert verdict("T", ranked("A")).reason == "recognised as A"
    assert verdict("E", ranked("A")).rank == 5
    assert verdict("Z", ranked("Z")).log_probability == pytest.approx(np.log(0.5))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serves two voices and a package, whose addresses replace the published ones; yields the served folder."""
    folder = tmp_path / "www"
    (folder / "o/r/raw/1").mkdir(parents=True)
    for letter in "ab":
        soundfile.write(folder / f"o/r/raw/1/{letter}.flac", tone(200, 0.5), 16_000)
    data, tar_file = io.BytesIO(), io.BytesIO()
    soundfile.write(data, tone(200, 0.5), 16_000, format="WAV")
    with tarfile.open(fileobj=tar_file, mode="w:xz") as tar:
        for name in (f"./{DEBIAN_LETTERS}/c.wav", f"./{DEBIAN_LETTERS}/dot.wav", "./other/d.wav"):
            member = tarfile.TarInfo(name)
            member.size = len(data.getvalue())
            tar.addfile(member, io.BytesIO(data.getvalue()))
    package = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", tar_file.getvalue())):
        package += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{0:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        )
    (folder / "x.deb").write_bytes(package)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(programs, "GITHUB", address)
        monkeypatch.setattr(programs, "VOICES", (Voice("v", "o/r", "1", "{lower}.flac", "MIT", "AB"),))
        monkeypatch.setattr(programs, "DEBIAN", (f"{address}/x.deb", sha256(package).hexdigest()))
        yield folder
        httpd.shutdown()
        thread.join()


def test_voices_are_downloaded(tmp_path: Path, server: Path) -> None:
    summary = prepare_people(None, tmp_path / "out", judge)
    assert [(u.letter, u.speaker) for u in summary.utterances] == [
        ("A", "v"),
        ("B", "v"),
        ("C", "debian-asterisk-allison"),
    ]
    assert summary.utterances[1].groups == {"licence": "MIT", "origin": "o/r@1 : b.flac"}
    assert not (tmp_path / "out" / "cut.tsv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"www", "out"}


def test_an_interrupted_download_continues(tmp_path: Path, server: Path) -> None:
    (server / "o/r/raw/1/b.flac").rename(server / "hidden")
    with pytest.raises(UserError, match=r"o/r/raw/1/b\.flac: cannot be downloaded"):
        prepare_people(None, tmp_path / "out", judge)
    assert {path.name for path in tmp_path.iterdir()} == {"www", "out.download"}
    (server / "hidden").rename(server / "o/r/raw/1/b.flac")
    (server / "o/r/raw/1/a.flac").unlink()  # is there already
    package = (server / "x.deb").read_bytes()
    (server / "x.deb").write_bytes(package[:-2])
    with pytest.raises(UserError, match=r"x\.deb: expected a file with the SHA-256 .*; it was deleted"):
        prepare_people(None, tmp_path / "out", judge)
    (server / "x.deb").write_bytes(package)
    assert len(prepare_people(None, tmp_path / "out", judge).utterances) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"www", "out"}


def test_an_unreachable_address_leaves_nothing(tmp_path: Path, server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "GITHUB", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"a.flac: cannot be downloaded .* --source PATH"):
        prepare_people(None, tmp_path / "out", judge)
    assert {path.name for path in tmp_path.iterdir()} == {"www"}


@pytest.mark.corpus
def test_the_real_voices(tmp_path: Path) -> None:
    summary = prepare_people(REAL_RECORDINGS / "people", tmp_path / "out", judge_of(None))
    assert len(summary.utterances) >= 540
    speakers = {utterance.speaker: utterance.split for utterance in summary.utterances}
    assert list(speakers.values()).count("train") == 10
    assert list(speakers.values()).count("valid") == 13
    assert all(u.groups["licence"].startswith(("MIT", "CC-BY")) for u in summary.utterances if u.split == "train")
