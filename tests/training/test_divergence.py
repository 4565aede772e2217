"""Numbers that go wrong in training, as a user sees it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from speechmlp.training.divergence import NonFiniteError, StepWatch, dead_layers, has_not_moved
from tests.conftest import ROOT, Run

TRAIN = ["-m", "speechmlp.train", "--config", str(ROOT / "configs" / "quickstart.yaml"), "device=cpu", "output.name=x"]
PLAIN = ["model.hidden=[16]", "model.norm=none", "model.dropout=0", "corpus.audit=false", "training.batch_size=8"]


def test_the_first_step_that_is_not_finite_is_warnings_with_the_largest_layer() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.Sequential(first, second)
    watch = StepWatch(model)
    watch.begin(epoch=3, step=0)
    with torch.no_grad():
        second.weight[0, 0] = 1e10
    model(torch.ones(1, 2)).sum().backward()
    watch(torch.tensor(1.0))
    assert first.bias.grad is not None
    first.bias.grad[1] = torch.nan
    with pytest.raises(NonFiniteError) as caught:
        watch(torch.tensor(2.0))
    assert caught.value.step == 1
    assert str(caught.value).startswith(
        "epoch 3, step 2 of it: the training loss is 2, gradients of 1 of 4 layers are not finite; largest weights: "
        "1.weight (up to 1e+10), largest gradient: 0.bias; "
    )


def test_a_loss_that_is_not_finite_is_warnings_though_gradients_are() -> None:
    model = nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(NonFiniteError, match="loss is inf, gradients of 0 of 2 layers"):
        StepWatch(model)(torch.tensor(torch.inf))


def test_training_stops_and_keeps_the_last_good_checkpoint(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    from speechmlp.runs.checkpoint import load_checkpoint

    result = run_python(*TRAIN, *PLAIN, f"corpus.manifest={tone_corpus}", "training.epochs=2")
    assert result.returncode == 0, result.stderr
    before = (tmp_path / "runs/x/last.pt").read_bytes()
    exploding = ["training.epochs=9", "training.optimizer.lr=1e38"]
    result = run_python("-m", "speechmlp.train", "--resume", "runs/x", *exploding)
    first, second = result.stderr.splitlines()
    assert result.returncode == 2
    assert re.match(
        r"error: epoch 3, step \d+ of it: the training loss is nan, .* largest weights: network\.layers\.\d\.weight "
        r"\(up to [\d.e+]+\), .*; the last good checkpoint is runs/x/last\.pt$",
        first,
    )
    named = second.removeprefix("error: its utterances: ").split(", ")
    assert len(named) in (8, 104 % 8)
    assert all(re.fullmatch(r"s[0-3]/[A-Z]", name) for name in named)
    assert (tmp_path / "runs/x/last.pt").read_bytes() == before
    assert len(load_checkpoint(tmp_path / "runs/x/last.pt").history) == 2


def test_a_network_whose_rectifiers_are_all_off_is_warnings() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    warnings: list[str] = []
    with dead_layers(network, warnings.append):
        network(torch.randn(50, 3))
    assert warnings == []
    with torch.no_grad():
        first.bias.fill_(-1e6)
        second.bias.fill_(1)
    with dead_layers(network, warnings.append):
        network(torch.randn(5, 3))
    assert len(warnings) == 1
    assert warnings[0].startswith("the network is dead: every ReLU of 1 ")
    assert not network[1]._forward_hooks


def test_a_loss_that_does_not_move_is_warnings_once(tone_corpus: Path, run_python: Run) -> None:
    still = ["training.epochs=4", "training.optimizer.lr=1e-30", "training.schedule={kind: constant}"]
    result = run_python(*TRAIN, *PLAIN, f"corpus.manifest={tone_corpus}", *still)
    assert result.returncode == 0
    assert result.stderr == "warning: epoch 2: the loss has not moved; try another training.optimizer.lr\n"


@pytest.mark.parametrize(("before", "after", "same"), [(3.2, 3.2, True), (3.2, 3.1999, False), (np.nan, 3.2, False)])
def test_not_moving_means_but_for_rounding(before: float, after: float, same: bool) -> None:
    assert has_not_moved(before, after) is same
