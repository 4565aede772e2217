"""Preparation of AN4: a small tree in AN4's layout with synthetic speech, and the real corpus."""

import http.server
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.corpora.an4 import EXPECTED, VALID_SPEAKERS, prepare_an4, read_samples, read_tree
from speechmlp.corpora.synthetic import ESpeak, draw_voices
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, SETS
from tests.conftest import PYTHONS, Run

PRONUNCIATIONS = """A AH|A(2) EY|B B IY|C S IY|D D IY|E IY|F EH F|G JH IY|H EY CH|I AY|J JH EY|K K EY|L EH L|M EH M
N EH N|NO N OW|O OW|P P IY|Q K Y UW|R AA R|S EH S|T T IY|U Y UW|V V IY|W D AH B AH L Y UW|X EH K S|Y W AY|Z Z IY
FIVE F AY V"""
SENTENCES = {
    "train": {
        "an1-fash-b": "S P E E D FIVE",
        "cen2-fash-b": "NO",
        "an3-mjdr-b": "Q U I C K",
        "an9-mxyz-b": "Z",
    },
    "test": {"an4-fcaw-b": "FIVE J A M"},
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Returns the samples of each sentence at 16 kHz, spoken by eSpeak."""
    folder = tmp_path_factory.mktemp("spoken")
    espeak = ESpeak()
    espeak.choose(draw_voices(10, 0)[0][0])
    samples = {}
    for sentences in SENTENCES.values():
        for name, text in sentences.items():
            words = ", ".join(word if len(word) == 1 else word.lower() for word in text.split())
            soundfile.write(folder / "x.wav", espeak.say(words, 50, 130), espeak.sample_rate)
            waveform = to_mono_16k(*load(folder / "x.wav"))
            samples[name] = (waveform * 20_000).to(dtype=__import__("torch").int16).numpy()
    return samples


def write_tree(root: Path, spoken: dict[str, np.ndarray], kind: str = "wav") -> Path:
    (root / "etc").mkdir(parents=True)
    entries = (entry for line in PRONUNCIATIONS.splitlines() for entry in line.split("|"))
    (root / "etc" / "an4.dic").write_text("\n".join("\t".join(entry.split(" ", 1)) for entry in entries) + "\n")
    for part, sentences in SENTENCES.items():
        lines = [
            f"<s> {text} </s> ({name})" if part == "train" else f"{text} ({name})" for name, text in sentences.items()
        ]
        (root / "etc" / f"an4_{part}.transcription").write_text("\n".join(lines) + "\n")
        for name in sentences:
            folder = root / "wav" / ("an4_clstk" if part == "train" else "an4test_clstk") / name.split("-")[1]
            folder.mkdir(parents=True, exist_ok=True)
            if kind in ("little", "big"):
                spoken[name].astype("<i2" if kind == "little" else ">i2").tofile(folder / f"{name}.raw")
            else:
                form = {"wav": "WAV", "sph": "NIST"}[kind]
                soundfile.write(folder / f"{name}.{kind}", spoken[name], 16_000, format=form, subtype="PCM_16")
    return root


@pytest.mark.parametrize("kind", ["wav", "sph", "little", "big"])
def test_letters_are_cut_from_every_release(tmp_path: Path, spoken: dict[str, np.ndarray], kind: str) -> None:
    tree = write_tree(tmp_path / "an4", spoken, kind)
    summary = prepare_an4(tree, "", tmp_path / "out", workers=1)
    assert summary.failures == []
    utterances = read_manifest(tmp_path / "out" / "manifest.tsv")
    letters = {(utterance.speaker, utterance.split, utterance.letter) for utterance in utterances}
    assert letters == {
        *(("fash", "train", letter) for letter in "SPED"),
        *(("mjdr", "valid", letter) for letter in "QUICK"),
        ("mxyz", "train", "Z"),
        *(("fcaw", "test", letter) for letter in "JAM"),
    }
    for utterance in utterances:
        samples, rate = soundfile.read(utterance.path)
        assert rate == 16_000
        assert 0.03 <= len(samples) / rate < 1.2
        assert np.abs(samples).max() > 0.01
    others = read_manifest(tmp_path / "out" / "non_letters.tsv", letters=False)
    assert {path.parts[-3] for path in (utterance.path for utterance in others)} <= {"words", "pauses"}
    assert {utterance.path.stem.split("-")[-1] for utterance in others if "words" in utterance.path.parts} == {
        "FIVE",
        "NO",
    }
    assert any(line.startswith("warning: the whole corpus has 1078 utterances") for line in summary.lines())


def test_digits_are_labels_if_wanted(tmp_path: Path, spoken: dict[str, np.ndarray]) -> None:
    tree = write_tree(tmp_path / "an4", spoken, "wav")
    summary = prepare_an4(tree, "", tmp_path / "out", workers=1, digits=True)
    utterances = read_manifest(tmp_path / "out" / "manifest.tsv", labels=SETS["alphanumeric"])
    fives = [one for one in utterances if one.letter == "5"]
    assert fives
    assert all(one.path.stem.endswith("-FIVE") and one.path.parts[-3] == "wav" for one in fives)
    others = read_manifest(tmp_path / "out" / "non_letters.tsv", letters=False)
    assert not any(one.path.stem.endswith("-FIVE") for one in others)
    assert any(one.path.stem.endswith("-NO") for one in others)
    assert f"AN4: {len(utterances) - len(fives)} letters and {len(fives)} digits of 4 speakers" in summary.lines()[0]


def test_the_byte_order_is_detected(tmp_path: Path, spoken: dict[str, np.ndarray]) -> None:
    samples = spoken["an1-fash-b"]
    for order in ("<i2", ">i2"):
        samples.astype(order).tofile(tmp_path / "x.raw")
        assert np.array_equal(read_samples(tmp_path / "x.raw"), samples)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/cut.tar.gz":  # announces more than it sends
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(b"x" * 1000)
            else:
                super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_the_archive_is_downloaded_and_unpacked(
    tmp_path: Path, spoken: dict[str, np.ndarray], server: str, run_python: Run
) -> None:
    with tarfile.open(tmp_path / "www" / "an4.tar.gz", "w:gz") as tar:
        tar.add(write_tree(tmp_path / "tree", spoken, "sph"), "an4")
    result = run_python("-m", "speechmlp", "prepare", "an4", "--url", f"{server}/an4.tar.gz", "--output", "an4")
    assert result.returncode == 0, result.stderr
    assert "AN4: 14 letters of 4 speakers from 5 utterances, 0 not aligned" in result.stdout
    assert len(read_manifest(tmp_path / "an4" / "manifest.tsv")) == 14


def test_a_zip_of_the_second_address_is_taken(
    tmp_path: Path, spoken: dict[str, np.ndarray], server: str, run_python: Run
) -> None:
    write_tree(tmp_path / "zipped" / "an4-master", spoken, "wav")
    shutil.make_archive(str(tmp_path / "www" / "master"), "zip", tmp_path / "zipped")
    (tmp_path / "www" / "page.tar.gz").write_text("<html>Moved</html>")
    addresses = [f"{server}/page.tar.gz", f"{server}/master.zip"]
    result = run_python("-m", "speechmlp", "prepare", "an4", "--url", *addresses, "--output", "an4")
    assert result.returncode == 0, result.stderr
    assert "AN4: 14 letters of 4 speakers from 5 utterances, 0 not aligned" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["an4", "www", "zipped"]
    again = run_python("-m", "speechmlp", "prepare", "an4", "--source", "www/master.zip", "--output", "an4")
    assert again.stdout == result.stdout
    failed = run_python("-m", "speechmlp", "prepare", "an4", "--url", addresses[0], f"{server}/none", "--output", "an4")
    assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 2)


def test_failed_downloads_leave_nothing_under_the_corpus_name(tmp_path: Path, server: str) -> None:
    with pytest.raises(UserError, match="cannot be downloaded"):
        prepare_an4(None, f"{server}/absent.tar.gz", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["www"]
    with pytest.raises(UserError, match=r"ended after 1000 of 100000 bytes; run the command again to continue"):
        prepare_an4(None, f"{server}/cut.tar.gz", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.download.partial", "www"]


@pytest.mark.parametrize("python", PYTHONS)
def test_an_archive_cannot_write_outside_its_folder(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if python != "current":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "x", "../../outside")
    with pytest.raises(UserError, match="cannot be unpacked"):
        prepare_an4(tmp_path / "evil.tar", "", tmp_path / "out")


def test_sources_other_than_an4_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar.gz").write_text("hello")
    for source, problem in {
        "empty": "expected the AN4 corpus, with etc/an4_train.transcription",
        "text.tar.gz": "cannot be unpacked as a tar archive",
        "absent": "no such file or folder",
    }.items():
        with pytest.raises(UserError, match=problem):
            prepare_an4(tmp_path / source, "", tmp_path / "out")
    with pytest.raises(UserError, match="expected an http or https address"):
        prepare_an4(None, "ftp://x/y", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_utterance_that_cannot_be_aligned_is_counted(tmp_path: Path, spoken: dict[str, np.ndarray]) -> None:
    tree = write_tree(tmp_path / "an4", {**spoken, "an9-mxyz-b": spoken["an9-mxyz-b"][:500]})
    summary = prepare_an4(tree, "", tmp_path / "out", workers=1)
    assert len(summary.failures) == 1
    assert summary.failures[0].startswith("an9-mxyz-b: ")
    assert "1 not aligned" in summary.lines()[0]


def test_missing_pocketsphinx_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pocketsphinx", None)
    with pytest.raises(UserError, match=r"pip install 'pocketsphinx<5\.1'"):
        prepare_an4(tmp_path, "", tmp_path / "out")


@pytest.mark.corpus
def test_the_real_tree_is_read_completely(real_recordings: Path) -> None:
    recordings, _ = read_tree(real_recordings / "an4")
    letters = Counter(word for recording in recordings for word in recording.words if word in LETTERS)
    assert len(recordings) == EXPECTED["utterances"]
    assert len({recording.speaker for recording in recordings}) == EXPECTED["speakers"]
    assert letters.total() == EXPECTED["letters"]
    assert (letters["Q"], letters["E"]) == (34, 287)
    assert {recording.speaker for recording in recordings if not recording.test} >= VALID_SPEAKERS
    assert sum(recording.speaker[0] == "f" for recording in recordings if recording.split == "valid") > 0


@pytest.mark.corpus
@pytest.mark.slow
def test_the_real_corpus_is_cut(tmp_path: Path, real_recordings: Path) -> None:
    summary = prepare_an4(real_recordings / "an4", "", tmp_path / "an4")
    assert Counter(utterance.split for utterance in summary.utterances) == {"train": 2630, "valid": 381, "test": 431}
    assert len({utterance.speaker for utterance in summary.utterances}) == 84
    assert len(summary.failures) <= 1
    durations = sorted(soundfile.info(utterance.path).duration for utterance in summary.utterances)
    assert 0.2 < durations[len(durations) // 2] < 0.4
