"""The aligned front end: a letter's frames at fixed positions, whatever its start, length and loudness.

An MLP by itself does not tolerate shifts. Here the letter's ends are found, its frames are resampled to a fixed
number ("warped"), and the onset and the end are added once more at full resolution, because B/D/E/P/T/V and M/N are
decided within 50 - 80 ms there (non-uniform time resolution after Karnjanadecha & Zahorian, 1999).

Dimension key: `B` batch, `T` samples, `F` frames, `C` mel bands, `K` tokens.
"""

import torch
from torch import Tensor

from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.config.schema import AlignedConfig
from speechmlp.models.augmentation import Augment, Ends, recorded_parts, uniform
from speechmlp.models.endpoints import MIN_FRAMES, EndpointNetwork, EnergyEndpoints
from speechmlp.models.features import FrontEnd
from speechmlp.models.spectrum import MelSpectrum


class Aligned(FrontEnd):
    """Aligned log-mel tokens: [B, T] -> [R, B, C, K], one reading for each of R ways of finding the ends."""

    LEAD = 2
    """Frames before the start and after the end that still belong to the onset and end tokens."""
    SPREAD = 0.3
    """Added to the deviation that features are divided by: flat noise is not blown up to speech."""

    LEARN_EVERY = 4
    """The endpoint network is trained on every fourth utterance of a batch: it needs fewer, and each costs time."""

    spectrum: MelSpectrum
    emphasis: Tensor
    warp: Tensor
    fraction: Tensor
    shift: Tensor
    apart: Tensor

    def __init__(self, config: AlignedConfig, audio: AudioInput = DEFAULT_INPUT) -> None:
        super().__init__()
        self.spectrum = MelSpectrum(config, padding="constant", mean_power=True, audio=audio)
        self.parts = next(parts for parts in range(125, 0, -1) if audio.num_samples % parts == 0)
        # Speech has less energy in high bands: what tells consonants apart there would be lost under the floor.
        rise = config.emphasis * torch.linspace(-0.5, 0.5, config.n_mels, dtype=torch.float32)  # dB
        self.register_buffer("emphasis", 10 ** (rise / 10), persistent=False)  # [C]
        self.floor = 10 ** (-config.dynamic_range / 10)
        self.tokens = (config.warped, config.onset, config.offset)
        self.shape = (config.n_mels, sum(self.tokens))
        self.cells = config.n_mels * config.warped
        self.energy = EnergyEndpoints(self.spectrum.num_frames) if config.endpoints in ("energy", "both") else None
        self.learnt = None
        if config.endpoints in ("learnt", "both"):
            sizes = (config.endpoint_width, config.endpoint_blocks)
            self.learnt = EndpointNetwork(self.spectrum.num_frames, config.n_mels, *sizes)
        warped, onset, offset = self.tokens
        self.register_buffer("warp", (torch.arange(warped, dtype=torch.float32) + 0.5) / warped, persistent=False)
        # A token is at start + fraction x length + shift, in frames, and averages apart x length frames, or one.
        new = self.warp.new_tensor
        fraction = torch.cat([self.warp, new([0.0] * onset), new([1.0] * offset)])
        shift = torch.cat(
            [
                new([-0.5] * warped),
                new(range(onset)) - self.LEAD,
                new(range(offset)) - (offset - self.LEAD),
            ]
        )
        apart = torch.cat([new([1 / warped] * warped), new([0.0] * (onset + offset))])
        self.register_buffer("fraction", fraction, persistent=False)  # [K]
        self.register_buffer("shift", shift, persistent=False)  # [K]
        self.register_buffer("apart", apart, persistent=False)  # [K]

    def log_mel(self, mel: Tensor) -> Tensor:
        """Returns natural logs of emphasised mel energies [B, F, C] with a floor relative to the loudest cell."""
        mel = mel * self.emphasis
        return torch.log(mel + self.floor * mel.amax((1, 2), keepdim=True) + 1e-9)

    def find(self, waveforms: Tensor) -> tuple[Tensor, list[Ends]]:
        """Returns log-mel energies [B, F, C] of waveforms [B, T], and start and end [B] in frames by each way."""
        # Means of means, and levels relative to the loudest cell: a runtime that adds one by one then rounds little.
        offset = (
            waveforms.reshape(-1, self.parts, self.spectrum.num_samples // self.parts).mean(2).mean(1, keepdim=True)
        )
        log_mel = self.log_mel(self.spectrum(waveforms - offset))
        log_mel = log_mel - log_mel.amax((1, 2), keepdim=True)
        return log_mel, [find(log_mel) for find in (self.energy, self.learnt) if find is not None]

    def read(self, found: Tensor, ends: list[Ends], reference: Tensor | None = None) -> Tensor:
        """Returns readings [R, B, C, K] of log-mel energies [B, F, C] between R starts and ends, each [B]."""
        # As one batch: for a single letter most of the time is spent starting operations.
        starts, stops = (torch.cat(each) for each in zip(*ends, strict=True))
        log_mel = found.repeat(len(ends), 1, 1)
        basis = None if reference is None else reference.repeat(len(ends), 1, 1)
        return self.tokens_between(log_mel, starts, stops, reference=basis).view(len(ends), -1, *self.shape)

    def training_features(self, waveforms: Tensor, ends: Ends | None, augment: Augment) -> tuple[Tensor, Tensor]:
        """Returns one augmented reading [B, C, K] of training waveforms, and the loss of the endpoint network.

        The letter's true ends are taken to be those of the recording, which is right if recordings are cut tightly.
        Each utterance is read from these or from the energy's, at random, so that the classifier is trained on the
        errors of both.
        """
        start, end = recorded_parts(waveforms) if ends is None else ends
        start, end = start / self.spectrum.hop_length, end / self.spectrum.hop_length
        with torch.no_grad():
            log_mel = self.log_mel(augment.mel(waveforms - waveforms.mean(1, keepdim=True), self.spectrum))
        loss = log_mel.new_zeros(())
        if self.learnt is not None:
            some = slice(None, None, self.LEARN_EVERY)
            loss = self.learnt.loss(log_mel[some], start[some], end[some])
        with torch.no_grad():
            if self.energy is not None:
                factor = torch.exp(uniform(len(start), 1, low=-0.4, high=0.4, like=start))
                by_energy = self.energy(log_mel, factor)
                chosen = torch.rand_like(start) < (1.0 if self.learnt is None else 0.5)
                start, end = torch.where(chosen, by_energy[0], start), torch.where(chosen, by_energy[1], end)
            start, end = augment.endpoints(start, end)
            return self.tokens_between(log_mel, start, torch.maximum(end, start + MIN_FRAMES), augment), loss

    def tokens_between(
        self,
        log_mel: Tensor,
        start: Tensor,
        end: Tensor,
        augment: Augment | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Returns normalised tokens [B, C, K]: warped ones, then those of the onset, then those of the end.

        Args:
            log_mel: [B, F, C].
            start: [B], in frames.
            end: [B], in frames, not included.
            augment: bends the time axis of the warped tokens.
            reference: [B, F, C], from whose letters mean and deviation are computed instead.
        """
        length = (end - start)[:, None]
        fraction = self.fraction[None]
        if augment is not None:
            position = augment.time_warp(self.warp, len(start))
            fraction = torch.cat([position, fraction[:, len(self.warp) :].expand(len(position), -1)], 1)
        positions = start[:, None] + length * fraction + self.shift  # [B, K]
        widths = (length * self.apart).clamp_min(1)  # [B, K]
        # Linear interpolation as one matrix product; where tokens are further apart than frames, a triangle as wide as
        # their distance averages what lies between.
        last = log_mel.shape[1] - 1
        frame = torch.arange(last + 1, device=log_mel.device)
        weight = (1 - (positions.clamp(0, last)[..., None] - frame).abs() / widths[..., None]).clamp_min(0)  # [B, K, F]
        weight = weight / weight.sum(2, keepdim=True).clamp_min(1e-6)
        tokens = weight @ log_mel  # [B, K, C]
        letter = (tokens if reference is None else weight @ reference)[:, : len(self.warp)]
        mean = letter.mean(2, keepdim=True).mean(1, keepdim=True)
        squares = (letter - mean).square().mean(2, keepdim=True).mean(1, keepdim=True)
        deviation = (squares * (self.cells / (self.cells - 1))).sqrt()
        return ((tokens - mean) / (deviation + self.SPREAD)).transpose(1, 2)
