"""A trained model as a function from recordings to letters.

    recognizer = load_recognizer()
    recognition = recognizer(waveform, sample_rate)
    print(recognition.letter, recognition.probability)
    recognition = recognizer("clip.wav")

Dimension key: `N` recordings, `B` batch, `C` channels, `T` samples.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from speechmlp.audio.channels import Mix
from speechmlp.audio.decoding import at_16k, resampled
from speechmlp.audio.placing import Placing, rounded
from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.models.inference import EVALUATION_BATCH, select_device
from speechmlp.models.judge import MODEL, WhisperJudge, load_judge
from speechmlp.recognition.inputs import Recording, Waveform, as_mono
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, load_checkpoint

RIVALS = 3
"""Most other seconds of a recording that the model reads."""
CLOSE = 16.0
"""Log-odds by which they may be less likely."""
SOUND_WEIGHT = 0.25
"""Weight of a second's log-odds by its sound, next to those of the letter recognised in it."""
SURE = 0.5
"""Probability of a letter from which on it counts as one more."""
ONE_VOICE = tuple(letter for letter in LETTERS if letter != "W")
"""Labels that are spoken as a single syllable; two voices are more than one of them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Recognition:
    """The letter recognised in a recording.

    Attributes:
        letter: one of the model's labels, or None if rejected: the most probable letter is below the threshold.
        probability: of the most probable letter, even if rejected.
        ranked: all labels with their probabilities, the most probable first.
        start: start of the letter in seconds; None if rejected, or if the model's front end finds no endpoints.
        end: end of the letter in seconds, or None.
        note: why only one channel is used; empty if it is their mean.
        more: whether the recording seems to hold more than one letter; a `Speller` recognises all of them.
    """

    letter: str | None
    probability: float
    ranked: tuple[tuple[str, float], ...]
    start: float | None = None
    end: float | None = None
    note: str = ""
    more: bool = False

    @property
    def declined(self) -> bool:
        """Whether the recording was rejected as a non-letter."""
        return self.letter is None


@dataclass(frozen=True)
class Second:
    """The second of a recording that is the model's input.

    Attributes:
        waveform: float32 [T], a second at 16 kHz by default, rounded to 16 bits as in a packed corpus.
        first: its start in the recording, in samples; negative if the recording is shorter.
        length: of the whole recording, in samples.
        note: why only one channel is used; empty if it is their mean.
        score: log-odds of holding the letter, by its sound.
        long: whether the speech in it is too long for a letter.
        voices: number of voices in it that are about equally loud; 0 without speech.
        rivals: other seconds of the recording that are nearly as likely to hold it; the model decides.
    """

    waveform: Tensor
    first: int
    length: int
    note: str = ""
    score: float = 0.0
    long: bool = False
    voices: int = 0
    rivals: "tuple[Second, ...]" = ()

    @classmethod
    def of(cls, mixed: Mix, audio: AudioInput = DEFAULT_INPUT) -> "Second":
        """Returns the second of a recording, or what else is the input of a model."""
        mono = resampled(mixed, audio.sample_rate).waveform
        placing = Placing(mono.numpy(), audio, at_16k(mono, audio.sample_rate))

        def second(number: int, rivals: tuple[Second, ...]) -> Second:
            placed = placing.second(number)
            waveform = torch.from_numpy(rounded(placed.samples))
            stretch = placing.stretches[number] if placing.stretches else None
            score, long, voices = (stretch.score, stretch.long, stretch.voices) if stretch else (0.0, False, 0)
            return cls(waveform, placed.first, len(mono), mixed.note, score, long, voices, rivals)

        close = [
            number
            for number, stretch in enumerate(placing.stretches[: 1 + RIVALS])
            if number and stretch.score > placing.stretches[0].score - CLOSE
        ]
        return second(0, tuple(second(number, ()) for number in close))


def _chunks(things: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(things)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Recognizer:
    """A trained classifier that takes recordings of any rate and length; safe to share between threads.

    Attributes:
        checkpoint: the model with its configuration, temperature and rejection threshold.
        labels: of the model.
        audio: the input of the model.
        device: device of the computation; the checkpoint's model is moved there.
        judge: its log-probabilities are added to the model's; None for the model alone.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, judge: WhisperJudge | None = None) -> None:
        self.checkpoint = checkpoint
        self.labels, self.audio = checkpoint.config.labels, checkpoint.model.audio
        self.device = device
        self.judge = judge
        self._model = checkpoint.model.to(device).eval()

    def __call__(self, recording: Recording, sample_rate: float | None = None) -> Recognition:
        """Returns the letter of a recording of any rate and length, wherever it is said.

        Args:
            recording: a path, or the bytes or the open file of a recording; or a waveform [T] or [C, T]: an array, a
                tensor or a list, of floats between -1 and 1, or of integers in the full range of their type. Unsigned
                ones are around the middle of their range. In lists and in types of 64 bits, integers are 16-bit
                samples.
            sample_rate: of a waveform, in Hz; None for a path, bytes or a file.

        Raises:
            UserError: the recording or the sample rate is invalid, see `as_mono`.
        """
        return self.recognize([self._second(recording, sample_rate)])[0]

    def many(self, recordings: Iterable[tuple[Waveform, float] | Recording]) -> Iterator[Recognition]:
        """Yields the letter of each recording in order, computed in batches.

        Args:
            recordings: pairs of waveform and sample rate, and paths, bytes or open files.

        Raises:
            UserError: a recording is invalid, see `as_mono`.
        """
        for chunk in _chunks(recordings, EVALUATION_BATCH):
            pairs = (one if isinstance(one, tuple) and len(one) == 2 else (one, None) for one in chunk)
            yield from self.recognize([self._second(recording, rate) for recording, rate in pairs])

    def files(self, paths: Iterable[str | Path]) -> Iterator[Recognition | UserError]:
        """Yields the letter of each file in order, or the error if it cannot be read.

        Threads decode the files; at most a few batches are in memory.
        """

        def decode(path: str | Path) -> Second | UserError:
            try:
                return self._second(path)
            except UserError as error:
                return error

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for chunk in _chunks(paths, EVALUATION_BATCH):
                read = list(pool.map(decode, chunk))
                found = iter(self.recognize([second for second in read if isinstance(second, Second)]))
                for second in read:
                    yield second if isinstance(second, UserError) else next(found)

    def _second(self, recording: Recording, sample_rate: float | None = None) -> Second:
        return Second.of(as_mono(recording, sample_rate, self.audio.sample_rate), self.audio)

    def recognize(self, seconds: Sequence[Second], judged: bool = True) -> list[Recognition]:
        """Returns the letters of a batch of seconds, or of those of their rivals that are more likely letters.

        Args:
            seconds: of recordings.
            judged: whether the judge is asked, if there is one.
        """
        judge = self.judge if judged else None
        read = iter(self._read([each for second in seconds for each in (second, *second.rivals)], judge))
        return [_most_likely(second, list(islice(read, 1 + len(second.rivals)))) for second in seconds]

    @torch.inference_mode()
    def _read(self, seconds: Sequence[Second], judge: WhisperJudge | None) -> list[Recognition]:
        """Returns the letter of each second."""
        if not seconds:
            return []
        waveforms = torch.stack([second.waveform for second in seconds]).to(self.device)
        front_end = self._model.front_end
        with torch.autocast(self.device.type, enabled=False):  # the caller may have it on
            found, ends = front_end.find(waveforms)
            logits = self._model.of_readings(front_end.read(found, ends))
        spans: list[list[float]] | None = None
        if ends and front_end.spectrum is not None:
            # The last endpoints are those of the trained finder, if the model has one.
            spans = (torch.stack(ends[-1], 1).cpu() * front_end.spectrum.hop_length).tolist()
        temperature = self.checkpoint.temperature
        if judge is None:
            probabilities = (logits.cpu().double() / temperature).softmax(1)
        else:
            probabilities = judge.added_to(logits, temperature, waveforms).exp()
        values, order = probabilities.sort(dim=1, descending=True, stable=True)
        return [
            self._recognition(second, row, letters, spans[number] if spans else None)
            for number, (second, row, letters) in enumerate(zip(seconds, values.tolist(), order.tolist(), strict=True))
        ]

    def add_judge(self, name: str, model: str = MODEL) -> str:
        """Loads a second judge; returns a warning if it cannot be had, and then the model answers alone.

        Args:
            name: whisper, the only one there is.
            model: a name at the Hugging Face hub, or a folder with a model in CTranslate2's format.
        """
        try:
            self.judge = load_judge(name, model, self.checkpoint.config)
        except UserError as error:
            return f"{error}; these are the answers of the model alone"
        return ""

    def _recognition(
        self, second: Second, probabilities: list[float], order: list[int], span: list[float] | None
    ) -> Recognition:
        ranked = tuple((self.labels[label], value) for label, value in zip(order, probabilities, strict=True))
        letter, probability = ranked[0]
        if probability < self.checkpoint.reject_below:
            return Recognition(None, probability, ranked, note=second.note)
        if span is None:
            return Recognition(letter, probability, ranked, note=second.note)
        start, end = (min(max(0.0, second.first + sample), second.length) / self.audio.sample_rate for sample in span)
        return Recognition(letter, probability, ranked, start, end, note=second.note)


def _most_likely(second: Second, found: list[Recognition]) -> Recognition:
    """Returns the letter of a second, or that of a rival that is more likely a letter; says whether there are more."""
    seconds = (second, *second.rivals)
    odds = [SOUND_WEIGHT * each.score + _log_odds(one.probability) for each, one in zip(seconds, found, strict=True)]
    best = max(range(len(found)), key=odds.__getitem__)
    others = [one for number, one in enumerate(found) if number != best]
    several = seconds[best].voices > 1 and found[best].ranked[0][0] in ONE_VOICE
    more = several or second.long or any(one.letter is not None and one.probability > SURE for one in others)
    return replace(found[best], more=more)


def _log_odds(probability: float) -> float:
    return math.log(probability + 1e-6) - math.log(1 - probability + 1e-6)


def load_recognizer(
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    judge: str | None = None,
    judge_model: str = MODEL,
) -> Recognizer:
    """Returns a recognizer, used as `load_recognizer()(waveform, sample_rate).letter`.

    Args:
        checkpoint: a `best.pt`; None for the model in the package.
        device: auto, cpu, cuda or cuda:N, or a `torch.device`.
        judge: whisper, to add Whisper's log-probabilities to the model's; needs the extra `whisper`.
        judge_model: a name at the Hugging Face hub, or a folder with a model in CTranslate2's format.

    Raises:
        UserError: the checkpoint or the judge cannot be loaded, or the device does not exist.
    """
    chosen = select_device(device)
    if checkpoint is None and not PACKAGED.exists():
        raise UserError(f"{PACKAGED}: the package contains no model; name a checkpoint, or install it again")
    trained = load_checkpoint(PACKAGED if checkpoint is None else checkpoint)
    second = None if judge is None else load_judge(judge, judge_model, trained.config)
    return Recognizer(trained, chosen, second)
