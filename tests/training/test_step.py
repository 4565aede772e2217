"""A step asks for no value and mixes no devices: on a GPU nothing waits, and a graph can be recorded.

Tensors on the device "meta" have shapes and no values, so that whatever needs a value, or meets a tensor of the
processor, is an error there. Any machine has that device.
"""

from contextlib import nullcontext

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import Batch
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.training.distributed import ALONE
from speechmlp.training.losses import Learner
from speechmlp.training.step import TrainingStep
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


def step_of(config: Config) -> tuple[SpeechClassifier, TrainingStep]:
    model, average = (SpeechClassifier(config).to(META) for _ in range(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)  # fused optimizers refuse this device
    learner = Learner(model.train(), config.training, None)
    return model, TrainingStep(
        learner, model, average if config.training.ema else None, config.training, optimizer, ALONE
    )


@pytest.mark.parametrize(
    ("name", "more"),
    [*((path.stem, []) for path in sorted((ROOT / "configs").glob("*.yaml"))), ("an4_log_mel", [*DRAWS, SOUNDS])],
)
def test_no_step_needs_a_value(name: str, more: list[str]) -> None:
    _, step = step_of(load_config(ROOT / "configs" / f"{name}.yaml", more))
    for number in range(2):
        assert step(BATCH, 32, number).shape == ()


def test_a_step_that_needs_one_is_noticed() -> None:
    model, step = step_of(load_config(ROOT / "configs" / "seed.yaml", []))
    model.network.register_forward_hook(lambda *values: values[2].sum().item())
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        step(BATCH, 32, 0)
