"""A step asks for no value and mixes no devices: on a GPU nothing waits, and a graph can be recorded.

Tensors on the device "meta" have shapes and no values, so that whatever needs a value, or meets a tensor of the
processor, is an error there. Any machine has that device.
"""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from speechmlp.config import Config
from speechmlp.config_file import load_config
from speechmlp.dataset import Batch
from speechmlp.engine import ALONE, Learner
from speechmlp.models import SpeechClassifier
from speechmlp.step import TrainingStep, Update
from tests.conftest import ROOT

META = torch.device("meta")
NUMBERS = torch.zeros(32, dtype=torch.int64, device=META)
BATCH = Batch(torch.zeros(32, 16_000, device=META), NUMBERS, NUMBERS)
DRAWS = ["model={hidden: [16], norm: batch, dropout: 0.3}", "training={ema: 0.9, clip_grad_norm: 1.0}"]
SOUNDS = "augment={shift: 1.0, speed: 0.1, noise: 0.5, babble: 0.5, reverb: 0.3, telephone: 0.5}"


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none on this device; it neither waits nor moves anything."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def update(config: Config) -> Update:
    model, average = (SpeechClassifier(config).to(META) for _ in range(2))
    # Fused optimizers refuse this device.
    return Update(
        model.train(), average if config.training.ema else None, config.training, torch.optim.SGD(model.parameters())
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_step_needs_a_value(path: Path) -> None:
    config = load_config(path, [])
    learnt = update(config)
    step = TrainingStep(Learner(learnt.model, config.training, None), learnt, True, ALONE)
    for number in range(2):
        assert step(BATCH, 32, 0.1, number).shape == ()


def test_a_step_that_needs_one_is_noticed() -> None:
    config = load_config(ROOT / "configs" / "seed.yaml", [])
    learnt = update(config)
    learnt.model.network.register_forward_hook(lambda *values: values[2].sum().item())
    step = TrainingStep(Learner(learnt.model, config.training, None), learnt, True, ALONE)
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        step(BATCH, 32, 0.1, 0)
