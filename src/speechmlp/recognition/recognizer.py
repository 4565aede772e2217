"""A trained model as a function from recordings to letters.

    recognizer = load_recognizer()
    recognition = recognizer(waveform, sample_rate)
    print(recognition.letter, recognition.probability)

Dimension key: `N` recordings, `B` batch, `C` channels, `T` samples.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.decoding import MAX_PEAK, MAX_SAMPLE_RATE, fit_one_second, load, second_start, to_mono_16k
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.models.inference import EVALUATION_BATCH, select_device
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint

WEIGHTS = Path(__file__).parents[1] / "weights" / "letters.pt"
"""The model in the package; its model card is README.md in the same folder."""
MAX_CHANNELS = 64

Waveform = Tensor | NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Recognition:
    """The letter recognised in a recording.

    Attributes:
        letter: A to Z, or None if rejected: the most probable letter is below the threshold.
        probability: of the most probable letter, even if rejected.
        ranked: all 26 letters with their probabilities, the most probable first.
        start: start of the letter in seconds; None if rejected, or if the model's front end finds no endpoints.
        end: end of the letter in seconds, or None.
    """

    letter: str | None
    probability: float
    ranked: tuple[tuple[str, float], ...]
    start: float | None = None
    end: float | None = None

    @property
    def declined(self) -> bool:
        """Whether the recording was rejected as a non-letter."""
        return self.letter is None


@dataclass(frozen=True)
class Second:
    """The second of a recording that is the model's input.

    Attributes:
        waveform: float32 [16000] at 16 kHz, rounded to 16 bits as in a packed corpus.
        first: its start in the recording, in samples at 16 kHz; negative if the recording is shorter.
        length: of the whole recording, in samples at 16 kHz.
    """

    waveform: Tensor
    first: int
    length: int

    @classmethod
    def of(cls, mono: Tensor) -> "Second":
        """Returns the second of a waveform [T] at 16 kHz."""
        waveform = fit_one_second(mono)[0]
        rounded = (waveform * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE
        return cls(rounded, second_start(mono), len(mono))


def as_mono(waveform: Waveform, sample_rate: int) -> Tensor:
    """Returns a waveform as float32 [T] at 16 kHz.

    Args:
        waveform: [T] or [C, T]; floats between -1 and 1, or integers in the full range of their type.
        sample_rate: Hz.

    Raises:
        UserError: the waveform is empty, has another shape, is not finite or not scaled, or the rate is invalid.
    """
    samples = torch.as_tensor(waveform).detach().cpu()
    if samples.dim() == 1:
        samples = samples[None]
    shape = list(samples.shape)
    if samples.dim() != 2 or not 0 < shape[0] <= MAX_CHANNELS:
        raise UserError(f"waveform: expected samples [T] or [C, T], found shape {shape}; [T, C] has to be transposed")
    if not shape[1]:
        raise UserError("waveform: expected samples, found none")
    if not 0 < sample_rate <= MAX_SAMPLE_RATE:
        raise UserError(f"sample_rate: expected 1 to {MAX_SAMPLE_RATE} Hz, found {sample_rate}")
    if samples.dtype == torch.uint8:
        samples = (samples.float() - 128) / 128
    elif not samples.is_floating_point():
        if samples.is_complex() or samples.dtype == torch.bool:
            raise UserError(f"waveform: expected real samples, found {samples.dtype}")
        samples = samples.double() / (torch.iinfo(samples.dtype).max + 1.0)
    samples = samples.float()
    peak = samples.abs().amax().item()
    if not math.isfinite(peak):
        raise UserError("waveform: holds NaN or infinite samples; expected finite ones")
    if peak > MAX_PEAK:
        raise UserError(f"waveform: expected samples between -1 and 1, found {peak:g}; divide by the full scale")
    return to_mono_16k(samples, int(sample_rate))


def _chunks(things: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(things)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Recognizer:
    """A trained classifier that takes recordings of any rate and length; safe to share between threads.

    Attributes:
        checkpoint: the model with its configuration, temperature and rejection threshold.
        device: device of the computation; the checkpoint's model is moved there.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._model = checkpoint.model.to(device).eval()

    def __call__(self, waveform: Waveform, sample_rate: int) -> Recognition:
        """Returns the letter of a recording of any rate and length; of a long one, the letter in its loudest second.

        Args:
            waveform: [T] or [C, T]; floats between -1 and 1, or integers in the full range of their type.
            sample_rate: Hz.

        Raises:
            UserError: the waveform is invalid, see `as_mono`.
        """
        return self.recognize([Second.of(as_mono(waveform, sample_rate))])[0]

    def many(self, recordings: Iterable[tuple[Waveform, int]]) -> Iterator[Recognition]:
        """Yields the letter of each (waveform, sample rate) in order, computed in batches.

        Raises:
            UserError: a waveform is invalid, see `as_mono`.
        """
        for chunk in _chunks(recordings, EVALUATION_BATCH):
            yield from self.recognize([Second.of(as_mono(waveform, rate)) for waveform, rate in chunk])

    def files(self, paths: Iterable[str | Path]) -> Iterator[Recognition | UserError]:
        """Yields the letter of each file in order, or the error if it cannot be read.

        Threads decode the files; at most a few batches are in memory.
        """

        def decode(path: str | Path) -> Second | UserError:
            try:
                return Second.of(to_mono_16k(*load(path)))
            except UserError as error:
                return error

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for chunk in _chunks(paths, EVALUATION_BATCH):
                read = list(pool.map(decode, chunk))
                found = iter(self.recognize([second for second in read if isinstance(second, Second)]))
                for second in read:
                    yield second if isinstance(second, UserError) else next(found)

    @torch.inference_mode()
    def recognize(self, seconds: Sequence[Second]) -> list[Recognition]:
        """Returns the letters of a batch of seconds."""
        if not seconds:
            return []
        waveforms = torch.stack([second.waveform for second in seconds]).to(self.device)
        front_end = self._model.front_end
        found, ends = front_end.find(waveforms)
        logits = self._model.of_readings(front_end.read(found, ends))
        spans: list[list[float]] | None = None
        if ends and front_end.spectrum is not None:
            # The last endpoints are those of the trained finder, if the model has one.
            spans = (torch.stack(ends[-1], 1).cpu() * front_end.spectrum.hop_length).tolist()
        probabilities = (logits.cpu().double() / self.checkpoint.temperature).softmax(1)
        values, order = probabilities.sort(dim=1, descending=True, stable=True)
        return [
            self._recognition(second, row, letters, spans[number] if spans else None)
            for number, (second, row, letters) in enumerate(zip(seconds, values.tolist(), order.tolist(), strict=True))
        ]

    def _recognition(
        self, second: Second, probabilities: list[float], order: list[int], span: list[float] | None
    ) -> Recognition:
        ranked = tuple((LETTERS[label], value) for label, value in zip(order, probabilities, strict=True))
        letter, probability = ranked[0]
        if probability < self.checkpoint.reject_below:
            return Recognition(None, probability, ranked)
        if span is None:
            return Recognition(letter, probability, ranked)
        start, end = (min(max(0.0, second.first + sample), second.length) / SAMPLE_RATE for sample in span)
        return Recognition(letter, probability, ranked, start, end)


def load_recognizer(checkpoint: str | Path | None = None, device: str = "auto") -> Recognizer:
    """Returns a recognizer, used as `load_recognizer()(waveform, sample_rate).letter`.

    Args:
        checkpoint: a `best.pt`; None for the model in the package.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: the checkpoint cannot be read, or the device does not exist.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")
    if checkpoint is None and not WEIGHTS.exists():
        raise UserError(f"{WEIGHTS}: the package contains no model; name a checkpoint, or install it again")
    return Recognizer(load_checkpoint(WEIGHTS if checkpoint is None else checkpoint), select_device(device))
