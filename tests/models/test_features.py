import pytest
import torch
import torchaudio

from speechmlp.config.schema import LogMelConfig, MFCCConfig
from speechmlp.models.features import MFCC, FrontEnd, LogMel, Normalizer, Raw
from speechmlp.models.spectrum import MelSpectrum

ODD = {
    "silence": torch.zeros(16_000),
    "constant": torch.full((16_000,), 0.7),
    "clipped": torch.sign(torch.sin(torch.arange(16_000) / 9.0)),
    "click": torch.nn.functional.one_hot(torch.tensor(8000), 16_000).float(),
    "noise": torch.randn(16_000, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize(
    "config",
    [
        LogMelConfig(),
        LogMelConfig(n_fft=400, win_length=400, hop_length=200, n_mels=23, f_min=0.0, f_max=7600.0),
        LogMelConfig(n_fft=1024, win_length=801, hop_length=333, n_mels=64),
    ],
    ids=["default", "no padding of the window", "odd sizes"],
)
def test_log_mel_agrees_with_torchaudio(config: LogMelConfig) -> None:
    waveforms = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(1))
    oracle = torchaudio.transforms.MelSpectrogram(
        16_000, config.n_fft, config.win_length, config.hop_length, config.f_min, config.f_max, n_mels=config.n_mels
    )
    expected = torch.log(oracle(waveforms) + LogMel.FLOOR)
    features = LogMel(config)(waveforms)[0]
    assert features.shape == (3, *LogMel(config).shape)
    assert torch.allclose(features, expected, atol=1e-4, rtol=1e-4)


def test_raw_is_the_waveform() -> None:
    waveforms = torch.randn(2, 16_000)
    assert torch.equal(Raw()(waveforms), waveforms[None, :, None])
    assert Raw().shape == (1, 16_000)


def test_mfcc_agrees_with_torchaudio() -> None:
    waveforms = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(1))
    mel = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "f_min": 20.0, "f_max": 8000.0}
    oracle = torchaudio.transforms.MFCC(16_000, 13, log_mels=True, melkwargs=mel)
    features = MFCC(MFCCConfig())(waveforms)[0]
    assert features.shape == (3, 13, 101)
    assert torch.allclose(features, oracle(waveforms), atol=1e-2)  # torchaudio's floor is 1e-6 too


def test_stretched_bands_move_energy_up() -> None:
    spectrum = MelSpectrum(LogMelConfig(), padding="reflect", mean_power=True)
    time = torch.arange(16_000) / 16_000
    low, high = (torch.sin(2 * torch.pi * hertz * time)[None] for hertz in (1000, 1200))
    stretched = spectrum.power(low) @ spectrum.stretched_bands(torch.tensor([1 / 1.2]))
    plain = spectrum(high)
    assert int(stretched[0, 50].argmax()) == int(plain[0, 50].argmax()) != int(spectrum(low)[0, 50].argmax())
    assert spectrum.bands.sum(0).max() <= 1 + 1e-5


@pytest.mark.parametrize("kind", ["none", "utterance", "corpus"])
@pytest.mark.parametrize(
    "front_end", [Raw(), LogMel(LogMelConfig()), MFCC(MFCCConfig())], ids=["raw", "log_mel", "mfcc"]
)
def test_odd_waveforms_give_finite_features(front_end: FrontEnd, kind: str) -> None:
    features = Normalizer(kind, front_end.shape[0])(front_end(torch.stack(list(ODD.values())))[0])
    assert torch.isfinite(features).all()


def test_utterance_normaliser_ignores_gain_and_makes_silence_zero() -> None:
    normalizer = Normalizer("utterance", 40)
    front_end = LogMel(LogMelConfig())
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(2))
    features = normalizer(front_end(noise)[0])
    assert features.mean(2).abs().max() < 1e-4
    assert abs(float(features.square().mean()) - 1) < 1e-3
    assert torch.allclose(features, normalizer(front_end(0.1 * noise)[0]), atol=0.02)
    assert normalizer(front_end(torch.zeros(1, 16_000))[0]).abs().max() < 0.05


def test_corpus_normaliser_uses_what_it_was_given() -> None:
    normalizer = Normalizer("corpus", 2)
    normalizer.set_statistics(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0]))
    features = normalizer(torch.full((1, 2, 3), 2.0))
    assert features[0, 0].tolist() == [0.5] * 3
    assert features[0, 1].tolist() == [0.0] * 3
    assert set(normalizer.state_dict()) == {"mean", "std"}
