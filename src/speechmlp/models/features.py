"""Front ends: from waveforms to the features that the dense layers see. They are part of the model.

Dimension key: `B` batch, `T` samples (16000), `C` channels or bands, `F` frames.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.audio.decoding import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.schema import AlignedConfig, LogMelConfig, MFCCConfig
from speechmlp.environment import import_torchaudio


class Raw(nn.Module):
    """The samples themselves, as one channel: [B, T] -> [B, 1, T]."""

    shape = (1, NUM_SAMPLES)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the waveforms [B, T] as features [B, 1, T]."""
        return waveforms.unsqueeze(1)


class MelSpectrum(nn.Module):
    """Energies of mel-spaced triangular bands (HTK scale): [B, T] -> [B, F, C], F = 1 + T // hop_length.

    Power spectrum of centred Hann frames. With bands of unit height the same numbers as
    `torchaudio.transforms.MelSpectrogram`, which the tests compare with.

    Args:
        config: sizes in samples, edges in Hz.
        padding: what lies before and after the second: reflect or constant (zeros).
        mean_power: weights of a band sum to one at most, so that white noise is flat, instead of unit height.
    """

    window: Tensor
    bands: Tensor
    edges: Tensor
    frequency: Tensor

    def __init__(self, config: LogMelConfig | MFCCConfig | AlignedConfig, padding: str, mean_power: bool) -> None:
        super().__init__()
        self.n_fft, self.hop_length = config.n_fft, config.hop_length
        self.num_frames = 1 + NUM_SAMPLES // config.hop_length
        self.padding, self.mean_power = padding, mean_power
        before = (config.n_fft - config.win_length) // 2
        window = F.pad(torch.hann_window(config.win_length), (before, config.n_fft - config.win_length - before))
        low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (config.f_min, config.f_max))
        edges = 700 * (torch.exp(torch.linspace(low, high, config.n_mels + 2) * (math.log(10) / 2595)) - 1)
        self.register_buffer("window", window, persistent=False)  # [n_fft]
        self.register_buffer("edges", edges, persistent=False)  # [C + 2], Hz
        frequency = torch.linspace(0, SAMPLE_RATE / 2, config.n_fft // 2 + 1)
        self.register_buffer("frequency", frequency, persistent=False)  # [n_fft // 2 + 1], Hz
        self.register_buffer("bands", self.stretched_bands(torch.ones(1))[0], persistent=False)  # [n_fft // 2 + 1, C]

    def stretched_bands(self, factors: Tensor) -> Tensor:
        """Returns bands [B, n_fft // 2 + 1, C] whose frequencies are multiplied by factors [B]: another vocal tract."""
        edges = (self.edges * factors[:, None]).clamp_max(SAMPLE_RATE / 2)[:, None]
        low, centre, high = edges[..., :-2], edges[..., 1:-1], edges[..., 2:]
        frequency = self.frequency[:, None]
        up = (frequency - low) / (centre - low).clamp_min(1e-3)
        down = (high - frequency) / (high - centre).clamp_min(1e-3)
        bands = torch.minimum(up, down).clamp_min(0)
        return bands / bands.sum(1, keepdim=True).clamp_min(1) if self.mean_power else bands

    def power(self, waveforms: Tensor) -> Tensor:
        """Returns the power spectrum [B, F, n_fft // 2 + 1] of waveforms [B, T]."""
        # Framed by hand, because torch.stft takes longer on a CPU: it transposes before the transform.
        sides = (self.n_fft // 2, self.n_fft // 2)
        padded = F.pad(waveforms.unsqueeze(1), sides, mode=self.padding).squeeze(1)
        spectrum = torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop_length) * self.window)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the mel energies [B, F, C] of waveforms [B, T]."""
        return self.power(waveforms) @ self.bands


class LogMel(nn.Module):
    """Natural logarithm of mel energies, with a floor: [B, T] -> [B, C, F].

    Args:
        config: sizes in samples, edges in Hz.
    """

    FLOOR = 1e-6
    """Added to each band's energy: 16-bit silence stays finite, and quantisation noise stays below it."""

    def __init__(self, config: LogMelConfig | MFCCConfig) -> None:
        super().__init__()
        self.spectrum = MelSpectrum(config, padding="reflect", mean_power=False)
        self.shape = (config.n_mels, self.spectrum.num_frames)

    def of_energy(self, energy: Tensor) -> Tensor:
        """Returns the features [B, C, F] of mel energies [B, F, n_mels]."""
        return self.of_log(torch.log(energy + self.FLOOR))

    def of_log(self, log_mel: Tensor) -> Tensor:
        """Returns the features [B, C, F] of logarithms of mel energies [B, F, n_mels]."""
        return log_mel.transpose(1, 2)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the features [B, C, F] of waveforms [B, T]."""
        return self.of_energy(self.spectrum(waveforms))


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients (Davis & Mermelstein, 1980): orthonormal DCT-II of the log-mel features."""

    transform: Tensor

    def __init__(self, config: MFCCConfig) -> None:
        super().__init__(config)
        self.shape = (config.n_mfcc, self.spectrum.num_frames)
        create_dct = import_torchaudio().functional.create_dct
        transform = create_dct(config.n_mfcc, config.n_mels, norm="ortho")  # [n_mels, n_mfcc]
        self.register_buffer("transform", transform.T.contiguous(), persistent=False)

    def of_log(self, log_mel: Tensor) -> Tensor:
        """Returns the coefficients [B, C, F] of logarithms of mel energies [B, F, n_mels]."""
        return self.transform @ super().of_log(log_mel)


class Normalizer(nn.Module):
    """Features of zero mean and unit variance: [B, C, F] -> [B, C, F].

    `utterance`: over each utterance's frames, each channel's mean, and one deviation for all channels, so that the
    spectrum's shape in time stays. `corpus`: per channel, statistics of the training corpus, kept with the weights.
    `none`: as they are. Starts with the statistics of already normal features.

    Args:
        kind: none, utterance or corpus.
        channels: C.
    """

    EPSILON = 1e-4
    """Small beside any speech, large beside the rounding of silence."""

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "corpus":
            self.register_buffer("mean", torch.zeros(channels, 1))
            self.register_buffer("std", torch.ones(channels, 1))

    def forward(self, features: Tensor, reference: Tensor | None = None) -> Tensor:
        """Returns the normalised features [B, C, F]; silence becomes zeros.

        Args:
            features: [B, C, F].
            reference: [B, C, F], whose utterances give mean and deviation instead.
        """
        if self.kind == "none":
            return features
        if self.kind == "corpus":
            return (features - self.mean) / self.std
        basis = features if reference is None else reference
        # Levels below the loudest: a mean of equal numbers is seldom that number, and silence has to become zeros.
        peak = basis.amax(dim=(1, 2), keepdim=True)
        features, basis = features - peak, basis - peak
        mean = basis.mean(dim=2, keepdim=True)
        deviation = (basis - mean).square().mean(dim=(1, 2), keepdim=True).sqrt()
        return (features - mean) / (deviation + self.EPSILON)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Stores the training corpus's mean and standard deviation, each [C]."""
        self.mean.copy_(mean[:, None])
        self.std.copy_(std[:, None].clamp_min(self.EPSILON))
