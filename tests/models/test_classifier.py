import math
from typing import Any

import pytest
import torch
from torch import nn

from speechmlp.config.loading import load_config
from speechmlp.models.classifier import MLP, Output, SpeechClassifier


def build(*overrides: str, seed: int = 0) -> SpeechClassifier:
    torch.manual_seed(seed)
    return SpeechClassifier(load_config(None, overrides))


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        ([], 16_000 * 100 + 100 + 100 * 26 + 26),
        (["model.hidden=[]"], 16_000 * 26 + 26),
        (["model.hidden=[20,10]", "model.norm=batch"], 16_000 * 20 + 20 + 40 + 210 + 20 + 286),
        (["front_end={kind: log_mel}"], 40 * 101 * 100 + 100 + 2626),
        (["front_end={kind: mfcc}", "model.hidden=[]"], 13 * 101 * 26 + 26),
        (["front_end={kind: aligned, endpoints: energy}", "model={kind: mixer}"], 196_574),
        (["front_end={kind: aligned, endpoints: energy}", "model={kind: gmlp}"], 255_774),
        (["front_end={kind: aligned}", "model={kind: mixer}"], 236_074),
        (["front_end={kind: aligned}", "model={kind: mixer, gate: true}"], 236_074 + 4 * 96 + 1),
        (
            ["front_end={kind: aligned, endpoint_width: 16, endpoint_blocks: 1}", "model.hidden=[]"],
            10_071 + 2080 * 26 + 26,
        ),
    ],
)
def test_parameter_counts(overrides: list[str], count: int) -> None:
    assert build(*overrides).num_parameters() == count


def test_the_gate_scales_logits_and_keeps_their_order() -> None:
    output = Output(8, 26, gate=True)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    plain = nn.functional.linear(x, output.weight[:26], output.bias[:26])
    share = nn.functional.linear(x, output.weight[26:], output.bias[26:]).sigmoid()
    torch.testing.assert_close(output(x), plain * share)
    assert output(x).argmax(1).tolist() == plain.argmax(1).tolist()
    with torch.no_grad():
        output.bias[26] = -50.0
    torch.testing.assert_close(output(x).softmax(1), torch.full((5, 26), 1 / 26))


@pytest.mark.parametrize("model", ["mixer", "gmlp"])
def test_the_first_loss_of_token_models_is_near_ln_26(model: str) -> None:
    classifier = build("front_end={kind: aligned}", f"model={{kind: {model}}}")
    loss = nn.functional.cross_entropy(classifier(0.1 * torch.randn(64, 16_000)), torch.arange(64) % 26)
    assert abs(loss.item() - math.log(26)) < 0.1


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
@pytest.mark.parametrize("front_end", ["{kind: raw, normalizer: utterance}", "{kind: log_mel}"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_first_loss_is_near_ln_26(activation: str, front_end: str, norm: str) -> None:
    model = build(
        f"model.activation={activation}", f"front_end={front_end}", f"model.norm={norm}", "model.hidden=[64,64]"
    )
    waveforms = 0.1 * torch.randn(64, 16_000)
    loss = nn.functional.cross_entropy(model(waveforms), torch.arange(64) % 26)
    assert abs(loss.item() - math.log(26)) < 0.1


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
def test_initialisation_keeps_signals_alive_through_many_layers(activation: str) -> None:
    model = build(f"model.activation={activation}", "model.hidden=[128,128,128,128]", "front_end.normalizer=utterance")
    spreads: list[float] = []

    def record(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        spreads.append(float(output.detach().std()))

    assert isinstance(model.network, MLP)
    for layer in list(model.network.layers)[:-1]:
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(record)
    model(torch.randn(64, 16_000))
    assert len(spreads) == 4
    assert all(0.1 < spread < 5 for spread in spreads), spreads


@pytest.mark.parametrize(
    "overrides",
    [
        ["front_end={kind: log_mel}", "model.norm=layer"],
        ["front_end={kind: aligned}", "model={kind: mixer}"],
        ["front_end={kind: mfcc, normalizer: utterance}", "model={kind: gmlp}"],
    ],
    ids=["log_mel mlp", "aligned mixer", "mfcc gmlp"],
)
def test_output_i_depends_on_input_i_only(overrides: list[str]) -> None:
    model = build(*overrides).eval()
    waveforms = (0.1 * torch.randn(5, 16_000)).requires_grad_()
    model(waveforms)[3].sum().backward()
    assert waveforms.grad is not None
    touched = waveforms.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, False, True, False]


def test_one_batch_can_be_learnt_by_heart() -> None:
    model = build("front_end={kind: log_mel}")
    waveforms, labels = torch.randn(26, 16_000), torch.arange(26)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(waveforms), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.05
    assert (model(waveforms).argmax(1) == labels).all()


def test_the_front_end_learns_nothing() -> None:
    names = [name for name, _ in build("front_end={kind: log_mel, normalizer: corpus}").named_parameters()]
    assert names
    assert all(name.startswith("network.") for name in names)


def test_dropout_acts_in_training_only() -> None:
    model = build("model.dropout=0.5", "model.norm=none")
    nn.init.normal_(list(model.parameters())[-2])
    waveforms = torch.randn(2, 16_000)
    assert not torch.equal(model(waveforms), model(waveforms))
    model.eval()
    assert torch.equal(model(waveforms), model(waveforms))


def test_the_seed_decides_the_weights() -> None:
    one, same, other = build(), build(), build(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
