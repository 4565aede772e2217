"""Every shipped configuration is complete, documented by the schema, and runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from speechmlp.config import Config
from speechmlp.config_file import load_config
from speechmlp.distillation import same_features
from speechmlp.findings import Audit
from speechmlp.labels import NUM_LETTERS
from speechmlp.models import SpeechClassifier
from speechmlp.optim import build_optimizer
from speechmlp.scores import Evaluation
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix}
    return {key for name, value in values.items() for key in keys(value, f"{prefix}.{name}")}


def test_the_promised_configurations_are_shipped() -> None:
    assert {path.stem for path in CONFIGS} >= {"seed", "quickstart", "an4_raw", "an4_log_mel"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_you_read_is_what_runs(path: Path) -> None:
    config = load_config(path)
    assert keys(yaml.safe_load(path.read_text())) == keys(config.model_dump(mode="json"))
    assert f"--config configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_takes_a_step(path: Path) -> None:
    config = load_config(path)
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    waveforms, labels = 0.1 * torch.randn(4, 16_000), torch.arange(4)
    before = [parameter.clone() for parameter in model.parameters()]
    logits = model(waveforms)
    torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert logits.shape == (4, NUM_LETTERS)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_seed_yaml_is_the_textbook_example() -> None:
    assert load_config(ROOT / "configs" / "seed.yaml") == Config()


def test_schema_is_fresh() -> None:
    schemas: dict[str, type[BaseModel]] = {
        "configs/schema.json": Config,
        "docs/evaluation.schema.json": Evaluation,
        "docs/audit.schema.json": Audit,
    }
    for name, model in schemas.items():
        assert json.loads((ROOT / name).read_text()) == model.model_json_schema(), "run scripts/make_schema.py"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_pupils_read_what_their_teachers_read(path: Path) -> None:
    config = load_config(path)
    for teacher in config.training.distill.teachers if config.training.distill else []:
        name = Path(teacher).parent.name.rpartition("-seed")[0]
        assert same_features(config, load_config(path.with_name(f"{name}.yaml"))), teacher
