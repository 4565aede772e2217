"""TensorBoard's event files, read back by TensorBoard itself."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    for name, key in (("loss/train", "train_loss"), ("accuracy/valid", "valid_accuracy"), ("learning rate", "lr")):
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert logged == pytest.approx({record["epoch"]: record[key] for record in records}, rel=1e-5)
    tags = events.Tags()
    assert any(tag.startswith("confusion") for tag in tags["images"])
    sounds = [tag for tag in tags["audio"] if " taken for " in tag]
    assert sounds
    (sound, *_) = events.Audio(sounds[0])
    assert sound.sample_rate == 16_000


def test_nothing_of_it_is_written_by_default(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        "front_end: {kind: log_mel, hop_length: 1600}\ntraining: {epochs: 1}\ndevice: cpu\n"
    )
    plain = run_python(
        "-m", "speechmlp.train", "--config", "small.yaml", "output.name=plain", f"corpus.manifest={tone_corpus}"
    )
    assert plain.returncode == 0, plain.stderr
    assert not list((tmp_path / "runs" / "plain").glob("events*"))
