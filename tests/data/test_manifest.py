import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmlp.data.manifest import Utterance, read_manifest, shared_speakers, write_manifest
from speechmlp.errors import UserError


def write(tmp_path: Path, text: str, name: str = "m.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_written_manifest_reads_back_equal(tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / "a" / "x y.wav", "A", "anna", "train"),
        Utterance(tmp_path / 'quo"te.wav', "B", "bob's", "test", 0.25, 1.5),
    ]
    write_manifest(tmp_path / "m.tsv", utterances)
    assert read_manifest(tmp_path / "m.tsv") == utterances
    assert "a/x y.wav\tA\tanna\ttrain\t\t\n" in (tmp_path / "m.tsv").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["m.tsv"]


def test_audio_outside_the_folder_has_an_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_manifest(tmp_path / "here" / "m.tsv", [Utterance(tmp_path / "there" / "a.wav", "A", "x", "train")])
    found = read_manifest(tmp_path / "here" / "m.tsv", allow_outside=True)
    assert found[0].path == (tmp_path / "there" / "a.wav").resolve()


@pytest.mark.parametrize("path", ["../a.wav", "b/../../a.wav", "/etc/passwd", "{root}/../a.wav", "{root}x/a.wav"])
def test_recordings_outside_the_folder_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "here").mkdir()
    text = f"path\tletter\n{path.format(root=tmp_path / 'here')}\tA\nin.wav\tB\n{tmp_path}/here/in.wav\tC\n"
    write(tmp_path / "here", text)
    monkeypatch.chdir(tmp_path)
    for manifest in (tmp_path / "here" / "m.tsv", Path("here/m.tsv"), Path("../" + tmp_path.name) / "here/m.tsv"):
        with pytest.raises(UserError, match=r"m\.tsv: 1 recordings are outside its folder, such as .*outside=true"):
            read_manifest(manifest)
        assert len(read_manifest(manifest, allow_outside=True)) == 3


def test_tsv_csv_and_jsonl_are_equivalent(tmp_path: Path) -> None:
    rows = [["x.wav", "a", "s1", "0.5", "1"], ["y, z.wav", "B", "s2", "", ""]]
    names = ["path", "letter", "speaker", "start", "end"]
    tsv = "\n".join("\t".join(row) for row in [names, *rows])
    csv_text = 'path,letter,speaker,start,end\nx.wav,a,s1,0.5,1\n"y, z.wav",B,s2,,\n'
    jsonl = "\n".join(
        json.dumps({name: value for name, value in zip(names, row, strict=True) if value}) for row in rows
    )
    expected = [Utterance(tmp_path / "x.wav", "A", "s1", None, 0.5, 1.0), Utterance(tmp_path / "y, z.wav", "B", "s2")]
    assert read_manifest(write(tmp_path, tsv)) == expected
    assert read_manifest(write(tmp_path, csv_text, "m.csv")) == expected
    assert read_manifest(write(tmp_path, jsonl, "m.jsonl")) == expected


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    path.write_text("licence\tpath\tletter\nMIT\ta.wav\tQ\n", encoding="utf-8-sig")
    assert read_manifest(path) == [Utterance(tmp_path / "a.wav", "Q", "unknown", groups={"licence": "MIT"})]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path\tletter\na.wav\tAB\n", "m.tsv:2: expected one letter A to Z, found 'AB'"),
        ("path\tletter\n\tA\n", "m.tsv:2: expected a path"),
        ("path\tletter\tsplit\na.wav\tA\tdev\n", "m.tsv:2: expected split train, valid or test, found 'dev'"),
        ("path\tletter\tstart\tend\na.wav\tA\t2\t1\n", "m.tsv:2: expected start < end"),
        ("path\tletter\tstart\na.wav\tA\t2\n", "m.tsv:2: expected start < end, both or neither"),
        ("path\tletter\tstart\tend\na.wav\tA\tnan\t1\n", "m.tsv:2: expected start in seconds"),
        (
            "path\tletter\tstart\tend\na.wav\tA\tx\t1\n",
            "m.tsv:2: expected start in seconds, 0 or more, found 'x'",
        ),
        ("path\tletter\n", "m.tsv: the manifest has no utterances"),
        ("", "expected a header line with path and letter"),
        ("file\tletter\na.wav\tA\n", "found no 'path'"),
        ("path\tletter\tsplit\na.wav\tA\ttrain\nb.wav\tB\t\n", "some lines have a split and others do not"),
        (
            "path\tletter\tspeaker\tsplit\na.wav\tA\tanna\ttrain\nb.wav\tB\tanna\ttest\n",
            "expected every speaker in one split only, found 1 in several: anna",
        ),
    ],
)
def test_mistakes_are_reported_with_file_and_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read_manifest(write(tmp_path, text))
    assert problem in str(caught.value)


def test_every_invalid_line_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_manifest(write(tmp_path, "path\tletter\na.wav\t1\nb.wav\tB\nc.wav\t2\n"))
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in caught.value.problems] == ["2", "4"]


@pytest.mark.parametrize("name", ["none.tsv", "."])
def test_unreadable_manifests_are_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="manifest"):
        read_manifest(tmp_path / name)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".tsv", ".csv", ".jsonl"]))
def test_any_bytes_are_a_manifest_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"m{suffix}"
    path.write_bytes(b"path\tletter\n" + data if suffix == ".tsv" else data)
    try:
        assert read_manifest(path)
    except UserError as error:
        assert all("m." in problem for problem in error.problems)


def test_genders_are_kept_if_there_are_any(tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / "a.wav", "A", "mary", "train", gender="female"),
        Utterance(tmp_path / "b.wav", "B", "x", "train"),
    ]
    write_manifest(tmp_path / "m.tsv", utterances)
    assert read_manifest(tmp_path / "m.tsv") == utterances
    path = write(tmp_path, "path\tletter\tgender\na.wav\tA\tM\nb.wav\tB\tNonbinary\n")
    assert [utterance.gender for utterance in read_manifest(path)] == ["male", "nonbinary"]


def test_margins_and_groups_survive_reading_and_writing(tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / "a.wav", "A", "mary", "train", 0.5, 1.0, margin=0.0, groups={"accent": "indian"}),
        Utterance(tmp_path / "b.wav", "B", "x", "train", groups={"device": "Phone Recorder", "age": "24"}),
    ]
    write_manifest(tmp_path / "m.tsv", utterances)
    assert read_manifest(tmp_path / "m.tsv") == utterances
    assert hash(utterances[0]) != hash(utterances[1])
    lines = ['"path","letter","margin","native\nlanguage",""', 'a.wav,A,0.05,"Hindi,\tMarathi ",x', "b.wav,B,,,,extra"]
    read = read_manifest(write(tmp_path, "\n".join(lines), "m.csv"))
    assert [utterance.margin for utterance in read] == [0.05, None]
    assert [utterance.groups for utterance in read] == [{"native language": "Hindi, Marathi"}, {}]
    write_manifest(tmp_path / "again.tsv", read)
    assert read_manifest(tmp_path / "again.tsv") == read
    row = '{"path": "a.wav", "letter": "A", "age": 7, "accent": null, "words": ["a"], "native": true}'
    assert read_manifest(write(tmp_path, row, "m.jsonl"))[0].groups == {"age": "7", "native": "True"}


@pytest.mark.parametrize("margin", ["-0.1", "nan", "wide"])
def test_invalid_margins_are_reported(tmp_path: Path, margin: str) -> None:
    with pytest.raises(UserError, match="expected margin in seconds"):
        read_manifest(write(tmp_path, f"path\tletter\tmargin\na.wav\tA\t{margin}\n"))


def test_shared_speakers_can_be_allowed(tmp_path: Path) -> None:
    rows = ["path\tletter\tspeaker\tsplit", "a.wav\tA\tanna\ttrain", "b.wav\tB\tanna\ttest"]
    rows += ["c.wav\tA\tunknown\ttrain", "d.wav\tB\tunknown\ttest"]
    path = write(tmp_path, "\n".join(rows))
    with pytest.raises(UserError, match="found 1 in several: anna"):
        read_manifest(path)
    assert shared_speakers(read_manifest(path, allow_shared=True)) == ["anna"]


@pytest.mark.parametrize("name", ["a\tb.wav", "a\nb.wav"])
def test_names_with_tabs_or_line_breaks_are_reported_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected a name without tabs and line breaks; rename it"):
        write_manifest(tmp_path / "m.tsv", [Utterance(tmp_path / name, "A", "x")])
    assert list(tmp_path.iterdir()) == []
