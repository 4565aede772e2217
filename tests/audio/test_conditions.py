import pytest
import torch

from speechmlp.audio.condition_names import CONDITIONS, MEANINGS, SWEEPS, parse_condition
from speechmlp.audio.conditions import apply_condition
from speechmlp.errors import UserError


@pytest.fixture
def letters() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    lengths = torch.tensor([4000, 6000, 16_000, 8001])
    waveforms = torch.zeros(4, 16_000)
    for waveform, length in zip(waveforms, lengths, strict=True):
        start = (16_000 - length) // 2
        waveform[start : start + length] = 0.1 * torch.randn(int(length))
    return waveforms, lengths


ALL = sorted({*CONDITIONS, *(name for names in SWEEPS.values() for name in names)})
UNCHANGED = {"clean", "gain_0db", "shift_0ms", "speed_100"}


@pytest.mark.parametrize("name", ALL)
def test_conditions_are_reproducible_and_keep_the_shape(name: str, letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    one, same = apply_condition(name, *letters), apply_condition(name, *letters)
    assert one.shape == (4, 16_000)
    assert torch.equal(one, same)
    assert torch.isfinite(one).all()
    assert torch.equal(one, letters[0]) == (name in UNCHANGED)


@pytest.mark.parametrize(
    ("name", "expected"), [("white_10db", 10), ("babble_10db", 10), ("white_0db", 0), ("babble_25db", 25)]
)
def test_noise_has_the_signal_to_noise_ratio_of_its_name(
    name: str, expected: float, letters: tuple[torch.Tensor, torch.Tensor]
) -> None:
    waveforms, lengths = letters
    noise = apply_condition(name, waveforms, lengths) - waveforms
    snr = 10 * torch.log10(waveforms.square().sum(1) / lengths / noise.square().mean(1))
    assert (snr - expected).abs().max() < 0.01
    assert noise.square().mean(1).min() > 0  # also in the silence around the letter
    assert noise[:, :1000].abs().amax(1).min() > 0


def test_the_telephone_passes_only_its_band(letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    white = 0.1 * torch.randn(1, 16_000)
    output = apply_condition("telephone", white, torch.tensor([16_000]))
    before, after = (torch.fft.rfft(x).abs().square()[0] for x in (white, output))
    assert after[:150].sum() < 0.02 * before[:150].sum()
    assert after[3800:].sum() < 0.02 * before[3800:].sum()
    assert after[600:3000].sum() == pytest.approx(before[600:3000].sum().item(), rel=0.05)


def burst() -> torch.Tensor:
    waveform = torch.zeros(1, 16_000)
    waveform[:, 8000] = 1.0
    return waveform


def test_reverberation_decays_by_60_db_in_its_time() -> None:
    output = apply_condition("reverb_400ms", burst(), torch.tensor([16_000]))[0]
    assert output[:7999].abs().max() < 1e-6
    assert output[8000] == pytest.approx(1.0, abs=1e-4)
    early, late = (output[8000 + first : 8000 + first + 800].square().mean() for first in (800, 800 + 3200))
    assert 10 * torch.log10(early / late) == pytest.approx(30, abs=3)  # 200 ms later
    assert output[8001:].square().sum() == pytest.approx(1.0, rel=0.01)


def test_shift_and_speed_move_the_sound() -> None:
    lengths = torch.tensor([16_000])
    assert int(apply_condition("shift_250ms", burst(), lengths).argmax()) == 12_000
    assert int(apply_condition("shift_-250ms", burst(), lengths).argmax()) == 4000
    assert not apply_condition("shift_600ms", burst(), lengths).any()
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)[None]
    fast, slow = (apply_condition(name, tone, lengths)[0] for name in ("speed_125", "speed_80"))
    assert int(torch.fft.rfft(fast[2000:14_000]).abs().argmax()) * 16_000 / 12_000 == pytest.approx(1250, abs=2)
    assert int(torch.fft.rfft(slow).abs().argmax()) == pytest.approx(800, abs=2)


def test_gain_clips_at_full_scale() -> None:
    output = apply_condition("gain_20db", 0.5 * burst(), torch.tensor([16_000]))
    assert output.max() == 1.0
    assert apply_condition("gain_-20db", burst(), torch.tensor([16_000])).max() == pytest.approx(0.1)


def test_names_are_parsed_and_wrong_ones_reported() -> None:
    assert parse_condition("babble_5db") == ("babble", 5)
    assert parse_condition("shift_-200ms") == ("shift", -200)
    assert {parse_condition(name)[0] for name in ALL} == {*MEANINGS, "clean"}
    for wrong in ("", "white", "white_10", "speed_300", "reverb_0ms", "white_10dbx", "gain_1e3db"):
        with pytest.raises(UserError, match="--condition: expected clean, telephone, or a name like white_10db"):
            parse_condition(wrong)
