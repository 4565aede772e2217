"""The classifier in a form that can be exported, and the comparison of exported files with it.

It includes the front end: waveforms in, probabilities out. `formats` writes the files.

Dimension key: `N` waveforms, `T` samples, `F` frames, `C` mel bands, `K` frequencies inside the bands,
`L` labels.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp import __version__
from speechmlp.audio_format import DEFAULT_INPUT, FULL_SCALE, AudioInput
from speechmlp.models.aligned import Aligned
from speechmlp.models.spectrum import MelSpectrum
from speechmlp.runs.checkpoint import Checkpoint

UNDECIDED = 2e-5
"""Difference of a probability between float64 and float32 above which the answer depends on rounding."""

Predictor = Callable[[Tensor], Tensor]
"""From waveforms float32 [N, T] to probabilities float32 [N, L]."""


class PortableClassifier(nn.Module):
    """The exported module: waveforms float32 [N, T] -> probabilities [N, L]; has a copy of the model.

    Args:
        checkpoint: the model and its temperature.
        ends: whether start and end of the letter are returned too, [N, 2] in samples, if the front end finds them.
    """

    def __init__(self, checkpoint: Checkpoint, ends: bool = False) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(checkpoint.model).eval()
        self.temperature = checkpoint.temperature
        self.ends = ends and isinstance(self.classifier.front_end, Aligned)

    def forward(self, waveforms: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the probabilities [N, L] of waveforms [N, T], and perhaps start and end [N, 2] of the letter."""
        front_end = self.classifier.front_end
        found, ends = front_end.find(waveforms)
        probabilities = (self.classifier.of_readings(front_end.read(found, ends)) / self.temperature).softmax(1)
        if not self.ends or front_end.spectrum is None:
            return probabilities
        return probabilities, torch.stack(ends[-1], 1).to(waveforms.dtype) * front_end.spectrum.hop_length


class FoldedSpectrum(nn.Module):
    """`MelSpectrum` as two matrix products: [N, T] -> [N, F, C].

    The window is symmetric, so the cosine part of the Fourier transform needs only the sum of a frame and its mirror
    image, the sine part their difference: half the products, for the frequencies inside the bands alone. ONNX has a
    Fourier transform too, but runtimes for phones and browsers lack it, and that of ONNX Runtime is slower than this.
    """

    frequency: Tensor
    circle: Tensor
    window: Tensor
    bands: Tensor

    def __init__(self, spectrum: MelSpectrum) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.padding = spectrum.n_fft, spectrum.hop_length, spectrum.padding
        self.num_frames, self.num_samples = spectrum.num_frames, spectrum.num_samples
        sample = spectrum.window.nonzero()[:, 0]
        self.before = self.n_fft // 2 - int(sample[0])
        self.taps = len(sample)
        window = spectrum.window[sample[self.taps // 2 :]].clone()
        if self.taps % 2:
            window[0] /= 2  # the middle is its own mirror image
        frequency = spectrum.bands.sum(1).nonzero()[:, 0]
        angle = math.pi / self.n_fft * torch.arange(2 * self.n_fft, dtype=torch.float64)
        self.register_buffer("frequency", frequency)  # [K]
        self.register_buffer("circle", torch.stack([angle.cos(), angle.sin()]).float())  # [2, 2 n_fft]
        self.register_buffer("window", window[:, None])  # [H, 1], the second half
        self.register_buffer("bands", spectrum.bands[frequency])  # [K, C]

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the mel energies [N, F, C] of waveforms [N, T]."""
        # From integers and a table, so that the file stays small; a runtime computes it once. The middle of the window
        # is at a sample or between two, so offsets count half samples.
        offset = 2 * torch.arange(len(self.window), device=waveforms.device) + 1 - self.taps % 2
        cosines, sines = self.circle[:, offset[:, None] * self.frequency % (2 * self.n_fft)] * self.window  # [H, K]
        # Frames are built from pieces of one hop, because slices are faster than indexing every sample.
        pieces = -(-self.taps // self.hop_length)
        length = (self.num_frames + pieces - 1) * self.hop_length
        sides = (self.before, length - self.num_samples - self.before)
        padded = F.pad(waveforms[:, None], sides, mode=self.padding)
        hops = padded.reshape(-1, length // self.hop_length, self.hop_length)
        frames = torch.cat([hops[:, first : first + self.num_frames] for first in range(pieces)], 2)
        second, first = frames[..., self.taps // 2 : self.taps], frames[..., : len(self.window)].flip(2)
        cosine, sine = (second + first) @ cosines, (second - first) @ sines  # [N, F, K]
        mel: Tensor = (cosine * cosine + sine * sine) @ self.bands
        return mel


def describe(checkpoint: Checkpoint, name: str) -> dict[str, str]:
    """Returns the metadata of an exported model.

    Args:
        checkpoint: the model.
        name: of the model.
    """
    return {
        "name": name,
        "speechmlp": __version__,
        "labels": "\n".join(checkpoint.config.labels),
        "sample_rate": str(checkpoint.model.audio.sample_rate),
        "num_samples": str(checkpoint.model.audio.num_samples),
        "temperature": repr(checkpoint.temperature),
        "reject_below": repr(checkpoint.reject_below),
        "front_end": checkpoint.config.front_end.model_dump_json(),
        "model": checkpoint.config.model.model_dump_json(),
    }


@dataclass(frozen=True)
class Parity:
    """The difference between an exported model and its checkpoint in PyTorch.

    Attributes:
        compared: number of compared waveforms.
        undecided: number of further waveforms, for which PyTorch's own answer depends on rounding.
        difference: largest difference of a probability; infinite if one is NaN, or if nothing was compared.
        other_letters: number of waveforms with another most probable letter.
    """

    compared: int
    undecided: int
    difference: float
    other_letters: int


@torch.inference_mode()
def compare(checkpoint: Checkpoint, predictor: Predictor, waveforms: Tensor) -> Parity:
    """Returns the difference between an exported model and its checkpoint on waveforms [N, T]."""
    logits = checkpoint.model(waveforms)
    expected = (logits / checkpoint.temperature).softmax(1)
    exact = PortableClassifier(checkpoint).double()(waveforms.double())
    decided = (expected - exact).abs().amax(1) <= UNDECIDED
    found = predictor(waveforms)
    difference = (found - expected)[decided].abs().nan_to_num(math.inf).amax().item() if decided.any() else math.inf
    other = (found.argmax(1) != expected.argmax(1))[decided].sum().item()
    return Parity(int(decided.sum()), int((~decided).sum()), difference, int(other))


def odd_waveforms(audio: AudioInput = DEFAULT_INPUT) -> Tensor:
    """Returns waveforms [N, T] for the comparison: silence, noise, tones, impulses, letter-like sounds anywhere."""
    rate, size = audio.sample_rate, audio.num_samples
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(size)
    noise = torch.randn(size, generator=generator)
    hum = torch.sin(2 * math.pi * 50 / rate * time)
    odd = [
        torch.zeros(size),
        torch.full((size,), 0.5),
        0.5 + 1e-4 * noise,
        (1e-5 * noise).mul(FULL_SCALE).round() / FULL_SCALE,
        *(level * noise for level in (1e-4, 1e-2, 0.3)),
        noise.clamp(-1, 1),
        noise.sign(),
        1 - 2.0 * (time % 2),
        hum,
        hum.sign(),
        0.5 * torch.sin(2 * math.pi * 1000 / rate * time),
        *((time == position).float() for position in (0, size // 2, size - 1)),
        (time % 5000 == 0).float(),
    ]
    lengths = [length for length in (320, 1600, 4000, 8000) if length < size] + [size]
    for number, length in enumerate(lengths):
        for position in (0, (size - length) // 2, size - length):
            pitch = 90 * 1.15 ** len(odd) % 200 + 80
            harmonics = torch.arange(1, int(7000 / pitch))[:, None]
            formants = sum(
                torch.exp(-(((harmonics * pitch - f) / 200) ** 2))
                for f in (300 + 90 * number, 2000 - position / (size / 800))
            )
            sound = (formants * torch.sin(2 * math.pi * pitch / rate * harmonics * time[:length])).sum(0)
            voice = 1e-3 * noise
            voice[position : position + length] += 0.3 * sound / sound.abs().amax()
            odd += [voice, (20 * voice).clamp(-1, 1), voice + 0.1 * noise, 1e-3 * voice]
    return torch.stack(odd)
