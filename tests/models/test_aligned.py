"""Endpoints and the aligned front end: on sounds whose place is known, on odd waveforms, on synthetic speech."""

from pathlib import Path

import pytest
import torch

from speechmlp.config.schema import AlignedConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.models.aligned import Aligned
from speechmlp.models.endpoints import EndpointNetwork, EnergyEndpoints
from tests.models.test_features import ODD


def burst(start: int, length: int, noise: float = 0.001, seed: int = 0) -> torch.Tensor:
    """Returns a waveform [16000] with a harmonic sound from sample `start` on, over white noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / 16_000
    sound = sum(torch.sin(2 * torch.pi * 150 * order * time) / order for order in range(1, 20))
    waveform = noise * torch.randn(16_000, generator=generator)
    waveform[start : start + length] += 0.2 * sound * torch.hann_window(length).sqrt()
    return waveform


@pytest.mark.parametrize(("start", "length"), [(0, 5000), (3000, 2000), (6000, 8000), (11_000, 5000), (2000, 12_000)])
@pytest.mark.parametrize("noise", [0.0, 0.001, 0.02])
def test_energy_finds_a_sound_wherever_it_is(start: int, length: int, noise: float) -> None:
    front_end = Aligned(AlignedConfig(endpoints="energy"))
    log_mel = front_end.log_mel(front_end.spectrum(burst(start, length, noise)[None]))
    found = [float(time) * 160 for time in EnergyEndpoints(101)(log_mel)]
    assert abs(found[0] - start) < 800
    assert abs(found[1] - start - length) < 800


def test_a_gap_within_the_letter_is_bridged_and_a_far_click_is_not() -> None:
    front_end = Aligned(AlignedConfig(endpoints="energy"))
    waveform = burst(4000, 2000) + burst(7500, 2000, seed=1)  # 94 ms apart, as the closure in X
    waveform[15_500:15_540] += 0.3
    log_mel = front_end.log_mel(front_end.spectrum(waveform[None]))
    start, end = (float(time) * 160 for time in EnergyEndpoints(101)(log_mel))
    assert abs(start - 4000) < 800
    assert abs(end - 9500) < 800


@pytest.mark.parametrize("endpoints", ["energy", "learnt", "both"])
def test_odd_waveforms_give_finite_tokens(endpoints: str) -> None:
    torch.manual_seed(0)
    front_end = Aligned(AlignedConfig(endpoints=endpoints))  # type: ignore[arg-type]
    readings = front_end(torch.stack(list(ODD.values())))
    assert len(readings) == (2 if endpoints == "both" else 1)
    for tokens in readings:
        assert tokens.shape == (len(ODD), 40, 52)
        assert torch.isfinite(tokens).all()
        assert tokens.abs().max() < 50


def test_tokens_do_not_depend_on_place_loudness_or_offset() -> None:
    front_end = Aligned(AlignedConfig(endpoints="energy"))
    here, there = burst(2000, 6000, 0.0), burst(2000 + 38 * 160, 6000, 0.0)
    one, moved, quiet, shifted = front_end(torch.stack([here, there, 0.1 * here, here + 0.2]))[0]
    assert (one - moved).abs().mean() < 0.02
    assert (one - quiet).abs().max() < 1e-2
    assert (one - shifted).abs().mean() < 0.05


def test_warped_tokens_do_not_depend_on_length_and_onset_tokens_do_not_stretch() -> None:
    front_end = Aligned(AlignedConfig(endpoints="energy", warped=24, onset=8, offset=0))
    rising = [torch.zeros(16_000), torch.zeros(16_000)]
    for waveform, length in zip(rising, (4000, 8000), strict=True):
        time = torch.arange(length) / length
        phase = 2 * torch.pi * (300 * time + 1000 * time.square()) * length / 16_000
        waveform[4000 : 4000 + length] = 0.3 * torch.sin(phase)
    short, long = front_end(torch.stack(rising))[0]
    centre = torch.arange(40.0)[:, None]
    track = [(tokens.exp() * centre).sum(0) / tokens.exp().sum(0) for tokens in (short, long)]
    assert (track[0][2:22] - track[1][2:22]).abs().max() < 1.5  # the same glide over the same places
    assert track[0][31] > track[1][31] + 0.5  # after 50 ms the short one has risen further


def test_learnt_endpoints_learn_where_a_sound_is() -> None:
    torch.manual_seed(0)
    front_end = Aligned(AlignedConfig(endpoints="learnt"))
    assert isinstance(front_end.learnt, EndpointNetwork)
    optimizer = torch.optim.Adam(front_end.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        length = torch.randint(3000, 8000, (count,), generator=generator)
        start = (torch.rand(count, generator=generator) * (16_000 - length)).long()
        waves = [burst(int(s), int(n), 0.01, seed) for seed, (s, n) in enumerate(zip(start, length, strict=True))]
        log_mel = front_end.log_mel(front_end.spectrum(torch.stack(waves)))
        return log_mel, start / 160, (start + length) / 160

    log_mel, start, end = draw(256)
    before = front_end.learnt.loss(log_mel, start, end).item()
    for _ in range(60):
        chosen = torch.randint(256, (64,), generator=generator)
        optimizer.zero_grad()
        front_end.learnt.loss(log_mel[chosen], start[chosen], end[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert before > 4  # ln 101 = 4.6
    log_mel, start, end = draw(64)
    found = front_end.learnt(log_mel)
    assert (found[0] - start).abs().median() < 4
    assert (found[1] - end).abs().median() < 4


def test_endpoints_of_speech_are_those_of_the_recording(synthetic_corpus: Path, tmp_path: Path) -> None:
    letters = SpokenLetters.from_manifest(str(synthetic_corpus), "train", str(tmp_path))
    front_end = Aligned(AlignedConfig(endpoints="energy"))
    waveforms = torch.stack([letters[index].waveform for index in range(0, len(letters), 5)])
    noisy = waveforms + 0.001 * torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(0))
    start, end = EnergyEndpoints(101)(front_end.log_mel(front_end.spectrum(noisy)))
    lengths = letters.lengths[::5] / 160
    found = (end - start) / lengths
    assert 0.7 < found.median() <= 1.1
    assert ((found > 0.4) & (found < 1.3)).double().mean() > 0.9


def test_emphasis_lifts_high_bands_over_the_floor() -> None:
    torch.manual_seed(0)
    mel = 1e-6 * torch.rand(2, 101, 40)
    mel[:, :, 4] = 1.0  # 60 dB above, as a vowel's fundamental above a weak fricative
    plain = Aligned(AlignedConfig()).log_mel(mel)
    lifted = Aligned(AlignedConfig(emphasis=20.0)).log_mel(mel)
    assert plain[..., 30:].std() < 0.1
    assert lifted[..., 30:].std() > 4 * plain[..., 30:].std()
    rise = (Aligned(AlignedConfig(emphasis=20.0)).emphasis.log10() * 10).diff()
    assert torch.allclose(rise, torch.full((39,), 20 / 39), atol=1e-4)
