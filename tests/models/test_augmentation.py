"""Each augmentation does what its name says, where it is switched on, and nothing where it is not."""

import pytest
import torch
import torchaudio

from speechmlp.config.loading import load_config
from speechmlp.config.schema import AugmentConfig, LogMelConfig
from speechmlp.errors import UserError
from speechmlp.models.augmentation import Augment, recorded_parts, some_rows
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.spectrum import MelSpectrum

SPECTRUM = MelSpectrum(LogMelConfig(), padding="constant", mean_power=True)


@pytest.fixture
def letters() -> torch.Tensor:
    """Harmonic sounds [32, 16000] of 0.4 s in the middle of silence."""
    torch.manual_seed(0)
    time = torch.arange(6400) / 16_000
    pitch = 100 + 100 * torch.rand(32, 1)
    orders = torch.arange(1, 25)[:, None, None]
    sound = (torch.sin(2 * torch.pi * pitch * orders * time) / orders).sum(0)
    return torch.nn.functional.pad(0.1 * sound + 1e-4, (4800, 4800))


def energy(waveforms: torch.Tensor, **settings: float | tuple[float, float]) -> torch.Tensor:
    torch.manual_seed(1)
    return Augment(AugmentConfig(**settings)).mel(waveforms, SPECTRUM)  # type: ignore[arg-type]


def test_switched_off_it_is_the_identity(letters: torch.Tensor) -> None:
    augment = Augment(AugmentConfig())
    waveforms, ends = augment.waveforms(letters)
    assert torch.equal(waveforms, letters)
    assert ends is None
    start, end = recorded_parts(letters)
    assert start.tolist() == [4800.0] * 32
    assert end.tolist() == [11_200.0] * 32
    assert torch.equal(augment.mel(letters, SPECTRUM), SPECTRUM(letters))
    features = torch.randn(3, 40, 52)
    assert torch.equal(augment.mask(features), features)
    assert all(torch.equal(a, b) for a, b in zip(augment.endpoints(start, end), (start, end), strict=True))
    places = torch.linspace(0, 1, 24)
    assert torch.allclose(augment.time_warp(places, 2), places.expand(2, -1))


def test_shift_moves_the_whole_letter_and_says_where(letters: torch.Tensor) -> None:
    moved, ends = Augment(AugmentConfig(shift=1.0)).waveforms(letters)
    assert ends is not None
    start, end = ends
    assert start.std() > 1000
    assert start.min() >= 0
    assert end.max() <= 16_000
    assert torch.allclose(moved.square().sum(1), letters.square().sum(1), rtol=0.05)
    for waveform, first, last in zip(moved, start, end, strict=True):
        inside = waveform.nonzero()[:, 0]
        assert abs(float(inside[0] - first)) <= 2
        assert abs(float(inside[-1] + 1 - last)) <= 2


def test_speed_changes_length_and_pitch_together(letters: torch.Tensor) -> None:
    changed, ends = Augment(AugmentConfig(speed=0.3)).waveforms(letters)
    assert ends is not None
    start, end = ends
    factor = 6400 / (end - start)
    assert factor.min() < 0.85
    assert factor.max() > 1.15
    pitch = [torch.fft.rfft(waves, 65_536).abs()[:, 300:1000].argmax(1) + 300 for waves in (letters, changed)]
    assert torch.allclose(pitch[1] / pitch[0], factor, rtol=0.03)
    assert ((start + end) / 2 - 8000).abs().max() < 2


def test_gain_changes_the_level_only(letters: torch.Tensor) -> None:
    louder = Augment(AugmentConfig(gain=12.0)).waveforms(letters)[0]
    ratio = 20 * torch.log10(louder.square().mean(1).sqrt() / letters.square().mean(1).sqrt())
    assert ratio.abs().max() <= 12.01
    assert ratio.max() - ratio.min() > 3
    factor = (louder.square().mean(1) / letters.square().mean(1)).sqrt()[:, None]
    assert torch.allclose(louder, factor * letters, atol=1e-4)


def test_companding_agrees_with_torchaudio(letters: torch.Tensor) -> None:
    ours = Augment.companded(letters)
    coded = torchaudio.functional.mu_law_encoding(letters, 256)
    theirs = torchaudio.functional.mu_law_decoding(coded, 256)
    noise, their_noise = ((x - letters).square().mean() for x in (ours, theirs))
    assert 0.5 < noise / their_noise < 2  # the levels differ by half a step: ours have an exact zero
    assert (ours[letters == 0] == 0).all()
    touched = Augment(AugmentConfig(companding=0.5)).waveforms(letters.repeat(20, 1))[0]
    changed = (touched != letters.repeat(20, 1)).any(1).double().mean()
    assert 0.3 < changed < 0.7


def test_clipping_flattens_peaks(letters: torch.Tensor) -> None:
    clipped = Augment(AugmentConfig(clip=1.0)).waveforms(letters)[0]
    share = (clipped.abs() >= clipped.abs().amax(1, keepdim=True) - 1e-6).double().mean(1)
    assert share.min() > 1e-3
    assert (clipped.abs().amax(1) < letters.abs().amax(1)).all()


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("kind", ["noise", "babble"])
def test_noise_comes_at_the_stated_level(letters: torch.Tensor, snr: float, kind: str) -> None:
    settings = {"noise": 1.0, "snr": (snr, snr)} if kind == "noise" else {"babble": 1.0, "babble_snr": (snr, snr)}
    plain, noisy = SPECTRUM(letters), energy(letters, **settings)  # type: ignore[arg-type]
    added = (noisy - plain).mean((1, 2))
    speech = plain[:, 32:68].mean((1, 2))
    measured = 10 * torch.log10(speech / added)
    assert abs(float(measured.median()) - snr) < 2


def test_babble_is_a_few_others_or_many() -> None:
    energy = torch.zeros(64, 101, 40)
    energy[:, 40:60] = 1.0 + torch.rand(64, 20, 40)
    torch.manual_seed(0)
    babble = Augment._babble(energy)
    assert torch.allclose(babble.mean((1, 2)), torch.ones(64), atol=1e-4)
    filled = (babble.amax(2) > 0.2).double().mean(1)  # share of the second in which somebody speaks
    assert filled.min() < 0.75
    assert filled.max() == 1.0
    assert torch.equal(energy[:, :40], torch.zeros(64, 40, 40))  # utterances keep their own values


def test_noise_hits_the_stated_share(letters: torch.Tensor) -> None:
    many = letters.repeat(16, 1)
    touched = (energy(many, noise=0.25, snr=(10.0, 10.0)) - SPECTRUM(many)).abs().amax((1, 2)) > 0
    assert 0.18 < touched.double().mean() < 0.32


def test_reverberation_lasts_longer_than_the_sound(letters: torch.Tensor) -> None:
    after = slice(75, 95)
    assert (energy(letters, reverb=1.0)[:, after].sum((1, 2)) > 10 * SPECTRUM(letters)[:, after].sum((1, 2))).all()
    assert torch.allclose(energy(letters, reverb=1.0)[:, :28], SPECTRUM(letters)[:, :28])  # nothing before it


def test_a_telephone_has_no_treble(letters: torch.Tensor) -> None:
    white = 0.1 * torch.randn(64, 16_000)
    change = 10 * torch.log10(energy(white, telephone=1.0) / SPECTRUM(white)).mean(1)  # [B, C], dB
    no_treble, no_bass = change[:, 38] < -20, change[:, 0] < -10
    assert 0.4 < no_treble.double().mean() < 0.85
    assert 0.4 < no_bass.double().mean() < 0.85
    assert (no_treble & no_bass).double().mean() > 0.25
    assert change[:, 10:20].abs().max() < 1


def test_vocal_tracts_move_formants(letters: torch.Tensor) -> None:
    time = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 1500 * time).repeat(64, 1)
    places = energy(tone, vocal_tract=0.2)[:, 50].argmax(1)
    assert places.max() - places.min() >= 4


def test_channel_colours_bands_and_not_time(letters: torch.Tensor) -> None:
    white = 0.1 * torch.randn(8, 16_000)
    change = torch.log(energy(white, tilt=8.0, equalizer=6.0) / SPECTRUM(white))
    assert change.std(1).max() < 1e-3
    assert change.mean(1).std() > 0.2


def test_masks_are_stripes() -> None:
    torch.manual_seed(0)
    masked = Augment(AugmentConfig(mask_bands=6, mask_frames=4)).mask(torch.ones(500, 40, 52))
    bands = (masked.amax(2) == 0).sum(1)
    frames = (masked.amax(1) == 0).sum(1)
    assert bands.max() in (6, 7)
    assert frames.max() in (4, 5)
    assert bands.min() == 0


def test_time_warp_is_monotone() -> None:
    torch.manual_seed(0)
    warped = Augment(AugmentConfig(time_warp=0.4)).time_warp(torch.linspace(0, 1, 24), 1000)
    assert (warped.diff(dim=1) > 0).all()
    assert (warped - torch.linspace(0, 1, 24)).abs().max() > 0.05


def test_augmentation_acts_in_training_only_and_the_seed_decides() -> None:
    model = SpeechClassifier(
        load_config(
            None,
            ["front_end={kind: aligned}", "model={kind: mixer, dropout: 0.0}", "augment={noise: 1.0, shift: 1.0}"],
        )
    )
    torch.nn.init.normal_(list(model.parameters())[-2])
    waveforms = 0.1 * torch.randn(4, 16_000)
    torch.manual_seed(0)
    one, other = model(waveforms), model(waveforms)
    torch.manual_seed(0)
    assert torch.equal(one, model(waveforms))
    assert not torch.equal(one, other)
    model.eval()
    assert torch.equal(model(waveforms), model(waveforms))


def test_raw_waveforms_have_no_bands_to_augment() -> None:
    with pytest.raises(UserError, match=r"augment\.noise: expected 0 with front_end\.kind raw"):
        load_config(None, ["augment.noise=0.5"])
    assert load_config(None, ["augment.shift=1.0"]).augment == AugmentConfig(shift=1.0)


@pytest.mark.parametrize("name", ["clip", "companding"])
def test_of_the_waveforms_the_share_is_touched(letters: torch.Tensor, name: str) -> None:
    touched = Augment(AugmentConfig(**{name: 0.25})).waveforms(letters)[0]  # type: ignore[arg-type]
    assert ((touched - letters).abs().amax(1) > 1e-3).sum() == 8


@pytest.mark.parametrize("name", ["reverb", "noise", "babble", "floor"])
def test_of_the_energies_the_share_is_touched(letters: torch.Tensor, name: str) -> None:
    changed = energy(letters, **{name: 0.25}) != SPECTRUM(letters)
    assert changed.flatten(1).any(1).sum() == 8


def test_a_share_of_a_few_is_met_on_average() -> None:
    torch.manual_seed(0)
    assert sum(some_rows(3, 0.5, torch.zeros(()))[1].sum().item() for _ in range(400)) / 400 == pytest.approx(
        1.5, abs=0.1
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_may_be_too_small_for_its_shares(letters: torch.Tensor, count: int) -> None:
    augment = Augment(AugmentConfig(clip=0.3, companding=0.3, reverb=0.3, noise=0.3, babble=0.3, floor=0.3))
    torch.manual_seed(0)
    for _ in range(20):  # none of its utterances is touched, or some
        waveforms = augment.waveforms(letters[:count])[0]
        mel = augment.mel(waveforms, SPECTRUM)
        assert mel.shape == (count, 101, 40)
        assert mel.isfinite().all()
