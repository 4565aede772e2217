"""Models of other labels than A to Z, from a folder of recordings to every use of the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.config.loading import load_config
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from speechmlp.export.portable import describe as metadata_of
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.recognition.recognizer import load_recognizer
from speechmlp.recognition.speller import load_speller
from speechmlp.recognition.word_list import WordList
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint
from speechmlp.serve.app import Answers
from speechmlp.serve.voice import Models
from tests.conftest import Run, once, tone
from tests.forks import Forks

LABELS = ("B", "7", "space", "größe", "数字", "$x$ & <y> 'z'")
NAMES = ["b", "7", "Space", "GRÖSSE", "数字", "$x$ & <y> 'z'"]
"""Folders: case does not distinguish labels."""
SMALL = ["device=cpu", "corpus.audit=false", "front_end={kind: log_mel, hop_length: 800}", "model.hidden=[16]"]


def make_recordings(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for speaker in range(5):
            sound = tone(250 + 300 * number, 0.3 + 0.05 * speaker, level=0.2 + 0.1 * speaker)
            soundfile.write(folder / name / f"s{speaker}_nohash_0.wav", sound, 16_000)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A folder with recordings in `mine`, their manifest `m.tsv` and a run in `runs/mine`."""

    def make(folder: Path) -> None:
        make_recordings(folder / "mine")
        command = ["-m", "speechmlp", "prepare", "folder", "--source", "mine", "--output", "m.tsv"]
        result = forks.run([*command, "--labels", *LABELS, "never", "--valid", "0.2", "--test", "0.2"], folder)
        assert result.returncode == 0, result.stderr
        assert "Not recorded: never\n" in result.stdout
        assert 'Train with labels=\'["B", "7", "space", ' in result.stdout
        labels = f"labels={json.dumps(LABELS, ensure_ascii=False)}"
        train = ["-m", "speechmlp", "train", "--config", "quickstart", "corpus.manifest=m.tsv", "output.name=mine"]
        result = forks.run([*train, labels, *SMALL, "training.epochs=8", "training.batch_size=6"], folder)
        assert result.returncode == 0, result.stderr

    return once(tmp_path_factory, "other labels", make)


def best(folder: Path) -> Path:
    return folder / "runs" / "mine" / "best.pt"


def test_the_checkpoint_has_the_labels(trained: Path) -> None:
    checkpoint = load_checkpoint(best(trained))
    assert checkpoint.config.labels == checkpoint.model.labels == LABELS
    assert checkpoint.model(torch.zeros(2, 16_000)).shape == (2, 6)
    assert {one.letter for one in read_manifest(trained / "m.tsv", labels=LABELS)} == set(LABELS)


def test_evaluation_report_and_comparison_follow(trained: Path, forks: Forks) -> None:
    evaluate: list[str | Path] = [
        "-m",
        "speechmlp",
        "evaluate",
        "--runs",
        trained / "runs",
        "--manifest",
        "m.tsv",
        "--device",
        "cpu",
    ]
    result = forks.run([*evaluate, "--report", "page", "--compare", best(trained)], trained)
    assert result.returncode == 0, result.stderr
    assert "E-set" not in result.stdout
    assert "M/N" not in result.stdout
    found = json.loads((trained / "page" / "evaluation.json").read_text(encoding="utf-8"))
    assert [one["letter"] for one in found["scores"]["letters"]] == list(LABELS)
    assert (found["scores"]["e_set"], found["scores"]["m_n"]) == (None, None)
    assert len(found["scores"]["confusion"]) == 6
    assert found["comparison"]["changed"] == []
    page = (trained / "page" / "index.html").read_text(encoding="utf-8")
    assert "größe" in page
    assert "$x$ &amp; &lt;y&gt;" in page


def test_recognition_follows(trained: Path, forks: Forks) -> None:
    command: list[str | Path] = [
        "-m",
        "speechmlp",
        "predict",
        "mine/Space",
        "--checkpoint",
        best(trained),
        "--format",
        "jsonl",
    ]
    result = forks.run([*command, "--reject-below", "0"], trained)
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 5
    assert {name for one in found for name, _ in one["ranked"]} <= set(LABELS)
    recognition = load_recognizer(best(trained), "cpu")(trained / "mine" / "数字" / "s0_nohash_0.wav")
    assert {name for name, _ in recognition.ranked} == set(LABELS)
    answered = Answers(Models(load_speller(best(trained), "cpu"), "best"))
    answer = answered.letter(trained / "mine" / "7" / "s0_nohash_0.wav", "7.wav", 0)
    assert set(answer["probabilities"]) == set(LABELS)
    assert {
        one["letter"] for one in answered.spelling(trained / "mine" / "b" / "s0_nohash_0.wav", "b", "B7", 1)["letters"]
    } <= set(LABELS)
    judged = forks.run([*command, "--judge", "whisper"], trained)
    assert "judge: whisper judges the letters A to Z, but the labels of the model are B, 7, space" in judged.stderr


@pytest.mark.slow
def test_calibration_audit_and_metadata_follow(trained: Path, forks: Forks) -> None:
    calibrate: list[str | Path] = ["-m", "speechmlp", "calibrate", "--checkpoint", best(trained), "--manifest", "m.tsv"]
    assert forks.run([*calibrate, "--split", "valid"], trained).returncode == 0
    audit: list[str | Path] = ["-m", "speechmlp", "audit", "--manifest", "m.tsv"]
    unnamed = forks.run([*audit, "--text"], trained)
    assert unnamed.returncode == 2
    assert "'space', in 5 lines" in unnamed.stderr
    assert unnamed.stderr.count("expected one letter A to Z, found") == 5
    assert "or --labels letters " in unnamed.stderr
    result = forks.run([*audit, "--checkpoint", best(trained), "--report", "audit"], trained)
    assert result.returncode in (0, 1), result.stderr
    found = json.loads((trained / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert list(found["letters"]["train"]) == list(LABELS)
    missing = forks.run([*audit, "--text", "--labels", *LABELS, "never", "said"], trained)
    assert "labels without any recording: never, said" in missing.stdout
    assert metadata_of(load_checkpoint(best(trained)), "mine")["labels"].split("\n") == list(LABELS)


def test_spelling_says_which_labels_it_misses(trained: Path) -> None:
    speller = load_speller(best(trained), "cpu")
    assert speller.warning.startswith("spelling: the segment model was trained on the letters A to Z, so 7, space, ")
    sound = np.concatenate([tone(550, 0.4), np.zeros(8000, np.float32)] * 2)
    spelled = speller(sound, 16_000)
    assert {one.letter for one in spelled.letters} <= set(LABELS)
    ranked = WordList(["B7", "b-b", "77"], LABELS).rank(spelled.lattice)
    assert {word for word, _ in ranked} == {"B7", "b-b", "77"}
    with pytest.raises(UserError, match="expected words of characters among B, 7, space"):
        WordList(["space", "xyz"], LABELS)


def test_a_model_starts_from_one_with_other_labels(trained: Path, forks: Forks, tmp_path: Path) -> None:
    labels = ("7", "new", "space", "B")
    start = [f"training.start_from={best(trained)}", f"labels={json.dumps(labels)}", "training.epochs=1"]
    (tmp_path / "m.tsv").write_text(
        "path\tletter\tspeaker\tsplit\n"
        + "".join(
            f"{trained}/mine/{name}/s{n}_nohash_0.wav\t{label}\ts{n}\t{split}\n"
            for name, label in zip(("7", "b", "Space", "数字"), ("7", "B", "space", "new"), strict=True)
            for n, split in enumerate(("train", "train", "valid"))
        )
    )
    command: list[str | Path] = [
        "-m",
        "speechmlp",
        "train",
        "--config",
        "quickstart",
        "corpus.manifest=m.tsv",
        "corpus.outside=true",
    ]
    result = forks.run([*command, *SMALL, *start, "output.name=more"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "; its last layer: kept for 7, space, B, new for new, dropped for größe, 数字" in result.stdout
    other = load_checkpoint(best(trained)).model
    model = SpeechClassifier(load_config("quickstart", [*SMALL, start[1]]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.take_weights(other)
    mine, given = model.state_dict(), other.state_dict()
    head = list(mine)[-2]
    assert torch.equal(mine[head][[0, 2, 3]], given[head][[1, 2, 0]])
    assert torch.equal(mine[head][1], before[head][1])
    assert all(torch.equal(mine[name], given[name]) for name in list(mine)[:-2])


def test_old_checkpoints_have_the_letters(tmp_path: Path) -> None:
    from speechmlp.runs.checkpoint import PACKAGED

    content = torch.load(PACKAGED, weights_only=True)
    content["config"].pop("labels", None)
    torch.save(content, tmp_path / "old.pt")
    old: Checkpoint = load_checkpoint(tmp_path / "old.pt")
    assert "".join(old.config.labels) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("[A, a]", "expected different labels, found 'A' and 'a'"),
        ("[letters, b]", "expected different labels, found 'B' and 'b'"),
        ("['ﬁ', 'FI']", "expected different labels"),
        ("[A]", "expected two labels or more, found 1"),
        ("[]", "expected two labels or more, found 0"),
        ("[A, true]", "expected texts, found true; put it in quotes"),
        ("[A, '-']", "expected texts that can be seen, other than '-'"),
        ("[A, ' ']", "expected texts that can be seen"),
        ('[A, "a\\tb"]', "expected texts without tabs"),
        ("greek", "expected a list of texts, or letters, digits, alphanumeric, found 'greek'"),
        ("3", "expected a list of texts, or letters"),
    ],
)
def test_wrong_labels_are_reported(labels: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [f"labels={labels}"])
    (line,) = caught.value.problems
    assert line.startswith("command line: labels: ")
    assert problem in line


def test_unknown_folders_are_named_and_counted(tmp_path: Path, run_python: Run) -> None:
    make_recordings(tmp_path / "mine")
    command: list[str | Path] = ["-m", "speechmlp", "prepare", "folder", "--source", "mine", "--output", "m.tsv"]
    result = run_python(*command)
    assert result.returncode == 0
    assert "mine/Space: not the folder of a letter; --labels letters Space takes its 5 recordings" in result.stdout
    (tmp_path / "mine" / "b").rename(tmp_path / "mine" / "stop")
    nothing = run_python(*command)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (2, 1)
    assert "folders with recordings: " in nothing.stderr
    assert "stop (5)" in nothing.stderr
    bad = run_python(*command, "--labels", "a", "A")
    assert (
        bad.stderr == "error: --labels: expected different labels, found 'a' and 'A'; case does not distinguish them\n"
    )
