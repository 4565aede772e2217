import pytest
import torch

from speechmlp.conditions import apply_condition
from speechmlp.labels import CONDITIONS


@pytest.fixture
def letters() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    lengths = torch.tensor([4000, 6000, 16_000, 8001])
    waveforms = torch.zeros(4, 16_000)
    for waveform, length in zip(waveforms, lengths, strict=True):
        start = (16_000 - length) // 2
        waveform[start : start + length] = 0.1 * torch.randn(int(length))
    return waveforms, lengths


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_reproducible_and_keep_the_shape(name: str, letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    one, same = apply_condition(name, *letters), apply_condition(name, *letters)
    assert one.shape == (4, 16_000)
    assert torch.equal(one, same)
    assert torch.isfinite(one).all()
    assert torch.equal(one, letters[0]) == (name == "clean")


@pytest.mark.parametrize("name", ["white_10db", "babble_10db"])
def test_noise_is_10_db_down(name: str, letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    waveforms, lengths = letters
    noise = apply_condition(name, waveforms, lengths) - waveforms
    snr = 10 * torch.log10(waveforms.square().sum(1) / lengths / noise.square().mean(1))
    assert (snr - 10).abs().max() < 0.01
    assert noise.square().mean(1).min() > 0  # over the silence around the letter too
    assert noise[:, :1000].abs().amax(1).min() > 0


def test_the_telephone_passes_its_band_only(letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    white = 0.1 * torch.randn(1, 16_000)
    heard = apply_condition("telephone", white, torch.tensor([16_000]))
    before, after = (torch.fft.rfft(x).abs().square()[0] for x in (white, heard))
    assert after[:150].sum() < 0.02 * before[:150].sum()
    assert after[3800:].sum() < 0.02 * before[3800:].sum()
    assert after[600:3000].sum() == pytest.approx(before[600:3000].sum().item(), rel=0.05)
