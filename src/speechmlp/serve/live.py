"""Live spelling over HTTP: a session for each microphone, which sends its samples piece by piece."""

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from speechmlp.errors import UserError
from speechmlp.recognition.live import LiveLetter, LiveSpeller
from speechmlp.recognition.output import live_values
from speechmlp.serve.voice import Models

MAX_SESSIONS = 32
IDLE = 60.0
"""Seconds without a request after which a session may end."""


@dataclass
class _Session:
    live: LiveSpeller
    rate: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    used: float = 0.0
    received: int = 0  # samples
    gone: int = 0  # final letters that the client has
    letters: list[LiveLetter] = field(default_factory=list)  # final ones after them
    provisional: Sequence[LiveLetter] = ()
    rejected: int = 0


def _values(one: LiveLetter) -> dict[str, Any]:
    """Returns a letter as values for JSON, with the probabilities of all letters."""
    return live_values(one) | {"probabilities": {name: round(value, 6) for name, value in sorted(one.ranked)}}


class Sessions:
    """The microphones that send samples; safe to share between threads.

    Args:
        models: those that a new session uses to its end.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def answer(self, samples: bytes, session: str, rate: int, first: int, known: int, end: bool) -> dict[str, Any]:
        """Returns what is recognised after the next samples of a session.

        Args:
            samples: 16-bit little-endian mono.
            session: its name; empty for a new one.
            rate: sample rate in Hz, of a new session.
            first: number of samples sent before; what was received already is ignored.
            known: number of final letters that the client has; those after them are returned.
            end: whether these are the last samples.

        Raises:
            HTTPException: there is no such session, there are too many, or the samples are invalid.
        """
        if len(samples) % 2:
            raise HTTPException(400, f"expected 16-bit samples, found {len(samples)} bytes")
        name, one = self._find(session, rate)
        with one.lock:
            one.used = time.monotonic()
            values = np.frombuffer(samples, "<i2")[max(0, one.received - first) :].astype(np.int16)
            one.received += len(values)
            changes = one.live.push(values)
            if end:
                changes += one.live.finish()
            for change in changes:
                one.letters += change.final
                one.provisional = change.provisional
                one.rejected += change.rejected
            seen = min(max(0, known - one.gone), len(one.letters))
            one.gone, one.letters = one.gone + seen, one.letters[seen:]
            found = {
                "session": name,
                "first": one.gone,
                "letters": [_values(letter) for letter in one.letters],
                "provisional": [_values(letter) for letter in one.provisional],
                "rejected": one.rejected,
                "seconds": round(one.received / one.rate, 4),
            }
        if end:
            with self._lock:
                self._sessions.pop(name, None)
        return found

    def _find(self, name: str, rate: int) -> tuple[str, _Session]:
        """Returns a session and its name.

        Raises:
            HTTPException: there is none of this name, there are too many, or the rate of a new one is invalid.
        """
        now = time.monotonic()
        with self._lock:
            if name in self._sessions:
                return name, self._sessions[name]
            if name:
                raise HTTPException(410, "session: it has ended, or the server was started again; begin another one")
            for old in [old for old, one in self._sessions.items() if one.used < now - IDLE]:
                del self._sessions[old]
            if len(self._sessions) >= MAX_SESSIONS:
                raise HTTPException(429, f"expected at most {MAX_SESSIONS} microphones; try again later")
            try:
                new = _Session(LiveSpeller(self._models.speller, rate), rate, used=now)
            except UserError as error:
                raise HTTPException(400, str(error)) from error
            name = secrets.token_urlsafe(12)
            self._sessions[name] = new
            return name, new
