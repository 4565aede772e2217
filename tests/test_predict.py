"""The command predict: files, folders, patterns, standard input, formats, and unreadable recordings."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.corpora.an4 import prepare_an4
from speechmlp.evaluate import main as evaluate
from speechmlp.evaluation.results import Evaluation
from speechmlp.predict import find_recordings, main
from speechmlp.runs.checkpoint import PACKAGED
from tests.conftest import Run, tone

PREDICT = ["-m", "speechmlp.predict"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of three recordings of one sound, and a text."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.wav", "a.flac", "deep/er/c.ogg"):
        soundfile.write(tmp_path / name, np.concatenate([np.zeros(8000), tone(300, 0.4), np.zeros(12_000)]), 16_000)
    (tmp_path / "notes.txt").write_text("not a recording")
    return tmp_path


def test_inputs_are_files_folders_and_patterns(recordings: Path) -> None:
    def names(*inputs: str) -> list[str]:
        return [str(Path(name).relative_to(recordings)) for name in find_recordings(inputs)]

    assert names(str(recordings)) == ["a.flac", "b.wav", "deep/er/c.ogg"]
    assert names(f"{recordings}/*.wav", f"{recordings}/a.flac") == ["b.wav", "a.flac"]
    assert names(f"{recordings}/**/*.ogg") == ["deep/er/c.ogg"]
    assert names(f"{recordings}/x*", f"{recordings}/absent.wav") == [
        "x*",
        "absent.wav",
    ]  # each becomes an error in its turn
    (recordings / "odd[1].wav").write_bytes((recordings / "b.wav").read_bytes())
    assert names(f"{recordings}/odd[1].wav") == ["odd[1].wav"]
    assert list(find_recordings(["-"])) == ["-"]
    (recordings / "x1").mkdir()
    shutil.copy(recordings / "b.wav", recordings / "x1" / "d.wav")
    assert names(f"{recordings}/x*") == ["x1/d.wav"]  # a pattern may name folders
    assert names(f"{recordings}/**/d*") == ["x1/d.wav"]
    assert names(f"{recordings}/x1/**") == ["x1/d.wav"]


def test_all_formats_have_the_same_content(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for form in ("text", "csv", "jsonl"):
        assert main([str(recordings), "--format", form, "--device", "cpu"]) == 0
        answers[form] = capsys.readouterr().out
    values = [json.loads(line) for line in answers["jsonl"].splitlines()]
    rows = list(csv.DictReader(io.StringIO(answers["csv"])))
    lines = answers["text"].splitlines()
    assert len(values) == len(rows) == len(lines) == 3
    for value, row, line in zip(values, rows, lines, strict=True):
        assert row["path"] == value["path"]
        assert row["letter"] == (value["letter"] or "")
        assert [row["first"], row["second"], row["third"]] == [letter for letter, _ in value["ranked"]]
        assert float(row["first_probability"]) == value["probability"] == value["ranked"][0][1]
        assert line.startswith(f"{value['path']}: ")
        if value["letter"]:
            assert f": {value['letter']} " in line
            assert value["start"] == pytest.approx(0.5, abs=0.15)
            assert value["end"] == pytest.approx(0.9, abs=0.15)


def test_letters_below_the_threshold_are_rejected(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, expected in (("text", ": not a letter (nearest "), ("jsonl", '"letter": null'), ("csv", "b.wav,,")):
        assert main([str(recordings / "b.wav"), "--format", form, "--reject-below", "1"]) == 0
        assert expected in capsys.readouterr().out
    assert main([str(recordings / "b.wav"), "--reject-below", "0"]) == 0
    assert "not a letter" not in capsys.readouterr().out


def test_broken_recordings_are_reported_and_the_others_answered(recordings: Path, run_python: Run) -> None:
    inputs = ["notes.txt", "b.wav", "absent.wav", "a.flac"]
    result = run_python(*PREDICT, *inputs)
    assert result.returncode == 2
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["b.wav", "a.flac"]
    assert [line[:18] for line in result.stderr.splitlines()] == ["error: notes.txt: ", "error: absent.wav:"]
    skipped = run_python(*PREDICT, *inputs, "--on-error", "skip")
    reported = f"{result.stderr}skipped: 2 of 4 recordings\n"
    assert (skipped.returncode, skipped.stdout, skipped.stderr) == (0, result.stdout, reported)
    limited = run_python(*PREDICT, *inputs, "--on-error", "skip", "--skip-limit", "0.4")
    assert limited.returncode == 2
    assert "error: 2 of 4 recordings cannot be read, more than the fraction of 0.4" in limited.stderr
    failed = run_python(*PREDICT, *inputs, "--on-error", "fail")
    assert (failed.returncode, failed.stdout, failed.stderr) == (2, "", result.stderr)


def test_standard_input_may_be_a_file_or_raw_samples(recordings: Path, run_python: Run) -> None:
    samples, rate = soundfile.read(recordings / "b.wav", dtype="int16")
    of_file = run_python(*PREDICT, "-", stdin=(recordings / "b.wav").read_bytes())
    raw = run_python(*PREDICT, "-", "--raw", "--rate", str(rate), stdin=samples.astype("<i2").tobytes())
    assert of_file.returncode == raw.returncode == 0
    assert of_file.stdout == raw.stdout
    assert of_file.stdout.startswith("-: ")
    for data, arguments, problem in (
        (b"abc", ["--raw"], "standard input: expected 16-bit samples, found 3 bytes"),
        (b"hello", [], "error: standard input: cannot be decoded"),
    ):
        result = run_python(*PREDICT, "-", *arguments, stdin=data)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert problem in result.stderr


def test_invalid_options_end_in_one_line(capsys: pytest.CaptureFixture[str], recordings: Path) -> None:
    cases = [
        ([], "expected recordings, folders or patterns"),
        (["a.wav", "--microphone"], "--microphone: expected no recordings"),
        (["a.wav", "--raw"], "--raw: expected -"),
        (["-", "-"], "-: expected once"),
        (["-", "--raw", "--rate", "0"], "--rate: expected 1 to 768000 Hz, found 0"),
        (["a.wav", "--words", "w.txt"], "--words: expected together with --spell"),
        (["a.wav", "--spell", "--words", "absent.txt"], "absent.txt: cannot be read as a list of words"),
        (["a.wav", "--best", "0"], "--best: expected 1 or more"),
        (["a.wav", "--reject-below", "7"], "--reject-below: expected 0 to 1"),
        (["a.wav", "--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        (["a.wav", "--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
        ([str(recordings / "deep" / "er" / ".."), "--checkpoint", str(recordings / "b.wav")], "b.wav: cannot be read"),
    ]
    for arguments, problem in cases:
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert problem in error


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "expected an audio file, found a folder" in capsys.readouterr().err


@pytest.mark.corpus
def test_predict_and_evaluate_agree_on_an4(
    real_recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same letter and probability for each of the 431 test letters."""
    source, small = real_recordings / "an4", tmp_path / "an4"
    shutil.copytree(source / "wav" / "an4test_clstk", small / "wav" / "test")
    (small / "etc").mkdir()
    (small / "etc" / "an4_train.transcription").touch()
    for name in ("an4_test.transcription", "an4.dic"):
        (small / "etc" / name).symlink_to(source / "etc" / name)
    letters = prepare_an4(small, "", tmp_path / "letters").utterances
    assert len(letters) == 431
    score = ["--checkpoint", str(PACKAGED), "--manifest", str(tmp_path / "letters" / "manifest.tsv"), "--device", "cpu"]
    assert evaluate([*score, "--json", str(tmp_path / "scores.json")]) == 0
    evaluation = Evaluation.model_validate_json((tmp_path / "scores.json").read_text())
    capsys.readouterr()
    assert main([str(tmp_path / "letters" / "wav"), "--format", "jsonl", "--device", "cpu"]) == 0
    answers = {answer["path"]: answer for answer in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(answers) == 431
    wrong = {}
    for letter in letters:
        found = answers[str(letter.path)]["ranked"][0]
        if found[0] != letter.letter:
            wrong[letter.id] = found
    assert wrong.keys() == {mistake.id for mistake in evaluation.mistakes}
    for mistake in evaluation.mistakes:
        assert wrong[mistake.id] == [mistake.recognised, pytest.approx(mistake.probability, abs=1e-3)]
    assert 1 - len(wrong) / 431 == pytest.approx(evaluation.scores.accuracy.value)


@pytest.mark.corpus
def test_other_people_are_recognised_out_of_the_box(real_recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((real_recordings / "prompts").glob("*/*/*.wav"))[::5]
    assert main([*map(str, files), "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["path"] for answer in answers] == list(map(str, files))
    right = [answer["ranked"][0][0].lower() == Path(answer["path"]).parts[-2].lower() for answer in answers]
    assert np.mean(right) > 0.5
