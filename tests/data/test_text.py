"""White space, invisible characters, normal forms and look-alikes in manifests of all formats."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from speechmlp.audit.checks import check_manifest
from speechmlp.corpora.folder import speaker_of
from speechmlp.data.manifest import Utterance, read_manifest, similar_speakers
from speechmlp.data.text import clean, look_alikes
from speechmlp.errors import UserError

COLUMNS = ("path", "letter", "speaker", "split", "gender", "start", "end")
BLANKS = [
    " ",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\ufeff",
    "\u2060",
    "\u200e",
    "\u202a",
    "\u00ad",
    "\x1f",
    " \u200b\u00a0 ",
]
FORMS = ("tsv", "csv", "jsonl")


def normal(form: str, text: str) -> str:
    return unicodedata.normalize(form, text)  # type: ignore[arg-type]


def write(folder: Path, form: str, rows: list[dict[str, str]], header: tuple[str, ...] = COLUMNS) -> Path:
    path = folder / f"m.{form}"
    values = [[row.get(column, "") for column in COLUMNS] for row in rows]
    if form == "tsv":
        text = "".join("\t".join(row) + "\n" for row in ([*header], *values))
    elif form == "csv":
        file = io.StringIO()
        csv.writer(file).writerows([header, *values])
        text = file.getvalue()
    else:
        text = "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in values)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_white_space_around_values_and_columns_does_not_count(form: str, blank: str, tmp_path: Path) -> None:
    plain = {
        "path": "a.wav",
        "letter": "b",
        "speaker": "Zoë",
        "split": "train",
        "gender": "f",
        "start": "0.5",
        "end": "1",
    }
    row = {name: f"{blank}{value}{blank}" for name, value in plain.items() if name != "path"} | {"path": "a.wav"}
    header = tuple(f"{name}{blank}" for name in COLUMNS)
    expected = Utterance(tmp_path / "a.wav", "B", "Zoë", "train", 0.5, 1.0, "female")
    assert read_manifest(write(tmp_path, form, [row, plain], header)) == [expected] * 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "other",
    ["anna\u00a0", "\ufeffanna", "an\ufeffna", "anna\u200b", "an\u200bna", "\u2067anna\u2069", "anna\t"],
    ids=ascii,
)
def test_one_person_is_in_one_split(form: str, other: str, tmp_path: Path) -> None:
    if form == "tsv" and "\t" in other:
        return
    rows = [
        {"path": "a.wav", "letter": "A", "speaker": "anna", "split": "train"},
        {"path": "b.wav", "letter": "B", "speaker": other, "split": "test"},
    ]
    with pytest.raises(UserError, match="expected every speaker in one split only, found 1 in several: anna"):
        read_manifest(write(tmp_path, form, rows))


@pytest.mark.parametrize("name", ["José", "Zoë Å", "한글", "ガ"])
def test_normal_forms_are_one_person(name: str, tmp_path: Path) -> None:
    rows = [
        {"path": f"{number}.wav", "letter": "A", "speaker": normal(form, name), "split": split}
        for number, (form, split) in enumerate((("NFC", "train"), ("NFD", "test")))
    ]
    with pytest.raises(UserError, match="found 1 in several"):
        read_manifest(write(tmp_path, "tsv", rows))
    assert speaker_of(Path(normal("NFD", f"{name} _nohash_0.wav"))) == normal("NFC", name)


def test_joiners_inside_words_are_kept() -> None:
    assert clean("\u200cعلی\u200cرضا\u200c") == "علی\u200cرضا"


def test_other_spellings_of_columns_and_splits(tmp_path: Path) -> None:
    header = ("Path", " LETTER ", "Speaker", "Split", "gender", "start", "end")
    rows = [
        {"path": "a.wav", "letter": "A", "speaker": "x", "split": "Train"},
        {"path": "b.wav", "letter": "B", "split": " TEST"},
    ]
    for form in FORMS:
        assert [one.split for one in read_manifest(write(tmp_path, form, rows, header))] == ["train", "test"]
        twice = ("path", "letter", "speaker", "Speaker", "gender", "start", "end")
        with pytest.raises(UserError, match="expected each column once, found 'speaker' twice"):
            read_manifest(write(tmp_path, form, rows, twice))


def test_nobody_is_called_unknown_or_nothing(tmp_path: Path) -> None:
    names = ["Unknown", "UNKNOWN ", "\u00a0", "\u200b", ""]
    rows = [
        {"path": f"{n}.wav", "letter": "A", "speaker": name, "split": split}
        for n, (name, split) in enumerate(zip(names, ["train", "test", "valid", "test", "train"], strict=True))
    ]
    assert {one.speaker for one in read_manifest(write(tmp_path, "csv", rows))} == {"unknown"}


@pytest.mark.parametrize(
    "pair",
    [
        ("Anna", "anna"),
        ("Straße", "STRASSE"),
        ("Anna B", "Anna\u00a0B"),
        ("Anna B", "Anna  B"),
        ("Ｓ１", "S1"),
        ("ﬁn", "fin"),
    ],
)
def test_look_alikes_are_reported(pair: tuple[str, str], tmp_path: Path) -> None:
    assert look_alikes([*pair, "other", "anna b c"]) == [sorted(pair)]
    for splits, kind, severity in (
        (("train", "test"), "similar_speaker", "error"),
        (("train", "train"), "similar_name", "warning"),
    ):
        rows = [
            {"path": "a.wav", "letter": "A", "speaker": one, "split": split}
            for one, split in zip(pair, splits, strict=True)
        ]
        utterances = read_manifest(write(tmp_path, "jsonl", rows))
        found = {one.kind: one for one in check_manifest(utterances)}
        assert ascii(pair[0]) in found[kind].message
        assert ascii(pair[1]) in found[kind].message
        assert found[kind].severity == severity
        assert not {"similar_speaker", "similar_name"} - {kind} & found.keys()


def test_different_names_are_no_look_alikes() -> None:
    utterances = [Utterance(Path("a"), "A", name, "train") for name in ("s1", "s11", "é", "e", "ann", "anna")]
    assert similar_speakers(utterances) == ([], [])


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_paths_are_found_in_either_normal_form(stored: str, written: str, tmp_path: Path) -> None:
    for folder, file in (("é", "ö.wav"), ("plain", "Å.wav"), ("가", "x.wav")):
        kept = tmp_path / normal(stored, folder) / normal("NFC", file)
        kept.parent.mkdir()
        kept.touch()
        name = f"{normal(written, folder)}/{normal(written, file)}"
        (found,) = read_manifest(write(tmp_path, "tsv", [{"path": name, "letter": "A"}]))
        assert found.path == kept


def test_paths_are_taken_as_written_first(tmp_path: Path) -> None:
    forms = [normal(form, "é.wav") for form in ("NFC", "NFD")] + ["a.wav", "a.wav ", " a.wav"]
    for form in forms:
        (tmp_path / form).touch()
    rows = [{"path": form, "letter": "A"} for form in forms]
    assert [one.path.name for one in read_manifest(write(tmp_path, "tsv", rows))] == forms
    (tmp_path / "a.wav ").unlink()
    rows = [
        {"path": name, "letter": "A"} for name in ("a.wav ", "a.wav\u00a0", "\ufeffa.wav", "absent ", "absent\u00a0")
    ]
    found = [one.path.name for one in read_manifest(write(tmp_path, "jsonl", rows))]
    assert found == ["a.wav"] * 3 + ["absent ", "absent\u00a0"]


@pytest.mark.parametrize(
    "path", [" ../x.wav", ".\u200b./x.wav", "..\u00a0/x.wav", "\ufeff/etc/passwd", "a/\u00a0../../x.wav"]
)
def test_no_form_of_a_path_leaves_the_folder(path: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "x.wav").touch()
    manifest = write(tmp_path / "in", "jsonl", [{"path": path, "letter": "A"}])
    try:
        (found,) = read_manifest(manifest)
    except UserError as error:
        assert "outside its folder" in str(error)
    else:
        assert not found.path.exists()
