"""Cards of models: what they say, their metadata, and which files they may replace."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from speechmlp.config.loading import load_config
from speechmlp.data.manifest import read_manifest
from speechmlp.evaluation.card import MARK, About, render_card, trainings
from speechmlp.evaluation.results import Evaluation
from speechmlp.evaluation.sources import find_sources
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, save_checkpoint
from tests.conftest import Run
from tests.forks import Forks


def metadata(card: str) -> dict[str, Any]:
    matter, found, _ = card.removeprefix("---\n").partition("\n---\n")
    assert found
    loaded: dict[str, Any] = yaml.safe_load(matter)
    return loaded


@pytest.fixture(scope="module")
def run(synthetic_corpus: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an evaluation, of a corpus with accents, licences and a name that is Markdown and HTML."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "data").symlink_to(synthetic_corpus.parent)
    lines = synthetic_corpus.read_text().splitlines()
    rows = [f"{lines[0]}\taccent\tlicence"]
    for number, line in enumerate(lines[1:]):
        rows.append(f"{line}\t{'<b>a|b</b>' if number % 2 == 0 else ''}\t{'CC0-1.0' if number % 3 else 'MIT'}")
    synthetic_corpus.with_name("card.tsv").write_text("\n".join(rows) + "\n")
    train = [
        "-m",
        "speechmlp",
        "train",
        "--config",
        "quickstart",
        "corpus.manifest=data/card.tsv",
        "corpus.negatives=[]",
    ]
    train += ["training.epochs=1", "model.hidden=[16]", "device=cpu", "output.name=mine"]
    forks.run(train, folder).check_returncode()
    evaluate = ["-m", "speechmlp", "evaluate", "--json", "scores.json", "--group-by", "accent"]
    forks.run(evaluate, folder).check_returncode()
    return folder


def test_a_run_gets_a_card(run: Path, forks: Forks) -> None:
    made = forks.run(["-m", "speechmlp", "card", "runs/mine", "--license", "cc-by-4.0"], run)
    assert (made.returncode, made.stdout, made.stderr) == (0, "Card: runs/mine/README.md\n", "")
    card = (run / "runs" / "mine" / "README.md").read_text()
    scores = Evaluation.model_validate_json((run / "scores.json").read_text()).scores
    found = metadata(card)
    assert (found["license"], found["language"], found["library_name"]) == ("cc-by-4.0", ["en"], "speechmlp")
    assert found["pipeline_tag"] == "audio-classification"
    assert (found["datasets"], found["metrics"]) == (["data"], ["accuracy"])
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert model["name"] == "mine"
    assert result["task"]["type"] == "audio-classification"
    assert result["dataset"] == {"name": "data", "type": "data", "split": "test"}
    assert result["metrics"][0]["value"] == pytest.approx(scores.accuracy.value, abs=1e-4)
    for title in ("What it is not for", "What it was trained on", "How accurate it is", "What is rejected", "Limits"):
        assert f"\n## {title}\n" in card
    used = [one for one in read_manifest(run / "data" / "card.tsv") if one.split == "train"]
    people = len({one.speaker for one in used})
    assert f"| data | CC0-1.0, MIT | {len(used)} letters | {people} | " in card
    assert rf"| \<b\>a\|b\</b\> {people} |" in card
    assert "<b>" not in card
    assert scores.gaps
    for gap in scores.gaps:
        assert f"Gap by {gap.kind}: {100 * gap.difference.value:.2f} points" in " ".join(card.split())
    assert re.search(r"probability below 0\.\d{3} is rejected", " ".join(card.split()))
    assert all(len(line) <= 120 or line.startswith("|") for line in card.splitlines())
    again = forks.run(["-m", "speechmlp", "card", "runs/mine", "--evaluation", "scores.json", "--name", "Other"], run)
    assert again.returncode == 0, again.stderr
    other = (run / "runs" / "mine" / "README.md").read_text()
    assert metadata(other)["license"] == "unknown"
    assert "# Other\n" in other


def test_the_metadata_are_those_of_the_hub(run: Path, forks: Forks) -> None:
    hub = pytest.importorskip("huggingface_hub")
    command = ["-m", "speechmlp", "card", "runs/mine/best.pt", "--evaluation", "scores.json", "--output", "hub.md"]
    assert forks.run(command, run).returncode == 0
    loaded = hub.ModelCard((run / "hub.md").read_text()).data
    scores = Evaluation.model_validate_json((run / "scores.json").read_text()).scores
    (result,) = loaded.eval_results
    assert (loaded.model_name, loaded.pipeline_tag, loaded.library_name) == (
        "mine",
        "audio-classification",
        "speechmlp",
    )
    assert (result.task_type, result.metric_type, result.dataset_split) == ("audio-classification", "accuracy", "test")
    assert result.metric_value == pytest.approx(scores.accuracy.value, abs=1e-4)
    assert set(yaml.safe_load(loaded.to_yaml())) == set(metadata((run / "hub.md").read_text()))


def test_the_card_of_a_model_without_its_data(run: Path, forks: Forks, synthetic_corpus: Path) -> None:
    (run / "data").unlink()
    command = ["-m", "speechmlp", "card", "runs/mine", "--evaluation", "scores.json", "--output", "alone.md"]
    alone = forks.run(command, run)
    (run / "data").symlink_to(synthetic_corpus.parent)
    assert alone.returncode == 0, alone.stderr
    assert "| data | not stated | letters, not at hand | not at hand | not stated |" in (run / "alone.md").read_text()


def test_mistakes_end_in_a_line(run: Path, forks: Forks) -> None:
    (run / "thesis.md").write_text("mine\n")
    other = Evaluation.model_validate_json((run / "scores.json").read_text()).model_copy(update={"checkpoint": "b.pt"})
    (run / "other.json").write_text(other.model_dump_json())
    (run / "no.json").write_text("{}")
    given = ["--evaluation", "scores.json"]
    for arguments, problem in (
        (
            ["runs/mine/best.pt", *given],
            "expected a run folder; for a checkpoint, say where to write the card with --output README.md",
        ),
        (["runs/mine", *given, "--output", "thesis.md"], "thesis.md: exists and was not written by speechmlp card"),
        (["runs/mine", *given, "--license", "all rights"], "--license: expected an abbreviation such as mit"),
        (
            ["runs/mine", "--evaluation", "other.json"],
            "other.json: is an evaluation of b.pt; expected one of runs/mine",
        ),
        (["runs/mine", "--evaluation", "no.json"], "no.json: expected what speechmlp evaluate --json FILE writes"),
        (["runs/mine", "--evaluation", "absent.json"], "absent.json: cannot be read: No such file"),
        (["runs/absent", *given, "--output", "x.md"], "no such checkpoint"),
    ):
        result = forks.run(["-m", "speechmlp", "card", *arguments], run)
        assert result.returncode == 2, arguments
        assert problem in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (run / "thesis.md").read_text() == "mine\n"
    assert not (run / "x.md").exists()


def test_each_corpus_counts_once(tone_corpus: Path) -> None:
    utterances = read_manifest(tone_corpus)
    config = load_config(None, [f"corpus.manifest={tone_corpus}"])
    one, *others = find_sources([config, config])
    assert others == []
    trained = [utterance for utterance in utterances if utterance.split == "train"]
    assert (one.recordings, one.speakers) == (len(trained), len({utterance.speaker for utterance in trained}))
    assert (one.licences, one.accents) == ((), {})


def test_a_model_of_other_labels_is_not_of_english_letters() -> None:
    config = load_config(None, ["labels=[stop, go, <i>]", "model.hidden=[4]"])
    model = Checkpoint(config, SpeechClassifier(config), None, [])
    card = render_card(About("words"), model, find_sources([config]), [])
    assert r"as one of 3 labels (stop, go, \<i\>)" in " ".join(card.split())
    assert "It has not been evaluated." in card
    assert "Nothing is rejected" in card
    found = metadata(card)
    assert "language" not in found
    assert "model-index" not in found
    assert "alphabet" not in found["tags"]


def test_what_a_model_started_from_belongs_to_it(tmp_path: Path) -> None:
    first, second, third = (
        load_config(None, [f"corpus.manifest={name}/m.tsv", f"training.start_from={start}", "model.hidden=[4]"])
        for name, start in (("a", "null"), ("b", f"{tmp_path}/a.pt"), ("c", f"{tmp_path}/absent.pt"))
    )
    save_checkpoint(tmp_path / "a.pt", first, SpeechClassifier(first), [])
    for config, folders, missing in ((second, ["b", "a"], None), (third, ["c"], f"{tmp_path}/absent.pt")):
        configs, start = trainings(Checkpoint(config, SpeechClassifier(config), None, []), tmp_path / "x.pt")
        assert [source.folder for source in find_sources(configs)] == folders
        assert start == missing


def test_export_does_not_replace_what_is_no_card(tmp_path: Path, run_python: Run) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    result = run_python("-m", "speechmlp", "export", "--card", "README.md", "--output", "a.onnx")
    assert result.returncode == 2
    assert result.stderr.startswith("error: README.md: exists and was not written by speechmlp card")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_the_card_of_the_package_may_be_replaced() -> None:
    assert MARK in PACKAGED.with_name("README.md").read_text(encoding="utf-8")
