"""Manifests of spelled words."""

import json
from pathlib import Path

import pytest

from speechmlp.data.spelled import read_spelled
from speechmlp.errors import UserError


def test_words_are_read_from_every_format(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "text": "Jean-Luc d'Arc", "speaker": "s1", "split": "test", "accent": "French"},
        {"path": "b/c.wav", "text": "ann", "speaker": "s2", "split": "valid", "accent": ""},
    ]
    for suffix, separator in ((".tsv", "\t"), (".csv", ",")):
        lines = [separator.join(rows[0]), *(separator.join(row.values()) for row in rows)]
        (tmp_path / f"names{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "names.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    for suffix in (".tsv", ".csv", ".jsonl"):
        first, second = read_spelled(tmp_path / f"names{suffix}")
        assert (first.text, first.speaker, first.split, dict(first.groups)) == (
            "JEANLUCDARC",
            "s1",
            "test",
            {"accent": "French"},
        )
        assert (second.path, second.text, dict(second.groups)) == (tmp_path / "b/c.wav", "ANN", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header line with path and text, found no 'path'"),
        ("path\tletter\na.wav\tA\n", r"found no 'text' in \['path', 'letter'\].*--joined joins single letters"),
        ("path\ttext\n", "the manifest has no words"),
        ("path\ttext\na.wav\t123\n", "names.tsv:2: expected a text with letters A to Z, found '123'"),
        ("path\ttext\tsplit\na.wav\tab\tdev\n", "names.tsv:2: expected split train, valid or test, found 'dev'"),
        ("path\ttext\tsplit\na.wav\tab\ttest\nb.wav\tab\t\n", "some lines have a split and others do not"),
        ("path\ttext\n\tab\n", "names.tsv:2: expected a path, found none"),
        ("path\ttext\n../a.wav\tab\n", "1 recordings are outside its folder"),
    ],
)
def test_wrong_manifests_end_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_spelled(tmp_path / "names.tsv")
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.tsv: cannot be read as a manifest of spelled words: No such file"):
        read_spelled(tmp_path / "absent.tsv")
