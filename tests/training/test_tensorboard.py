"""TensorBoard's event files, read back by TensorBoard itself."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from speechmlp.data.manifest import read_manifest
from speechmlp.evaluation.text import HEADLINES
from tests.conftest import Run


def test_scalars_confusion_and_sounds_are_there(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\nfront_end: {{kind: log_mel, hop_length: 1600}}\n"
        "training: {epochs: 2}\ndevice: cpu\noutput: {name: logged, tensorboard: true}\n"
    )
    first = run_python("-m", "speechmlp.train", "--config", "small.yaml")
    assert first.returncode == 0, first.stderr
    again = run_python("-m", "speechmlp.train", "--resume", "runs/logged", "training.epochs=3")
    assert again.returncode == 0, again.stderr
    events = EventAccumulator(str(tmp_path / "runs" / "logged"))
    events.Reload()
    records = [json.loads(line) for line in (tmp_path / "runs" / "logged" / "metrics.jsonl").read_text().splitlines()]
    for name, key in (
        ("loss/train", "train_loss"),
        ("accuracy/valid", "valid_accuracy"),
        ("accuracy/train", "train_accuracy"),
    ):
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert logged == pytest.approx({record["epoch"]: record[key] for record in records}, rel=1e-5)
    evaluated = run_python("-m", "speechmlp.evaluate", "--split", "valid", "--json", "scores.json")
    assert evaluated.returncode == 0, evaluated.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    best = max(record["epoch"] for record in records if record["best"])
    for field in (headline.field for headline in HEADLINES):
        name = f"{field}/kept" if field in ("accuracy", "loss") else f"{field}/valid"
        logged = {event.step: event.value for event in events.Scalars(name)}
        found = scores
        for part in field.split("."):
            found = found[part]
        assert logged[best] == pytest.approx(found["value"], rel=1e-4, abs=1e-6), field
    tags = events.Tags()
    (matrix,) = (events.Images(tag)[-1] for tag in tags["images"] if tag.startswith("confusion"))
    assert (matrix.width, matrix.height) > (500, 500)  # room for letters at both axes, which 26 cells alone do not need
    sounds = [tag for tag in tags["audio"] if " taken for " in tag]
    assert sounds
    utterances = [one for one in read_manifest(tone_corpus) if one.split == "valid"]
    voices = {f"{one.speaker}, {one.id}" for one in utterances}
    assert all(tag.partition(", ")[2].removesuffix("/audio") in voices for tag in sounds)
    (sound, *_) = events.Audio(sounds[0])
    assert sound.sample_rate == 16_000

    plugin = {tag: events.SummaryMetadata(tag).plugin_data.content for tag in events.PluginTagToContent("hparams")}
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info.hparams
    assert start["training.epochs"].number_value == 2  # TensorBoard keeps the first ones
    assert start["front_end.kind"].string_value == "log_mel"
    assert json.loads(start["model.hidden"].string_value) == [100]
    assert not [key for key in start if key.startswith(("output", "device"))]
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert {info.name.tag for info in experiment.metric_infos} <= set(tags["scalars"])
    assert "_hparams_/session_end_info" in plugin
    assert [path for path in (tmp_path / "runs" / "logged").iterdir() if path.is_dir()] == []


def test_nothing_of_it_is_written_by_default(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        "front_end: {kind: log_mel, hop_length: 1600}\ntraining: {epochs: 1}\ndevice: cpu\n"
    )
    plain = run_python(
        "-m", "speechmlp.train", "--config", "small.yaml", "output.name=plain", f"corpus.manifest={tone_corpus}"
    )
    assert plain.returncode == 0, plain.stderr
    assert not list((tmp_path / "runs" / "plain").glob("events*"))
