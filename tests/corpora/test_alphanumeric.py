"""Preparation of the Alphanumeric Audio Dataset: a small tree in its layout, spoken by eSpeak, and the real corpus."""

import csv
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
import soundfile

from speechmlp.corpora.alphanumeric import COMMIT, prepare_alphanumeric
from speechmlp.corpora.alphanumeric_tree import Speaker, accent_of, read_tree
from speechmlp.corpora.pronunciations import phones_of
from speechmlp.corpora.spellings import numbers, spellings, text_of
from speechmlp.corpora.synthetic import ESpeak, draw_voices
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.labels import SETS
from speechmlp.prepare import judge_of
from tests.conftest import REAL_RECORDINGS, Run, tone

SPELLED = {
    # id: name, spoken name, number, spoken number
    "R_a": ("Quick Jam", "Q, U, I, C, K, J, A, M", "2253", "double two, five, three"),
    "R_b": ("Jam Ross", "Jam Ross. R, O, double S, J, A, M", "1408", "one, four, zero, eight"),
    "R_c": ("Zoe", "Z, O, E", "7", "seven"),
    "R_d": ("Bob", None, "9162", "nine, one, six, two"),
}
COLUMNS = (
    "Response_ID,file_name,Age,Gender,Nationality,Native Language,Familiarity with English,"
    "Accent Strength (Self reported),Difficulties,Recording Machine,Name,Number,Address,Duration (secs)"
)


def split_of(name: str) -> str:
    return Speaker(name, None, {}, "", "", {}).split


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tree in the published layout: one name last name first, one that is not spelled, a missing file."""
    root = tmp_path_factory.mktemp("published") / "alphanumeric-audio-dataset-1"
    espeak = ESpeak()
    espeak.choose(draw_voices(10, 0)[0][0])
    rows = [COLUMNS]
    for speaker, (name, spoken, number, said) in SPELLED.items():
        for kind, text in (("Names", spoken), ("Numbers", said)):
            path = root / "audio_data" / kind / f"{speaker}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                soundfile.write(path, tone(300, 2.0), 16_000)
            else:
                soundfile.write(path, espeak.say(text, 50, 130), espeak.sample_rate)
            rows.append(
                f'{speaker},audio_data/{kind}/{path.name},24,Female,Indian ,Hindi,"Educated in English, but not",5,'
                f'Sometimes,Phone Recorder,{name},{number},"1, Road",99'
            )
    (root / "audio_data" / "Numbers" / "R_d.wav").unlink()
    (root / "metadata.csv").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8-sig")
    return root


@pytest.mark.slow
def test_digits_are_labels_if_wanted(tree: Path, tmp_path: Path) -> None:
    summary = prepare_alphanumeric(tree.parent, tmp_path / "out", judge_of(None), 1, digits=True)
    found = read_manifest(tmp_path / "out" / "manifest.tsv", labels=SETS["alphanumeric"])
    digits = [one for one in found if one.letter.isdigit()]
    assert len(digits) == summary.digits > 5
    assert all("numbers" in one.path.parts and one.start is not None for one in digits)
    assert not (tmp_path / "out" / "non_letters.tsv").exists()
    assert f"labels: {len(digits)} digits" in summary.lines()
    assert summary.lines()[0].startswith(f"Alphanumeric: {len(found) - len(digits)} letters of")


def test_letters_and_digits_are_cut(tree: Path, tmp_path: Path, run_python: Run) -> None:
    command = ["-m", "speechmlp", "prepare", "alphanumeric", "--source", tree.parent, "--workers", 1, "--output", "out"]
    result = run_python(*command)
    assert result.returncode == 0, result.stderr
    assert "warning: 1 recordings are missing: audio_data/Numbers/R_d.wav" in result.stdout
    assert "warning: the whole corpus has 70 people, found 4" in result.stdout
    letters = read_manifest(tmp_path / "out" / "manifest.tsv")
    by_speaker = {
        name: "".join(u.letter for u in letters if u.speaker == name) for name in {u.speaker for u in letters}
    }
    assert by_speaker["R_a"] == "QUICKJAM"
    assert by_speaker["R_b"] == "ROSJAM"  # as it was spelled: double S is one letter
    assert "R_d" not in by_speaker
    assert all(u.margin == 0 and u.split == split_of(u.speaker) and u.gender == "female" for u in letters)
    groups = {"accent": "indian", "nationality": "Indian", "native_language": "Hindi", "age": "24"}
    assert letters[0].groups == {**groups, "device": "Phone Recorder"}
    for name in by_speaker:
        times = [(u.start, u.end) for u in letters if u.speaker == name]
        assert times == sorted(times)
        assert all(start < end <= soundfile.info(letters[0].path).duration + 9 for start, end in times)  # type: ignore[operator]
    digits = read_manifest(tmp_path / "out" / "non_letters.tsv", letters=False)
    said = {name: "".join(u.groups["digit"] for u in digits if u.speaker == name) for name in ("R_a", "R_b", "R_c")}
    assert said == {"R_a": "253", "R_b": "1408", "R_c": ""}
    with (tmp_path / "out" / "left_out.tsv").open(newline="") as file:
        left_out = {(row["speaker"], row["label"]) for row in csv.DictReader(file, delimiter="\t")}
    assert {("R_d", "Bob"), ("R_c", "7")} <= left_out
    names = (tmp_path / "out" / "names.tsv").read_text().splitlines()
    assert names[0].split("\t") == ["path", "text", "speaker", "split", "gender", "accent"]
    assert any("\tROSSJAM\t" in line for line in names)


def test_the_split_is_by_the_hash_of_the_id() -> None:
    for number in range(50):
        value = int(hashlib.sha256(f"R_{number}".encode()).hexdigest(), 16)
        wanted = "test" if value % 2 == 0 else "valid" if (value // 2) % 10 < 3 else "train"
        assert split_of(f"R_{number}") == wanted


def test_ways_to_spell_and_to_say() -> None:
    ways = [" ".join(way) for way in spellings("Anna  O'Neil ")]
    assert ways[:3] == ["A N N A O N E I L", "A N N A space O N E I L", "A double N A O N E I L"]
    assert {"O N E I L A N N A", "anna oneil A N N A O N E I L", "anna A N N A O N E I L"} <= set(ways)
    assert spellings(" - ") == []
    assert text_of(["anna", "double", "L", "space", "triple", "S", "A"]) == "LLSSSA"
    assert phones_of("shirodkar") == "SH IH R OW D K AH R"
    assert [" ".join(way) for way in numbers("5507")] == [
        "five five zero seven",
        "double five zero seven",
        "five five oh seven",
        "double five oh seven",
    ]
    assert ("triple", "one", "two") in numbers("1112")


@pytest.mark.parametrize(
    ("nationality", "language", "accent"),
    [
        ("Indian", "Marathi", "indian"),
        ("Indo-canadian", "Hindi", "indian"),
        ("Indonesian", "Javanese", "other"),
        ("American", "English", "american"),
        ("American", "Chinese", "chinese"),
        ("American", "Spanish", "other"),
        ("Chinese Canadian", "Mandarin", "chinese"),
        ("", "", "other"),
    ],
)
def test_accents(nationality: str, language: str, accent: str) -> None:
    assert accent_of(nationality, language) == accent


def test_other_folders_are_reported(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the Alphanumeric Audio Dataset"):
        read_tree(tmp_path)
    (tmp_path / "metadata.csv").write_text("Response_ID,Name\nR_a,Jam\n")
    with pytest.raises(UserError, match="expected lines with the columns response_id, file_name"):
        read_tree(tmp_path)
    shutil.copy(tree / "metadata.csv", tmp_path)
    with pytest.raises(UserError, match="expected recordings in audio_data/Names"):
        read_tree(tmp_path)
    outside = (tree / "metadata.csv").read_text(encoding="utf-8-sig").replace("R_a,", "../../R_a,")
    (tmp_path / "metadata.csv").write_text(outside)
    shutil.copytree(tree / "audio_data", tmp_path / "audio_data")
    assert [speaker.id for speaker in read_tree(tmp_path)[0]] == ["R_b", "R_c", "R_d"]


@pytest.mark.parametrize("comment", [None, "0" * 40])
def test_the_download_must_be_the_pinned_commit(
    tmp_path: Path, comment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(url: str, target: Path, sha256: str | None = None) -> None:
        with tarfile.open(target, "w:gz", pax_headers={"comment": comment} if comment else None) as tar:
            tar.addfile(tarfile.TarInfo("x/metadata.csv"), io.BytesIO())

    monkeypatch.setattr("speechmlp.corpora.alphanumeric.download", fake)
    with pytest.raises(UserError, match=f"expected the archive of commit {COMMIT}, found {comment or 'another file'}"):
        prepare_alphanumeric(None, tmp_path / "out", lambda clips: [])
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_address_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmlp.corpora.alphanumeric.URL", "http://127.0.0.1:9/x.tar.gz")
    with pytest.raises(UserError, match=r"cannot be downloaded .* use a local copy with --source PATH"):
        prepare_alphanumeric(None, tmp_path / "out", lambda clips: [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.corpus
@pytest.mark.slow
def test_the_published_tree(tmp_path: Path) -> None:
    summary = prepare_alphanumeric(REAL_RECORDINGS / "alphanumeric", tmp_path / "out", judge_of(None))
    assert len(summary.utterances) >= 350
    assert summary.names >= 33
    assert {utterance.split for utterance in summary.utterances} == {"train", "valid"}
    assert summary.digits >= 350
