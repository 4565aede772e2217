"""Augmentation: batched layers on the device, active in training only, each switched on by its setting.

Speed, position, clipping, gain and companding act on waveforms. Everything that can be computed on powers (vocal tract,
reverberation, noise, babble, channel, telephone band) acts on mel energies after one Fourier transform, which is
faster.

Dimension key: `B` batch, `T` samples, `F` frames, `C` mel bands, `K` tokens.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.config.schema import AugmentConfig
from speechmlp.models.spectrum import MelSpectrum

Ends = tuple[Tensor, Tensor]
"""Starts and ends, each [B], the ends not included."""


def uniform(*shape: int, low: float, high: float, like: Tensor) -> Tensor:
    """Returns numbers drawn uniformly from low to high, on the device of `like`."""
    return low + (high - low) * torch.rand(shape, device=like.device)


def chance(*shape: int, probability: float, like: Tensor) -> Tensor:
    """Returns ones with a probability, zeros otherwise, on the device of `like`."""
    return (torch.rand(shape, device=like.device) < probability).float()


def some_rows(count: int, fraction: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns distinct random rows out of `count`, and whether each counts, on the device of `like`.

    On average that fraction of all rows counts: the last one does at random. The number of rows is not drawn, so
    that a CUDA graph can repeat the operations on them.
    """
    number = fraction * count
    rows = torch.randperm(count, device=like.device)[: math.ceil(number)]
    index = torch.arange(len(rows), device=like.device)
    return rows, index + torch.rand((), device=like.device) < number


def decibels(level: Tensor) -> Tensor:
    """Returns power ratios of levels in dB."""
    return torch.pow(10.0, level / 10)


def recorded_parts(waveforms: Tensor) -> Ends:
    """Returns where the recorded parts of waveforms [B, T] start and end, in samples: what lies between zeros."""
    recorded = (waveforms != 0).view(torch.uint8)  # argmax takes no booleans
    return recorded.argmax(1).float(), waveforms.shape[1] - recorded.flip(1).argmax(1).float()


class Augment(nn.Module):
    """The augmentations of a configuration; draws from torch's generator, so the seed determines them.

    They come in two stages: `waveforms` changes waveforms, then `mel` changes their mel energies. `mask`, `endpoints`
    and `time_warp` change what front ends make of those.
    """

    STRETCHES = 65
    """Vocal tracts to choose from: new bands for every utterance would take longer to compute than to use."""
    ROOMS = 33
    """Reverberation times to choose from, 0.1 to 0.6 s; few, for the same reason."""

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config
        self._stretched: Tensor | None = None  # [STRETCHES, n_fft // 2 + 1, C]
        self._tails: Tensor | None = None  # [ROOMS, F, F]

    def waveforms(self, waveforms: Tensor) -> tuple[Tensor, Ends | None]:
        """Returns waveforms [B, T] at another speed, position and level, and the ends of their recorded parts.

        Speed changes pitch and formants too, as a tape does. Ends are in samples; None if nothing was changed, because
        `recorded_parts` takes time and most front ends do not need it.
        """
        config, (count, samples) = self.config, waveforms.shape
        if not any((config.speed, config.shift, config.clip, config.gain, config.companding)):
            return waveforms, None
        start, end = recorded_parts(waveforms)
        speed = torch.exp(uniform(count, low=-config.speed, high=config.speed, like=waveforms))
        half, middle = (end - start) / 2 / speed, (end + start) / 2
        room = (samples / 2 - half).clamp_min(0) + 0.15 * half * chance(count, probability=config.edge, like=waveforms)
        centre = samples / 2 + config.shift * room * uniform(count, low=-1, high=1, like=waveforms)
        if not config.shift:
            centre = middle
        # Linear interpolation between neighbours, with zeros before and after the second. All samples are one row,
        # because its indices may be 32-bit numbers; `gather` needs 64-bit ones and takes twice as long.
        time = torch.arange(samples, device=waveforms.device)
        source = ((time - centre[:, None]) * speed[:, None] + (middle + 1)[:, None]).clamp_(0, samples + 1)
        before = source.to(torch.int32)
        weight = source.sub_(before).view(-1)
        padded = F.pad(waveforms, (1, 2))
        before += padded.shape[1] * torch.arange(count, dtype=torch.int32, device=waveforms.device)[:, None]
        before, line = before.view(-1), padded.view(-1)
        moved = torch.lerp(line.index_select(0, before), line[1:].index_select(0, before), weight).view(count, samples)
        if config.clip:
            rows, counts = some_rows(count, config.clip, moved)
            loud = moved[rows]
            limit = loud.abs().amax(1, keepdim=True) * uniform(len(rows), 1, low=0.2, high=0.9, like=moved)
            moved[rows] = torch.where(counts[:, None], loud.clamp(-limit, limit), loud)
        if config.gain:
            moved = moved * decibels(uniform(count, 1, low=-config.gain, high=config.gain, like=moved) / 2)
        if config.companding:
            rows, counts = some_rows(count, config.companding, moved)
            moved[rows] = torch.where(counts[:, None], self.companded(moved[rows]), moved[rows])
        return moved, ((centre - half).clamp(0, samples), (centre + half).clamp(0, samples))

    @staticmethod
    def companded(waveforms: Tensor) -> Tensor:
        """Returns waveforms as the 8 bits of a telephone exchange leave them (mu-law, ITU-T G.711)."""
        loudness = torch.log1p(255 * waveforms.abs().clamp_max(1)) / math.log(256)
        steps = (loudness * 127).round() / 127
        return waveforms.sign() * torch.expm1(steps * math.log(256)) / 255

    def mel(self, waveforms: Tensor, spectrum: MelSpectrum) -> Tensor:
        """Returns augmented mel energies [B, F, C] of waveforms [B, T]."""
        config, count = self.config, len(waveforms)
        power = spectrum.power(waveforms)
        if config.vocal_tract:
            if self._stretched is None:
                factors = torch.linspace(-config.vocal_tract, config.vocal_tract, self.STRETCHES, device=power.device)
                self._stretched = spectrum.stretched_bands(factors.exp())
            energy = power @ self._stretched[torch.randint(self.STRETCHES, (count,), device=power.device)]
        else:
            energy = power @ spectrum.bands
        if config.reverb:
            energy = self._reverberate(energy, spectrum.hop_length / spectrum.rate)
        energy = self._add_noise(energy)
        return self._pass_through_channel(energy)

    def _reverberate(self, energy: Tensor, hop: float) -> Tensor:
        """Adds an exponential tail of powers over time (Polack's model): 60 dB down after 0.1 to 0.6 s."""
        count, frames, _ = energy.shape
        if self._tails is None:
            decay = 6 * math.log(10) / torch.linspace(0.1, 0.6, self.ROOMS, device=energy.device)  # nats a second
            time = torch.arange(frames, device=energy.device) * hop
            lag = time[:, None] - time
            tails = torch.where(lag > 0, torch.exp(-decay[:, None, None] * lag.clamp_min(0)), 0.0)
            self._tails = tails / tails.sum(2).amax(1)[:, None, None].clamp_min(1e-6)
        rows, counts = some_rows(count, self.config.reverb, energy)
        level = counts[:, None, None] * decibels(uniform(len(rows), 1, 1, low=-20, high=-3, like=energy))
        rooms = torch.randint(self.ROOMS, (len(rows),), device=energy.device)
        return energy.index_add(0, rows, level * (self._tails[rooms] @ energy[rows]))

    def _add_noise(self, energy: Tensor) -> Tensor:
        """Adds noise of a random colour, babble of other utterances, and a recorder's floor, at drawn levels."""
        config, (count, _, bands) = self.config, energy.shape
        if not (config.noise or config.babble or config.floor):
            return energy
        loud = energy.sum(2) > 1e-3 * energy.sum(2).amax(1, keepdim=True)
        speech = (energy.sum(2) * loud).sum(1) / loud.sum(1).clamp_min(1)
        level = speech[:, None, None] / bands  # mean power of a band while speaking
        band = torch.linspace(0, 1, bands, device=energy.device)[None]
        # A cell of Gaussian noise is a sum of squares: gamma distributed, drawn by Wilson & Hilferty's cube of a
        # normal.
        freedom = 1 + 7 * band
        cells = 1 - 1 / (9 * freedom) + torch.randn_like(energy) / (3 * freedom.sqrt())
        cells = cells.clamp_min(0.02) ** 3
        noisy = energy
        if config.noise:
            tilt = uniform(count, 1, low=-15, high=15, like=energy) * (band - 0.5)
            wave = uniform(count, 1, low=0.5, high=2, like=energy) * band
            wave = torch.cos(2 * math.pi * (wave + uniform(count, 1, low=0, high=1, like=energy)))
            colour = decibels(tilt + 5 * uniform(count, 1, low=-1, high=1, like=energy) * wave)
            colour = torch.where(chance(count, 1, probability=0.3, like=energy) > 0, torch.ones_like(colour), colour)
            colour = (colour / colour.mean(1, keepdim=True))[:, None]
            rows, ratio = self._drawn(count, config.noise, config.snr, energy)
            noisy = noisy.index_add(0, rows, (level * colour)[rows] * cells[rows] * ratio)
        if config.babble:
            rows, ratio = self._drawn(count, config.babble, config.babble_snr, energy)
            voices = energy[torch.randperm(count, device=energy.device)[: len(rows)]]
            noisy = noisy.index_add(0, rows, self._babble(voices) * level[rows] * ratio)
        if config.floor:
            rows, ratio = self._drawn(count, config.floor, (30.0, 60.0), energy)
            peak = noisy[rows].amax((1, 2), keepdim=True)
            noisy = noisy.index_add(0, rows, peak * cells.roll(1, 0)[rows] * ratio)
        return noisy

    @staticmethod
    def _babble(energy: Tensor) -> Tensor:
        """Returns for each utterance the sum of 4, 8, 16 or 32 others, each moved in time, with a mean power of one.

        A few others sound like a neighbour, many like a canteen. Each doubling adds the moved sum of another utterance.
        """
        count, frames, _ = energy.shape
        time = torch.arange(frames, device=energy.device)

        def others(sums: Tensor) -> Tensor:
            order = torch.randperm(count, device=energy.device)
            moved = (time + torch.randint(frames, (), device=energy.device)) % frames
            return sums.index_select(0, order).index_select(1, moved)

        sums = others(energy / energy.mean((1, 2), keepdim=True).clamp_min(1e-12))
        sums = babble = sums + others(sums)
        doublings = torch.randint(4, (count, 1, 1), device=energy.device)
        for doubling in range(4):
            sums = sums + others(sums)
            babble = torch.where(doublings == doubling, sums, babble)
        return babble / babble.mean((1, 2), keepdim=True).clamp_min(1e-12)

    @staticmethod
    def _drawn(count: int, fraction: float, snr: tuple[float, float], like: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which rows a noise is added to, and its power relative to that of speech there, [rows, 1, 1]."""
        rows, counts = some_rows(count, fraction, like)
        return rows, counts[:, None, None] * decibels(-uniform(len(rows), 1, 1, low=snr[0], high=snr[1], like=like))

    def _pass_through_channel(self, energy: Tensor) -> Tensor:
        """Colours with a tilt and three cosines over the mel axis, and cuts the band as telephones do."""
        config, (count, _, bands) = self.config, energy.shape
        if not (config.tilt or config.equalizer or config.telephone):
            return energy
        band = torch.linspace(0, 1, bands, device=energy.device)[None]
        gain = config.tilt * uniform(count, 1, low=-1, high=1, like=energy) * (band - 0.5)  # dB, [B, C]
        for order in (1, 2, 3):
            phase = 2 * math.pi * uniform(count, 1, low=0, high=1, like=energy)
            height = config.equalizer / order * uniform(count, 1, low=-1, high=1, like=energy)
            gain = gain + height * torch.cos(math.pi * order * band + phase)
        if config.telephone:
            # Half of those touched lose both ends, as on a line, the others one. Of 40 bands to 7.6 kHz, 27 - 31 is
            # where 3.4 - 4 kHz lies, and 4 where 300 Hz does; edges and depths vary, from soft filters to nothing left.
            line = chance(count, 1, probability=config.telephone, like=energy)
            kind = torch.rand(count, 1, device=energy.device)
            usual = uniform(count, 1, low=0.675, high=0.775, like=energy)
            other = uniform(count, 1, low=0.6, high=1.0, like=energy)
            upper = torch.where(chance(count, 1, probability=0.6, like=energy) > 0, usual, other)
            width = uniform(count, 1, low=0.5, high=3, like=energy)
            slope = ((band - upper) * bands / width).clamp(0, 1)
            gain = gain - uniform(count, 1, low=30, high=80, like=energy) * slope * line * (kind < 0.75)
            lower = uniform(count, 1, low=0.0, high=0.2, like=energy)
            width = uniform(count, 1, low=0.5, high=3, like=energy)
            slope = ((lower - band) * bands / width).clamp(0, 1)
            gain = gain - uniform(count, 1, low=15, high=80, like=energy) * slope * line * (kind > 0.25)
        return energy * decibels(gain)[:, None]

    def endpoints(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Returns starts and ends [B] moved by up to `jitter` of the length, each on its own."""
        amount = self.config.jitter * (end - start)
        move = uniform(2, len(start), low=-1, high=1, like=start) * amount
        return start + move[0], end + move[1]

    def time_warp(self, positions: Tensor, count: int) -> Tensor:
        """Returns relative positions 0 to 1 [K], warped monotonically and differently for each utterance: [B, K]."""
        limit = self.config.time_warp
        bends = uniform(count, 2, low=-limit, high=limit, like=positions)
        first = bends[:, :1] * torch.sin(math.pi * positions) / math.pi
        return positions + first + bends[:, 1:] * torch.sin(2 * math.pi * positions) / (2 * math.pi)

    def mask(self, features: Tensor) -> Tensor:
        """Returns features [B, C, K] with stripes of bands and frames zeroed (SpecAugment, Park et al., 2019)."""
        for axis, widest in ((1, self.config.mask_bands), (2, self.config.mask_frames)):
            if widest:
                size = features.shape[axis]
                width = widest * uniform(len(features), 1, low=0, high=1, like=features)
                first = (size - width) * uniform(len(features), 1, low=0, high=1, like=features)
                index = torch.arange(size, device=features.device)[None]
                keep = ~((index >= first) & (index < first + width))
                features = features * (keep[:, :, None] if axis == 1 else keep[:, None])
        return features
