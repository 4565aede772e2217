"""Spelling to a microphone until the user stops it: letters appear on the terminal as they are spoken."""

import csv
import json
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from speechmlp.audio.microphone import level_of, meter
from speechmlp.audio_format import FULL_SCALE
from speechmlp.recognition.live import Change, LiveLetter, LiveSpeller
from speechmlp.recognition.output import SHOWN, live_values
from speechmlp.recognition.word_list import WordList
from speechmlp.streams import require_output

WIDTH = 40
"""Most letters on the line of the terminal."""
COLUMNS = ("letter", "probability", "second", "third", "start", "end")


class Spelled:
    """Writes letters to standard output as they are recognised, and shows on a terminal what is heard.

    Args:
        form: text, csv or jsonl.
        words: offered while they are spelled.
        best: number of words that are offered.
        screen: a terminal; None if there is none.
    """

    def __init__(self, form: str, words: WordList | None, best: int, screen: TextIO | None) -> None:
        self._form, self._words, self._best, self._screen = form, words, best, screen
        self._letters: list[LiveLetter] = []
        self._provisional = ""
        self._table: csv.DictWriter[str] | None = None

    @property
    def text(self) -> str:
        """The letters so far."""
        return "".join(one.letter for one in self._letters)

    def offers(self) -> list[tuple[str, float]]:
        """Returns the words of the list that begin as it is spelled, with their probabilities."""
        if self._words is None or not self._letters:
            return []
        return self._words.offer(np.stack([one.log_probabilities for one in self._letters]))[: self._best]

    def take(self, changes: Iterable[Change]) -> None:
        """Writes what has become final.

        Raises:
            OutputLostError: nobody can read it.
        """
        for change in changes:
            self._provisional = "".join(one.letter for one in change.provisional).lower()
            for one in change.final:
                self._letters.append(one)
                self._write(one)

    def show(self, level: float) -> None:
        """Shows a level in dBFS and the letters so far on the terminal."""
        if self._screen is not None:
            self._screen.write(f"{meter(level)} {self.text[-WIDTH:]}{self._provisional}\x1b[K")
            self._screen.flush()

    def clear(self) -> None:
        """Removes what was shown on the terminal."""
        if self._screen is not None:
            self._screen.write("\r\x1b[K")
            self._screen.flush()

    def _write(self, one: LiveLetter) -> None:
        self.clear()
        values = live_values(one)
        offers = [(word, round(probability, 4)) for word, probability in self.offers()]
        (_, _), *others = values["ranked"]
        if self._form == "jsonl":
            print(json.dumps(values | {"words": offers} if self._words else values))
        elif self._form == "csv":
            if self._table is None:
                columns = [*COLUMNS, "word"] if self._words else list(COLUMNS)
                self._table = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
                self._table.writeheader()
            guesses = dict(zip(SHOWN[1:], (letter for letter, _ in others), strict=False))
            self._table.writerow(values | guesses | ({"word": offers[0][0]} if offers else {}))
        else:
            then = ", ".join(f"{letter} {100 * probability:.1f}%" for letter, probability in others)
            text = f"{one.letter} {100 * one.probability:.1f}% (then {then})"
            print(f"{text}  {', '.join(word for word, _ in offers)}".rstrip())
        sys.stdout.flush()
        require_output()


def spell_continuously(
    heard: Iterable[NDArray[np.int16]], live: LiveSpeller, spelled: Spelled, ended: Callable[[], bool]
) -> None:
    """Spells what is heard, int16 [T] at a time, until the user ends it.

    Args:
        heard: pieces of what is recorded, without an end.
        live: the models.
        spelled: where letters are written.
        ended: whether the user has ended it, asked after each piece: no letter is lost in the middle of its output.

    Raises:
        UserError: the microphone is taken away; what was spelled is written before.
        OutputLostError: nobody can read it.
    """
    try:
        for samples in heard:
            spelled.take(live.push(samples))
            spelled.show(level_of(samples / FULL_SCALE))
            if ended():
                break
    finally:
        spelled.clear()
        spelled.take(live.finish())
