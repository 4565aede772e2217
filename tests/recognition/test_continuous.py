"""Continuous spelling on the command line: formats, offered words, and microphones that end."""

import csv
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.recognition.continuous import Spelled, spell_continuously
from speechmlp.recognition.live import Change, LiveLetter
from speechmlp.recognition.word_list import WordList


def letter(name: str, start: float) -> LiveLetter:
    row = np.full(26, np.log(0.1 / 25))
    row[LETTERS.index(name)] = np.log(0.9)
    return LiveLetter(LETTERS, row, start, start + 0.3)


class Script:
    """A speller that recognises a letter at each piece, and the last one at the end."""

    def __init__(self, text: str) -> None:
        self.letters = [letter(name, number) for number, name in enumerate(text)]

    def push(self, samples: NDArray[np.int16]) -> list[Change]:
        return [Change((self.letters.pop(0),), (self.letters[0],))]

    def finish(self) -> list[Change]:
        return [Change(tuple(self.letters))]


class Microphone:
    """Yields two pieces; then the user ends it, unless it is taken away."""

    def __init__(self, end: Exception | None) -> None:
        self.heard, self.end = 0, end

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        for self.heard in range(1, 100):
            yield np.zeros(1600, np.int16)
            if self.heard == 2 and self.end is not None:
                raise self.end

    def ended(self) -> bool:
        return self.heard == 2 and self.end is None


def run(form: str, end: Exception | None = None, screen: io.StringIO | None = None) -> Spelled:
    spelled = Spelled(form, WordList(["cab", "dog"]), 1, screen)
    microphone = Microphone(end)
    spell_continuously(microphone, Script("CAB"), spelled, microphone.ended)  # type: ignore[arg-type]
    return spelled


@pytest.mark.parametrize("form", ["text", "csv", "jsonl"])
def test_letters_are_written_in_each_format(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    spelled = run(form)
    assert spelled.text == "CAB"
    assert [word for word, _ in spelled.offers()] == ["cab"]
    lines = capsys.readouterr().out.splitlines()
    if form == "jsonl":
        values = [json.loads(line) for line in lines]
        assert ["".join(one["letter"] for one in values), values[2]["words"][0][0]] == ["CAB", "cab"]
        assert [values[1]["start"], values[1]["end"], values[1]["probability"]] == [1.0, 1.3, 0.9]
    elif form == "csv":
        rows = list(csv.DictReader(lines))
        assert ["".join(row["letter"] for row in rows), rows[2]["word"]] == ["CAB", "cab"]
        assert rows[0]["second"] in LETTERS
    else:
        assert [line.split("%")[0] for line in lines] == ["C 90.0", "A 90.0", "B 90.0"]
        assert lines[2].endswith("cab")


def test_a_terminal_shows_what_may_still_change(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    run("text", None, screen)
    assert "dBFS  Ca" in screen.getvalue()
    assert "dBFS  CAb" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")  # cleared


def test_nothing_is_lost_if_the_microphone_is_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="taken away"):
        run("text", UserError("microphone: it was taken away"))
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["C", "A", "B"]
