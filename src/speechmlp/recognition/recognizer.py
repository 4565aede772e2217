"""The recognizer: a trained model as a function from recordings to letters.

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
"""The model in the package; its card lies beside it."""
MAX_CHANNELS = 64

Waveform = Tensor | NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Recognition:
    """What was heard in a recording.

    Attributes:
        letter: A to Z, or None when declined: nothing there is a letter with enough certainty.
        probability: of the most probable letter, also when declined.
        ranked: all 26 letters with their probabilities, the most probable first.
        start: where the letter starts, in seconds of the recording; None when declined, and where the model's front end
            finds no endpoints.
        end: where it ends.
    """

    letter: str | None
    probability: float
    ranked: tuple[tuple[str, float], ...]
    start: float | None = None
    end: float | None = None

    @property
    def declined(self) -> bool:
        """Whether this is not a letter."""
        return self.letter is None


@dataclass(frozen=True)
class Second:
    """What the model hears of a recording.

    Attributes:
        waveform: float32 [16000] at 16 kHz, rounded to 16 bits as a packed corpus is.
        first: where it begins in the recording, in samples at 16 kHz; negative where the recording is shorter.
        length: of the whole recording, in samples at 16 kHz.
    """

    waveform: Tensor
    first: int
    length: int

    @classmethod
    def of(cls, mono: Tensor) -> "Second":
        """Returns the second that is heard of a waveform [T] at 16 kHz."""
        waveform = fit_one_second(mono)[0]
        rounded = (waveform * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE
        return cls(rounded, second_start(mono), len(mono))


def as_mono(waveform: Waveform, sample_rate: int) -> Tensor:
    """Returns a waveform as the models take it: float32 [T] at 16 kHz.

    Args:
        waveform: [T] or [C, T]; floats between -1 and 1, or integers, whose full scale is that of their type.
        sample_rate: Hz.

    Raises:
        UserError: it is empty, of another shape, not finite or not scaled, or the rate is impossible.
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
    """A trained classifier in use; may be shared by threads.

    Attributes:
        checkpoint: the model with its configuration, temperature and the probability under which it declines.
        device: where it computes; the checkpoint's model is moved there.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._model = checkpoint.model.to(device).eval()

    def __call__(self, waveform: Waveform, sample_rate: int) -> Recognition:
        """Returns what is heard in a recording of any rate and length; of a long one, in its loudest second.

        Args:
            waveform: [T] or [C, T]; floats between -1 and 1, or integers, whose full scale is that of their type.
            sample_rate: Hz.

        Raises:
            UserError: it cannot be used, as `as_mono`.
        """
        return self.recognize([Second.of(as_mono(waveform, sample_rate))])[0]

    def many(self, recordings: Iterable[tuple[Waveform, int]]) -> Iterator[Recognition]:
        """Yields what is heard in each of many (waveform, sample rate), in their order, by batches.

        Raises:
            UserError: as `__call__`.
        """
        for chunk in _chunks(recordings, EVALUATION_BATCH):
            yield from self.recognize([Second.of(as_mono(waveform, rate)) for waveform, rate in chunk])

    def files(self, paths: Iterable[str | Path]) -> Iterator[Recognition | UserError]:
        """Yields what is heard in each file, or why it cannot be read, in their order.

        Files are decoded by threads and recognised by batches; no more than a few batches are in memory.
        """

        def decode(path: str | Path) -> Second | UserError:
            try:
                return Second.of(to_mono_16k(*load(path)))
            except UserError as error:
                return error

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for chunk in _chunks(paths, EVALUATION_BATCH):
                read = list(pool.map(decode, chunk))
                heard = iter(self.recognize([second for second in read if isinstance(second, Second)]))
                for second in read:
                    yield second if isinstance(second, UserError) else next(heard)

    @torch.inference_mode()
    def recognize(self, seconds: Sequence[Second]) -> list[Recognition]:
        """Returns what is heard in seconds that are ready for the model, as one batch."""
        if not seconds:
            return []
        waveforms = torch.stack([second.waveform for second in seconds]).to(self.device)
        front_end = self._model.front_end
        found, ends = front_end.find(waveforms)
        logits = self._model.of_readings(front_end.read(found, ends))
        places: list[list[float]] | None = None
        if ends and front_end.spectrum is not None:
            # The last way of finding ends is the learnt one, where there is one.
            places = (torch.stack(ends[-1], 1).cpu() * front_end.spectrum.hop_length).tolist()
        probabilities = (logits.cpu().double() / self.checkpoint.temperature).softmax(1)
        values, order = probabilities.sort(dim=1, descending=True, stable=True)
        return [
            self._recognition(second, row, letters, places[number] if places else None)
            for number, (second, row, letters) in enumerate(zip(seconds, values.tolist(), order.tolist(), strict=True))
        ]

    def _recognition(
        self, second: Second, probabilities: list[float], order: list[int], place: list[float] | None
    ) -> Recognition:
        ranked = tuple((LETTERS[label], value) for label, value in zip(order, probabilities, strict=True))
        letter, probability = ranked[0]
        if probability < self.checkpoint.reject_below:
            return Recognition(None, probability, ranked)
        if place is None:
            return Recognition(letter, probability, ranked)
        start, end = (min(max(0.0, second.first + sample), second.length) / SAMPLE_RATE for sample in place)
        return Recognition(letter, probability, ranked, start, end)


def load_recognizer(checkpoint: str | Path | None = None, device: str = "auto") -> Recognizer:
    """Returns a recognizer: `load_recognizer()(waveform, sample_rate).letter`.

    Args:
        checkpoint: a `best.pt`; None for the model in the package.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: the checkpoint cannot be read, or there is no such device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")
    if checkpoint is None and not WEIGHTS.exists():
        raise UserError(f"{WEIGHTS}: the package holds no model; name a checkpoint, or install it anew")
    return Recognizer(load_checkpoint(WEIGHTS if checkpoint is None else checkpoint), select_device(device))
