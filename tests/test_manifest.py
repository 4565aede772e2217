import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmlp.errors import UserError
from speechmlp.manifest import SPLITS, Utterance, read_manifest, split_by_speaker, write_manifest


def write(tmp_path: Path, text: str, name: str = "m.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / "a" / "x y.wav", "A", "anna", "train"),
        Utterance(tmp_path / 'quo"te.wav', "B", "bob's", "test", 0.25, 1.5),
    ]
    write_manifest(tmp_path / "m.tsv", utterances)
    assert read_manifest(tmp_path / "m.tsv") == utterances
    assert "a/x y.wav\tA\tanna\ttrain\t\t\n" in (tmp_path / "m.tsv").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["m.tsv"]


def test_audio_elsewhere_is_named_by_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_manifest(tmp_path / "here" / "m.tsv", [Utterance(tmp_path / "there" / "a.wav", "A", "x", "train")])
    assert read_manifest(tmp_path / "here" / "m.tsv")[0].path == (tmp_path / "there" / "a.wav").resolve()


def test_tsv_csv_and_jsonl_say_the_same(tmp_path: Path) -> None:
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


def test_other_columns_are_ignored_and_a_byte_order_mark_too(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    path.write_text("licence\tpath\tletter\nMIT\ta.wav\tQ\n", encoding="utf-8-sig")
    assert read_manifest(path) == [Utterance(tmp_path / "a.wav", "Q", "unknown")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path\tletter\na.wav\tAB\n", "m.tsv:2: expected one letter A to Z, found 'AB'"),
        ("path\tletter\n\tA\n", "m.tsv:2: expected a path"),
        ("path\tletter\tsplit\na.wav\tA\tdev\n", "m.tsv:2: expected split train, valid or test, found 'dev'"),
        ("path\tletter\tstart\tend\na.wav\tA\t2\t1\n", "m.tsv:2: expected start < end"),
        ("path\tletter\tstart\na.wav\tA\t2\n", "m.tsv:2: expected start < end, both or neither"),
        ("path\tletter\tstart\tend\na.wav\tA\tnan\t1\n", "m.tsv:2: expected start in seconds"),
        ("path\tletter\tstart\tend\na.wav\tA\tx\t1\n", "m.tsv:2: could not convert string to float"),
        ("path\tletter\n", "m.tsv: the manifest lists no utterance"),
        ("", "expected a header line with path and letter"),
        ("file\tletter\na.wav\tA\n", "found no 'path'"),
        ("path\tletter\tsplit\na.wav\tA\ttrain\nb.wav\tB\t\n", "some lines have a split and others have none"),
        (
            "path\tletter\tspeaker\tsplit\na.wav\tA\tanna\ttrain\nb.wav\tB\tanna\ttest\n",
            "a speaker must be in one split only, found 1 in several: anna",
        ),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read_manifest(write(tmp_path, text))
    assert problem in str(caught.value)


def test_every_wrong_line_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_manifest(write(tmp_path, "path\tletter\na.wav\t1\nb.wav\tB\nc.wav\t2\n"))
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in caught.value.problems] == ["2", "4"]


@pytest.mark.parametrize("name", ["none.tsv", "."])
def test_manifests_that_cannot_be_read_are_told(tmp_path: Path, name: str) -> None:
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


def test_splits_by_speaker_are_stable_and_proportional() -> None:
    speakers = [f"speaker{number}" for number in range(1000)]
    splits = split_by_speaker(speakers)
    counts = {split: list(splits.values()).count(split) for split in SPLITS}
    assert 70 < counts["valid"] < 130
    assert 70 < counts["test"] < 130
    more = split_by_speaker([*speakers, *(f"new{number}" for number in range(500))])
    assert sum(more[speaker] != splits[speaker] for speaker in speakers) <= 2
    assert split_by_speaker(reversed(speakers)) == splits


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_few_speakers_still_fill_every_split(count: int) -> None:
    assert set(split_by_speaker(f"s{number}" for number in range(count)).values()) == set(SPLITS)


def test_one_speaker_is_in_one_split() -> None:
    assert len(split_by_speaker(["anna", "anna"])) == 1
