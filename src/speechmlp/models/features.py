"""Front ends: from waveforms to the features that the dense layers get. They are part of the model.

Dimension key: `B` batch, `T` samples, `C` channels or bands, `F` frames, `R` readings.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.config.schema import MelConfig, MFCCConfig
from speechmlp.environment import import_torchaudio
from speechmlp.models.augmentation import Augment, Ends
from speechmlp.models.spectrum import MelSpectrum


class FrontEnd(nn.Module, ABC):
    """From waveforms [B, T] to features [R, B, C, F]: the interface of all front ends.

    `find` computes what features are read from and where the letter is in it; `read` computes the features. Most front
    ends give one reading of an utterance; one that finds the letter in R ways gives R.

    Attributes:
        shape: C and F of the features.
        spectrum: the mel energies that it starts from; None for a front end without mel bands.
    """

    shape: tuple[int, int]
    spectrum: MelSpectrum | None

    @abstractmethod
    def find(self, waveforms: Tensor) -> tuple[Tensor, list[Ends]]:
        """Returns what features are read from, and where the letter starts and ends in it.

        Args:
            waveforms: [B, T].

        Returns:
            Natural logarithms of mel energies [B, F, C], or the waveforms [B, T] for a front end without mel bands; and
            starts and ends, each [B] in frames, for each of R ways to find them. The list is empty for a front end that
            reads the whole second.
        """

    @abstractmethod
    def read(self, found: Tensor, ends: list[Ends], reference: Tensor | None = None) -> Tensor:
        """Returns features [R, B, C, F], before normalisation, of what `find` returns.

        Args:
            found: [B, F, C] or [B, T].
            ends: R starts and ends; empty for a front end that reads the whole second.
            reference: as `found`; a front end that normalises takes mean and deviation from it instead.
        """

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the features [R, B, C, F], before normalisation, of waveforms [B, T]."""
        return self.read(*self.find(waveforms))

    @abstractmethod
    def training_features(self, waveforms: Tensor, ends: Ends | None, augment: Augment) -> tuple[Tensor, Tensor]:
        """Returns features [B, C, F], before normalisation, for training, and a loss of the front end's own.

        Args:
            waveforms: [B, T], as `augment.waveforms` leaves them.
            ends: of the recorded parts, [B] in samples; None if they were not moved.
            augment: changes the mel energies.
        """


class Raw(FrontEnd):
    """The samples themselves, as one channel: [B, T] -> [1, B, 1, T]."""

    def __init__(self, audio: AudioInput = DEFAULT_INPUT) -> None:
        super().__init__()
        self.shape = (1, audio.num_samples)
        self.spectrum = None

    def find(self, waveforms: Tensor) -> tuple[Tensor, list[Ends]]:
        """Returns the waveforms [B, T], and no ends."""
        return waveforms, []

    def read(self, found: Tensor, ends: list[Ends], reference: Tensor | None = None) -> Tensor:
        """Returns the waveforms [B, T] as features [1, B, 1, T]."""
        del ends, reference
        return found.unsqueeze(1)[None]

    @torch.no_grad()
    def training_features(self, waveforms: Tensor, ends: Ends | None, augment: Augment) -> tuple[Tensor, Tensor]:
        """Returns the waveforms [B, T] as features [B, 1, T], and no loss."""
        del ends, augment
        return self(waveforms)[0], waveforms.new_zeros(())


class LogMel(FrontEnd):
    """Natural logarithm of mel energies, with a floor: [B, T] -> [1, B, C, F].

    Args:
        config: sizes in samples, edges in Hz.
        audio: the input of the model.
    """

    FLOOR = 1e-6
    """Added to each band's energy: 16-bit silence stays finite, and quantisation noise stays below it."""

    spectrum: MelSpectrum

    def __init__(self, config: MelConfig, audio: AudioInput = DEFAULT_INPUT) -> None:
        super().__init__()
        self.spectrum = MelSpectrum(config, padding="reflect", mean_power=False, audio=audio)
        self.shape = (config.n_mels, self.spectrum.num_frames)

    def log_mel(self, energy: Tensor) -> Tensor:
        """Returns natural logarithms of mel energies [B, F, n_mels]."""
        return torch.log(energy + self.FLOOR)

    def find(self, waveforms: Tensor) -> tuple[Tensor, list[Ends]]:
        """Returns log-mel energies [B, F, n_mels] of waveforms [B, T], and no ends."""
        return self.log_mel(self.spectrum(waveforms)), []

    def read(self, found: Tensor, ends: list[Ends], reference: Tensor | None = None) -> Tensor:
        """Returns the features [1, B, C, F] of log-mel energies [B, F, n_mels]."""
        del ends, reference
        return self.coefficients(found)[None]

    def coefficients(self, log_mel: Tensor) -> Tensor:
        """Returns the features [B, C, F] of log-mel energies [B, F, n_mels]."""
        return log_mel.transpose(1, 2)

    @torch.no_grad()
    def training_features(self, waveforms: Tensor, ends: Ends | None, augment: Augment) -> tuple[Tensor, Tensor]:
        """Returns augmented features [B, C, F] of waveforms [B, T], and no loss."""
        del ends
        features = self.coefficients(self.log_mel(augment.mel(waveforms, self.spectrum)))
        return features, features.new_zeros(())


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients (Davis & Mermelstein, 1980): orthonormal DCT-II of the log-mel features."""

    transform: Tensor

    def __init__(self, config: MFCCConfig, audio: AudioInput = DEFAULT_INPUT) -> None:
        super().__init__(config, audio)
        self.shape = (config.n_mfcc, self.spectrum.num_frames)
        create_dct = import_torchaudio().functional.create_dct
        transform = create_dct(config.n_mfcc, config.n_mels, norm="ortho")  # [n_mels, n_mfcc]
        self.register_buffer("transform", transform.T.contiguous(), persistent=False)

    def coefficients(self, log_mel: Tensor) -> Tensor:
        """Returns the coefficients [B, C, F] of log-mel energies [B, F, n_mels]."""
        return self.transform @ super().coefficients(log_mel)


class Normalizer(nn.Module):
    """Normalises features to zero mean and unit variance: [B, C, F] -> [B, C, F].

    `utterance`: over each utterance's frames, each channel's mean, and one deviation for all channels, so that the
    spectrum's shape in time stays. `corpus`: per channel, statistics of the training corpus, kept with the weights.
    `none`: as they are. Starts with the statistics of already normal features.

    Args:
        kind: none, utterance or corpus.
        channels: C.
    """

    EPSILON = 1e-4
    """Small compared with any speech, large compared with the rounding of silence."""

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
            reference: [B, C, F], from whose utterances mean and deviation are computed instead.
        """
        if self.kind == "none":
            return features
        if self.kind == "corpus":
            return (features - self.mean) / self.std
        basis = features if reference is None else reference
        # Relative to the loudest cell: a mean of equal numbers is seldom exactly that number, and silence should be
        # zeros.
        peak = basis.amax(dim=(1, 2), keepdim=True)
        features, basis = features - peak, basis - peak
        mean = basis.mean(dim=2, keepdim=True)
        deviation = (basis - mean).square().mean(dim=(1, 2), keepdim=True).sqrt()
        return (features - mean) / (deviation + self.EPSILON)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Stores the training corpus's mean and standard deviation, each [C]."""
        self.mean.copy_(mean[:, None])
        self.std.copy_(std[:, None].clamp_min(self.EPSILON))
