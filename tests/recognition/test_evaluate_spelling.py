"""The command that evaluates spelled words, on real files."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.evaluate import main
from tests.evaluation.test_joined_words import letter_files

RATE = 16_000


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A manifest of two silent recordings."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(RATE), RATE)
    rows = ["path\ttext\tspeaker\tsplit\taccent", "a.wav\tJo Li\ts1\ttest\tIndian", "b.wav\tAnn\ts2\ttest\tother"]
    (tmp_path / "names.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "names.tsv"


def test_names_are_scored_by_speaker_and_accent(names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = names.parent / "scores.json"
    assert main(["--spelling", "--manifest", str(names), "--device", "cpu", "--json", str(output)]) == 0
    text = capsys.readouterr().out
    assert "Letter error rate: 100.00%" in text
    assert "By accent, the worst first: Indian 100.00% of 4, other 100.00% of 3" in text
    assert "JOLI -> nothing" in text
    (found,) = json.loads(output.read_text(encoding="utf-8"))
    assert (found["split"], found["pause"], found["left_out"]) == ("test", None, 0)
    assert found["scores"]["missing"] == 1.0
    assert {word["spoken"] for word in found["scores"]["words"]} == {"JOLI", "ANN"}


def test_letters_are_joined_with_several_pauses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{one.path.relative_to(tmp_path)}\t{one.letter}" for one in letter_files(tmp_path, "ABCD", "ann", 0.2)]
    (tmp_path / "manifest.tsv").write_text("\n".join(["path\tletter", *rows]) + "\n", encoding="utf-8")
    options = ["--spelling", "--manifest", str(tmp_path / "manifest.tsv"), "--device", "cpu", "--joined", "0", "0.5"]
    assert main([*options, "--json", str(tmp_path / "scores.json")]) == 0
    text = capsys.readouterr().out
    assert "letters joined to words with pauses of 0.5 s" in text
    assert [one["pause"] for one in json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))] == [0, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--joined", "0.1"], "--joined: expected together with --spelling"),
        (["--spelling"], "--spelling: expected --manifest FILE, with columns path and text"),
        (["--spelling", "--manifest", "{names}", "--sweep"], "--sweep: not possible with --spelling"),
        (["--spelling", "--manifest", "{names}", "--condition", "telephone"], "--condition: not possible with"),
        (["--spelling", "--manifest", "{names}", "--joined", "-1"], "--joined: expected 0 to 10 seconds, found -1"),
        (["--spelling", "--manifest", "{names}", "--split", "valid"], "has no words of split 'valid'; expected one of"),
        (["--spelling", "--manifest", "{names}", "--joined", "0"], "expected a header line with path and letter"),
        (["--spelling", "--manifest", "absent.tsv"], "absent.tsv: cannot be read as a manifest of spelled words"),
    ],
)
def test_wrong_options_end_in_one_line(
    names: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.format(names=names) for one in options]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_unreadable_recordings_fail_or_are_left_out(names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (names.parent / "a.wav").write_bytes(b"no audio")
    options = ["--spelling", "--manifest", str(names), "--device", "cpu"]
    assert main(options) == 2
    assert "a.wav" in capsys.readouterr().err
    assert main([*options, "--on-error", "skip"]) == 2
    assert "1 of 2 recordings cannot be read; expected at most 10%" in capsys.readouterr().err
