import pytest
import torch
from torch import nn

from speechmlp.config.schedule import lr_share
from speechmlp.config.schema import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    MuonConfig,
    OneCycleConfig,
    SGDConfig,
)
from speechmlp.training.optimizers import StackedMuon, build_optimizer


def test_schedules_start_peak_and_end_where_they_say() -> None:
    steps = 1000
    constant = [lr_share(ConstantConfig(), step, steps) for step in range(steps)]
    assert set(constant) == {1.0}
    cosine = [lr_share(CosineConfig(warmup=0.1, final=0.2), step, steps) for step in range(steps)]
    assert cosine[0] == pytest.approx(0.01)
    assert max(cosine) == cosine[99] == 1.0
    assert cosine[-1] == pytest.approx(0.2)
    assert cosine[549] == pytest.approx(0.6, abs=0.01)


def test_one_cycle_agrees_with_torch() -> None:
    steps, config = 200, OneCycleConfig()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, div_factor=25, final_div_factor=1e4
    )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ours = [lr_share(config, step, steps) for step in range(steps)]
    assert ours == pytest.approx(expected, abs=0.02)
    assert ours.index(max(ours)) == 59


@pytest.mark.parametrize("schedule", [CosineConfig(warmup=1.0), CosineConfig(warmup=0.0), OneCycleConfig(warmup=0.5)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_have_a_rate_at_every_step(schedule: CosineConfig | OneCycleConfig, steps: int) -> None:
    fractions = [lr_share(schedule, step, steps) for step in range(steps)]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert max(fractions) > 0


@pytest.mark.parametrize(
    ("config", "oracle"),
    [
        (AdamConfig(lr=0.1), lambda p: torch.optim.Adam(p, 0.1)),
        (AdamWConfig(lr=0.1, weight_decay=0.5), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5)),
        (
            SGDConfig(lr=0.1, momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        ),
    ],
    ids=["adam", "adamw", "sgd"],
)
def test_the_fused_update_is_the_plain_one(config, oracle) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(5, 2))
    for parameter, optimizer in ((ours, build_optimizer(config, [ours])), (theirs, oracle([theirs]))):
        for step in range(5):
            parameter.grad = torch.arange(10.0).view(5, 2) - step
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, torch.ones(5, 2))


def test_biases_do_not_decay() -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(AdamWConfig(lr=0.1, weight_decay=0.5), [matrix, bias])
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 0.95))
    assert torch.equal(bias, torch.ones(2))


def test_muon_takes_matrices_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    matrix, bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.ones(4))
    before = matrix.detach().clone()
    optimizer = build_optimizer(MuonConfig(lr=0.1, weight_decay=0.0), [matrix, bias])
    gradient = torch.randn(6, 4)
    matrix.grad, bias.grad = gradient.clone(), torch.tensor([1.0, -2.0, 3.0, -4.0])
    optimizer.step()
    # A first step of Adam has the sign of the gradient; one of Muon is orthogonal: equal singular values, nearly.
    assert torch.allclose(bias, 1 - 0.1 * bias.grad.sign(), atol=1e-5)
    values = torch.linalg.svdvals(before - matrix.detach())
    assert values.min() > 0.6 * values.max()
    turned = torch.linalg.svd(gradient, full_matrices=False)
    assert (
        torch.nn.functional.cosine_similarity(
            (before - matrix.detach()).flatten(), (turned.U @ turned.Vh).flatten(), dim=0
        )
        > 0.95
    )


def test_muon_goes_on_from_its_state_and_takes_new_rates() -> None:
    def run(steps: int, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        for _ in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.03
            for parameter in parameters:
                parameter.grad = parameter.detach().sin()
            optimizer.step()

    def fresh() -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(1)
        parameters = [nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3))]
        return parameters, build_optimizer(MuonConfig(lr=0.01), parameters)

    whole, optimizer = fresh()
    run(6, optimizer, whole)
    first, optimizer = fresh()
    run(3, optimizer, first)
    state = optimizer.state_dict()
    second, optimizer = fresh()
    for parameter, value in zip(second, first, strict=True):
        parameter.data.copy_(value.data)
    optimizer.load_state_dict(state)
    run(3, optimizer, second)
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def test_matrices_in_stacks_move_as_one_at_a_time() -> None:
    torch.manual_seed(2)
    shapes = [(52, 64), (64, 52), (96, 40), (64, 52), (4, 52), (52, 64), (7, 7)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    alone = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}
    stacked, plain = StackedMuon(ours, **settings), torch.optim.Muon(theirs, **settings)  # type: ignore[arg-type]
    singles = [StackedMuon([parameter], **settings) for parameter in alone]  # type: ignore[arg-type]
    for _ in range(5):
        for one, other, single in zip(ours, theirs, alone, strict=True):
            one.grad = torch.randn_like(one)
            other.grad, single.grad = one.grad.clone(), one.grad.clone()
        stacked.step()
        for optimizer in singles:
            optimizer.step()
        plain.step()  # type: ignore[no-untyped-call]
    for one, other, single in zip(ours, theirs, alone, strict=True):
        assert torch.allclose(one, single, atol=1e-6)
        assert torch.allclose(one, other, atol=1.5e-3)  # torch's iterates in bfloat16; weights moved by 0.01 on average
    states = [optimizer.state_dict() for optimizer in (stacked, plain)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for number in range(len(shapes)):
        assert torch.equal(*(state["state"][number]["momentum_buffer"] for state in states))


def test_every_optimizer_takes_a_closure() -> None:
    for config in (AdamConfig(), AdamWConfig(), MuonConfig(), SGDConfig()):
        parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
        optimizer = build_optimizer(config, parameters)

        def closure(optimizer: torch.optim.Optimizer = optimizer, given: list[nn.Parameter] = parameters) -> float:
            optimizer.zero_grad()
            loss = torch.stack([parameter.square().sum() for parameter in given]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        with torch.no_grad():
            assert optimizer.step(closure) == 6
        assert all((parameter < 1).all() for parameter in parameters)
