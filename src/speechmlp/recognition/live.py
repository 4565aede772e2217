"""Spelling as it is spoken: samples go in as they arrive, letters come out.

However the samples are cut into pieces, they are searched in steps of a tenth of a second. What was said since the
last pause is recognised again at each step, and is provisional; after a pause, or if it gets long, it is final. Only
the last seconds are kept, so a microphone may be open for hours.

Dimension key: `F` frames (10 ms), `K` candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechmlp.audio.streaming import StreamResampler
from speechmlp.audio.waveforms import as_channels, whole_rate
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.models.pauses import speech_parts
from speechmlp.recognition.candidates import OVERLAP, PAUSES, Candidates, Readings
from speechmlp.recognition.inputs import Waveform, plain
from speechmlp.recognition.speller import Speller

STEP = 10
"""Frames from one search to the next."""
CONTEXT = 300
"""Frames that are kept before the searched ones: they show how loud speech and pauses are."""
BEFORE = 30
"""Frames before the first sound that a letter may reach into."""
PAUSE = 28
"""Frames of the pause after which letters are final: longer than the closures inside H, W and X."""
LONG = 220
"""Frames of speech without such a pause after which its first letters are final."""
AHEAD = 80
"""Frames that must then follow a letter for it to be final."""
SETTLED = 5
"""Frames that must follow a letter for it to be shown: until then, it may be the beginning of another one."""
SOUND = 15
"""Frames of speech without a letter that count as a rejected sound."""

# What distinguishes spelling from other speech is that letters cover it. Chosen by logistic regression on spelled and
# joined words, and other speech, of validation speakers.
COVER, REACH = 4, 25
"""Frames around a letter that it covers, and in which uncovered speech counts against it."""
PLAUSIBLE, OF_PROBABILITY, OF_FRAME, OF_UNCOVERED = 1.74, 2.91, 0.033, -0.167
"""Log-odds of a letter: constant, per nat of its log-probability, per frame, and per frame of uncovered speech."""
NEAR = 120
"""Frames between letters that are near."""
MOST, LEAST, LEAST_ALONE = 2.0, -1.0, 1.0
"""Largest log-odds that count; smallest sum of those of a letter and the mean of those near; smallest without any."""


@dataclass(frozen=True, eq=False)
class LiveLetter:
    """A letter that was spoken.

    Attributes:
        labels: those of the model, A to Z by default.
        log_probabilities: of each label.
        start: in seconds since the first sample.
        end: in seconds.
    """

    labels: tuple[str, ...]
    log_probabilities: NDArray[np.float64]
    start: float
    end: float

    @property
    def letter(self) -> str:
        """The most probable letter."""
        return self.labels[int(self.log_probabilities.argmax())]

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """All letters with their probabilities, the most probable first."""
        order = np.argsort(-self.log_probabilities, kind="stable")
        return [(self.labels[label], float(np.exp(self.log_probabilities[label]))) for label in order]

    @property
    def probability(self) -> float:
        """The probability of the letter."""
        return float(np.exp(self.log_probabilities.max()))


@dataclass(frozen=True)
class Change:
    """What has changed since the last one.

    Attributes:
        final: letters that follow those that were final before.
        provisional: letters that follow all final ones; they replace the provisional ones before, and may still change.
        rejected: number of sounds, final too, that are like speech but no letters.
    """

    final: tuple[LiveLetter, ...] = ()
    provisional: tuple[LiveLetter, ...] = ()
    rejected: int = 0


@dataclass(frozen=True)
class _Span:
    """A final letter, accepted or not: frames of the signal, and log-odds."""

    start: int
    end: int
    odds: float


class LiveSpeller:
    """Recognises letters while they are spoken; one for each microphone.

    Args:
        speller: the models, which may be shared.
        sample_rate: of the samples, in Hz.

    Raises:
        UserError: the sample rate is invalid.
    """

    def __init__(self, speller: Speller, sample_rate: float = SAMPLE_RATE) -> None:
        self._speller = speller
        self._hop = speller.hop
        self._rate = whole_rate(sample_rate)
        self._resampler = StreamResampler(self._rate, SAMPLE_RATE)
        self._rest = torch.zeros(0)  # samples of a step that is not complete
        self._window = torch.zeros(0)
        self._first = 0  # frame of the signal at which the window starts
        self._open = 0  # frame of the signal from which on letters are not final
        self._readings = Readings()
        self._spans: list[_Span] = []  # final letters in the window
        self._searched: int | None = None  # end of the speech that was searched last, with the pause after it
        self._provisional: tuple[LiveLetter, ...] = ()

    def push(self, samples: Waveform) -> list[Change]:
        """Takes the next samples, and returns what has changed.

        What becomes final does not depend on how the samples are cut into pieces.

        Args:
            samples: [T] or [C, T], floats between -1 and 1 or integers in the full range of their type; may be empty.

        Raises:
            UserError: they are of another kind, or not finite.
        """
        if not len(samples):
            return []
        mono = as_channels(plain(samples), self._rate).mean(0)
        return self._add(self._resampler.push(torch.from_numpy(mono)))

    def finish(self) -> list[Change]:
        """Returns the last letters, now final. What is pushed later counts as spoken after a pause."""
        rest = self._resampler.finish()
        return self._add(torch.cat([rest, torch.zeros((PAUSE + 2 * STEP) * self._hop)]))

    def _add(self, samples: Tensor) -> list[Change]:
        size = STEP * self._hop
        waiting = torch.cat([self._rest, samples])
        steps = len(waiting) // size
        changes = []
        for number in range(steps):
            self._window = torch.cat([self._window, waiting[number * size : (number + 1) * size]])
            changes += self._search(behind=number + 1 < steps)
        self._rest = waiting[steps * size :].clone()
        return changes

    def _search(self, behind: bool) -> list[Change]:
        """Searches the window after its last step, and returns what has changed.

        Args:
            behind: whether more steps wait, so that what is provisional would be replaced at once.
        """
        since, now = self._open - self._first, len(self._window) // self._hop
        window = self._window - self._window.mean()  # without the offset of a sound card
        spoken = self._spoken(window)
        parts = [part for part in spoken if part[1] > since + OVERLAP]
        if not parts:
            self._go_on(max(since, now - BEFORE))
            return self._changed(Change())
        start, end = max(since, parts[0][0]), parts[-1][1]
        ended, long = now - end >= PAUSE, end - start > LONG
        if not ended and not long and (behind or self._searched == self._first + end):
            return []
        self._searched = self._first + end if now - end >= STEP else None
        self._readings.origin = self._first * self._hop
        found = self._speller.candidates(window, max(since, start - BEFORE), self._readings)
        path = self._speller.search(found)[1]
        if not ended and not long:
            settled = [index for index in path if found.ends[index] <= now - SETTLED]
            last = int(found.ends[settled[-1]]) if settled else 0  # what follows may become a letter
            odds = self._odds(found, settled, [(first, min(stop, last)) for first, stop in spoken])
            return self._changed(Change((), self._accepted(found, settled, odds)))
        odds = self._odds(found, path, spoken)
        count = len(path)
        if not ended:
            count = sum(int(found.ends[index] <= now - AHEAD) for index in path)
        final = self._accepted(found, path[:count], odds[:count])
        provisional = self._accepted(found, path[count:], odds[count:])
        rejected = count - len(final) or int(not count and end - start > SOUND)
        for index, each in zip(path[:count], odds, strict=False):
            self._spans.append(
                _Span(self._first + int(found.starts[index]), self._first + int(found.ends[index]), each)
            )
        if ended:
            self._go_on(end)
        else:
            following = [int(found.starts[index]) for index in path[count:]]
            last = int(found.ends[path[count - 1]]) - OVERLAP if count else since
            self._go_on(max(last, min([now - AHEAD, *following])))
        return self._changed(Change(final, provisional, rejected))

    @torch.inference_mode()
    def _spoken(self, window: Tensor) -> list[tuple[int, int]]:
        """Returns first and last frame, exclusive, of each part of a window that is speech."""
        spectrum = self._speller.scorer.front_end.spectrum
        return speech_parts(spectrum(window[None].to(self._speller.recognizer.device))[0].cpu(), PAUSES[0])

    def _odds(self, found: Candidates, path: Sequence[int], spoken: Sequence[tuple[int, int]]) -> list[float]:
        """Returns log-odds of each candidate of a path being part of spelling, by itself."""
        spans = [(int(found.starts[index]), int(found.ends[index])) for index in path]
        before = [(one.start - self._first, one.end - self._first) for one in self._spans]
        uncovered = np.zeros(max([0, *(last for _, last in spoken), *(last for _, last in spans)]), bool)
        for first, last in spoken:
            uncovered[first:last] = True
        for first, last in (*before, *spans):
            uncovered[max(0, first - COVER) : max(0, last + COVER)] = False
        odds = []
        for index, (first, last) in zip(path, spans, strict=True):
            bare = int(uncovered[max(0, first - REACH) : last + REACH].sum())
            probability = float(found.log_probabilities[index].max())
            odds.append(PLAUSIBLE + OF_PROBABILITY * probability + OF_FRAME * (last - first) + OF_UNCOVERED * bare)
        return [min(MOST, each) for each in odds]

    def _accepted(self, found: Candidates, path: Sequence[int], odds: Sequence[float]) -> tuple[LiveLetter, ...]:
        """Returns those candidates of a path that are letters, by themselves and by those near them."""
        spans = [
            _Span(int(found.starts[index]), int(found.ends[index]), each)
            for index, each in zip(path, odds, strict=True)
        ]
        before = [_Span(one.start - self._first, one.end - self._first, one.odds) for one in self._spans]
        reject_below = self._speller.recognizer.checkpoint.reject_below
        letters = []
        for number, (index, one) in enumerate(zip(path, spans, strict=True)):
            others = [*before, *spans[:number], *spans[number + 1 :]]
            near = [each.odds for each in others if abs(each.start + each.end - one.start - one.end) < 2 * NEAR]
            letter = self._letter(found, index)
            if near:
                accepted = one.odds + sum(near) / len(near) > LEAST
            else:  # the model's threshold is that of a letter said alone
                accepted = one.odds > LEAST_ALONE and letter.probability >= reject_below
            if accepted:
                letters.append(letter)
        return tuple(letters)

    def _letter(self, found: Candidates, index: int) -> LiveLetter:
        labels = self._speller.recognizer.labels
        start, end = ((self._first + int(frame)) * self._hop for frame in (found.starts[index], found.ends[index]))
        return LiveLetter(labels, found.log_probabilities[index], start / SAMPLE_RATE, end / SAMPLE_RATE)

    def _go_on(self, frame: int) -> None:
        """Makes letters before a frame of the window final, and removes samples that are no longer needed."""
        self._open = self._first + frame
        gone = max(0, frame - CONTEXT)
        self._first += gone
        self._window = self._window[gone * self._hop :].clone()
        self._spans = [one for one in self._spans if one.end > self._first]
        self._readings.forget(self._open * self._hop)

    def _changed(self, change: Change) -> list[Change]:
        """Returns a change, or nothing if it changes nothing."""
        before, self._provisional = self._provisional, change.provisional
        same = [one.letter for one in before] == [one.letter for one in change.provisional]
        return [] if same and not change.final and not change.rejected else [change]
