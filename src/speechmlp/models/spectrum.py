"""Mel energies of waveforms.

Dimension key: `B` batch, `T` samples, `C` mel bands, `F` frames.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.config.schema import MelConfig


class MelSpectrum(nn.Module):
    """Energies of mel-spaced triangular bands (HTK scale): [B, T] -> [B, F, C], F = 1 + T // hop_length.

    Power spectrum of centred Hann frames. With bands of unit height the same numbers as
    `torchaudio.transforms.MelSpectrogram`, which the tests compare with.

    Args:
        config: sizes in samples, edges in Hz.
        padding: what lies before and after the second: reflect or constant (zeros).
        mean_power: weights of a band sum to one at most, so that white noise is flat, instead of unit height.
        audio: the input of the model.
    """

    window: Tensor
    bands: Tensor
    edges: Tensor
    frequency: Tensor

    def __init__(self, config: MelConfig, padding: str, mean_power: bool, audio: AudioInput = DEFAULT_INPUT) -> None:
        super().__init__()
        self.n_fft, self.hop_length = config.n_fft, config.hop_length
        self.rate, self.num_samples = audio.sample_rate, audio.num_samples
        self.num_frames = 1 + audio.num_samples // config.hop_length
        self.padding, self.mean_power = padding, mean_power
        before = (config.n_fft - config.win_length) // 2
        hann = torch.hann_window(config.win_length, dtype=torch.float32)
        window = F.pad(hann, (before, config.n_fft - config.win_length - before))
        low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (config.f_min, config.f_max))
        mels = torch.linspace(low, high, config.n_mels + 2, dtype=torch.float32)
        edges = 700 * (torch.exp(mels * (math.log(10) / 2595)) - 1)
        self.register_buffer("window", window, persistent=False)  # [n_fft]
        self.register_buffer("edges", edges, persistent=False)  # [C + 2], Hz
        frequency = torch.linspace(0, self.rate / 2, config.n_fft // 2 + 1, dtype=torch.float32)
        self.register_buffer("frequency", frequency, persistent=False)  # [n_fft // 2 + 1], Hz
        bands = self.stretched_bands(torch.ones(1, dtype=torch.float32))[0]
        self.register_buffer("bands", bands, persistent=False)  # [n_fft // 2 + 1, C]

    def stretched_bands(self, factors: Tensor) -> Tensor:
        """Returns bands [B, n_fft // 2 + 1, C] whose frequencies are multiplied by factors [B]: another vocal tract."""
        edges = (self.edges * factors[:, None]).clamp_max(self.rate / 2)[:, None]
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
