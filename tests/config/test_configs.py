"""Every shipped configuration is complete, documented by the schema, and trains."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scripts.make_schema import SCHEMAS, reference

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import Batch
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.training.distributed import ALONE
from speechmlp.training.losses import Learner, same_features
from speechmlp.training.optimizers import build_optimizer
from speechmlp.training.step import TrainingStep
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix}
    return {key for name, value in values.items() for key in keys(value, f"{prefix}.{name}")}


def test_the_basic_configurations_exist() -> None:
    assert {path.stem for path in CONFIGS} >= {"seed", "quickstart", "an4_raw", "an4_log_mel"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_is_in_the_file(path: Path) -> None:
    config = load_config(path)
    assert keys(yaml.safe_load(path.read_text())) == keys(config.model_dump(mode="json"))
    assert f"speechmlp train --config {path.stem}\n" in path.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_training_step_changes_every_parameter(path: Path) -> None:
    config = load_config(path)
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    step = TrainingStep(Learner(model.train(), config.training, None), model, None, config.training, optimizer, ALONE)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    batch = Batch(0.1 * torch.randn(16, 16_000), torch.arange(16), torch.full((16,), 16_000))
    assert step(batch, 16, 0).isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name  # weight decay alone changes the parameter too
        assert not torch.equal(parameter, before[name]), name
    assert model.eval()(batch.waveforms).shape == (16, len(config.labels))


def test_seed_yaml_is_the_textbook_example() -> None:
    assert load_config(ROOT / "configs" / "seed.yaml") == Config()


def test_schemas_and_the_list_of_keys_are_up_to_date() -> None:
    for name, model in SCHEMAS.items():
        assert json.loads((ROOT / name).read_text()) == model.model_json_schema(), "run scripts/make_schema.py"
    assert (ROOT / "configs" / "README.md").read_text() == reference(), "run scripts/make_schema.py"


def test_every_key_has_a_description() -> None:
    schema = Config.model_json_schema()
    for section in [*schema["$defs"].values(), schema]:
        for key, field in section["properties"].items():
            described = "description" in field or "$ref" in json.dumps(field) or key == "kind"
            assert described, (section["title"], key)


STUDENTS = [
    (path.stem, "letters_tuned" if teacher == "packaged" else Path(teacher).parent.name.rpartition("-seed")[0])
    for path in CONFIGS
    if (distill := load_config(path).training.distill) is not None
    for teacher in distill.teachers
]
"""Configurations of students, each with the configuration of a teacher."""


def test_some_configurations_have_teachers() -> None:
    assert {student for student, _ in STUDENTS} == {"adapt", "letters_flat", "letters_small"}


@pytest.mark.parametrize(("student", "teacher"), STUDENTS)
def test_students_and_teachers_have_the_same_features(student: str, teacher: str) -> None:
    ours, theirs = (load_config(ROOT / "configs" / f"{name}.yaml") for name in (student, teacher))
    assert same_features(ours, theirs)
