"""The web page and its API: a recording is posted, the recognised letter comes back as JSON.

Recordings are not stored, except takes of a voice that the model is taught (`voice.py`).

What the API takes and returns is in `api.py`.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import numpy as np
import torch
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from speechmlp import __version__
from speechmlp.audio.channels import Mix
from speechmlp.audio.decoding import load, mix_16k
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError
from speechmlp.labels import find_label, one_of
from speechmlp.recognition.output import letter_values, spelling_values
from speechmlp.recognition.recognizer import Second
from speechmlp.recognition.word_list import WordList
from speechmlp.serve.api import (
    ABOUT,
    ADAPT,
    DOCUMENT,
    LIVE,
    RECOGNIZE,
    REMOVE,
    SPELL,
    STOP,
    TAKE,
    USE,
    VOICE,
    WORDS,
    LiveOptions,
    Operation,
    Options,
    Spelled,
    openapi,
    read_body,
    read_options,
)
from speechmlp.serve.live import Sessions
from speechmlp.serve.uploads import (
    MAX_BYTES,
    Upload,
    form_boundary,
    ignore_rest,
    plain_name,
    read_form,
    receive,
    receive_small,
)
from speechmlp.serve.voice import Models, Voice

MAX_SECONDS = 60.0
"""Longest recording."""
MAX_SAMPLES = int(MAX_SECONDS * 192_000)
"""Most samples of all channels, so that a small file cannot become gigabytes."""

PAGE = {
    "/": ("page/index.html", "text/html"),
    "/page.css": ("page/page.css", "text/css"),
    "/page.js": ("page/page.js", "text/javascript"),
    "/capture.js": ("page/capture.js", "text/javascript"),
    "/live.js": ("page/live.js", "text/javascript"),
    "/microphone.js": ("page/microphone.js", "text/javascript"),
    "/teach.js": ("page/teach.js", "text/javascript"),
    "/word.js": ("page/word.js", "text/javascript"),
    "/backend.js": ("serve/page/backend.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _require_same_site(request: Request) -> None:
    """Refuses requests that pages of other sites send through a browser.

    Raises:
        HTTPException: the request comes from another site.
    """
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise HTTPException(403, "requests from other sites are refused")


def loudness(mono: Tensor, bars: int) -> list[float]:
    """Returns the largest absolute sample of each of `bars` equal parts of a waveform [T]."""
    peaks = torch.nn.functional.adaptive_max_pool1d(mono.abs()[None], bars)[0]
    return [round(peak, 3) for peak in peaks.tolist()]


def _decoded(path: Path) -> Mix:
    """Returns a recording as one waveform [T] at 16 kHz, and how its channels were mixed.

    Raises:
        UserError: it is too long, or cannot be decoded.
    """
    return mix_16k(*load(path, max_seconds=MAX_SECONDS, max_values=MAX_SAMPLES))


def _about(mixed: Mix) -> dict[str, Any]:
    return {"seconds": round(len(mixed.waveform) / SAMPLE_RATE, 4), "note": mixed.note}


class Answers:
    """Recognises recordings, and returns values for JSON; safe to share between threads."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def letter(self, path: Path, name: str, waveform: int, judge: bool = False) -> dict[str, Any]:
        """Returns the letter of a recording, and its waveform as a number of bars if that is not 0.

        Args:
            path: of the recording.
            name: of the recording.
            waveform: number of bars.
            judge: whether the second judge is asked.

        Raises:
            UserError: the recording is invalid.
            HTTPException: there is no second judge.
        """
        recognizer = self._models.speller.recognizer
        if judge and recognizer.judge is None:
            raise HTTPException(400, "judge: this server has none; start it with --judge whisper")
        mixed = _decoded(path)
        (found,) = recognizer.recognize([Second.of(mixed, recognizer.audio)], judge)
        values = letter_values(name, found) | _about(mixed)
        values["probabilities"] = {letter: round(probability, 6) for letter, probability in sorted(found.ranked)}
        return values | {"waveform": loudness(mixed.waveform, waveform)} if waveform else values

    def spelling(self, path: Path, name: str, words: str, best: int) -> dict[str, Any]:
        """Returns the letters of a recording in a row, and the best words if there is a list of words.

        Raises:
            UserError: the recording or the list is invalid.
        """
        speller = self._models.speller
        listed = WordList(re.split(r"[\s,]+", words), speller.recognizer.labels) if words.strip() else None
        mixed = _decoded(path)
        found = speller.spell_mixed(mixed)
        ranked = listed.rank(found.lattice)[:best] if listed else None
        return spelling_values(name, found, ranked) | _about(mixed)


@lru_cache(maxsize=4)
def _listed(words: tuple[str, ...], labels: tuple[str, ...]) -> WordList:
    return WordList(words, labels)


def _offer(labels: tuple[str, ...], spelled: Spelled) -> list[dict[str, Any]]:
    """Returns the best words that begin with what is spelled so far.

    Raises:
        HTTPException: a letter is not a label of the model, or no word contains a label.
    """
    rows = np.zeros((len(spelled.letters), len(labels)))
    for number, (row, letter) in enumerate(zip(rows, spelled.letters, strict=True)):
        for name, probability in letter.items():
            if (label := find_label(name, labels)) is None:
                raise HTTPException(422, f"letters.{number}: expected {one_of(labels)}, found {name[:40]!r}")
            row[label] = probability
    try:
        ranked = _listed(tuple(spelled.words), labels).offer(np.log(rows + 1e-9))
    except UserError as error:
        raise HTTPException(422, str(error)) from error
    return [{"word": word, "probability": round(probability, 6)} for word, probability in ranked[: spelled.best]]


class _Endpoint:
    """An endpoint that takes recordings.

    Args:
        operation: what it takes and returns.
        answer: called with path, name and options; returns values for JSON.
        turns: limits how many requests are answered at the same time.
    """

    def __init__(
        self, operation: Operation, answer: Callable[..., dict[str, Any]], turns: anyio.CapacityLimiter
    ) -> None:
        assert operation.options is not None
        self.route = Route(operation.path, self.post, methods=[operation.method])
        self._options, self._answer, self._turns = operation.options, answer, turns

    async def post(self, request: Request) -> Response:
        """Returns the answer to the recordings in a request's body."""
        _require_same_site(request)
        query = request.query_params
        read_options(self._options, query)  # before the upload
        boundary = form_boundary(request)
        with tempfile.TemporaryDirectory(prefix="speechmlp-", ignore_cleanup_errors=True) as folder:
            body = Path(folder) / "body"
            await receive(request, body)
            values = await anyio.to_thread.run_sync(self._answer_all, body, boundary, query, limiter=self._turns)
        return JSONResponse(values)

    def _answer_all(self, body: Path, boundary: bytes | None, query: Mapping[str, str]) -> dict[str, Any]:
        fields: dict[str, str] = {}
        if boundary is None:
            uploads = [Upload("", body)]
        else:
            uploads, fields = read_form(body, boundary)
        options = read_options(self._options, fields, query)
        given = plain_name(options.pop("name"))
        results = [self._answer_one(upload.path, upload.name or given or "recording", options) for upload in uploads]
        failures = [result["error"] for result in results if "error" in result]
        if len(failures) == len(results):
            raise HTTPException(422, "; ".join(failures))
        return results[0] if len(results) == 1 else {"results": results}

    def _answer_one(self, path: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(path, name, **options)
        except UserError as error:
            return {"path": name, "error": " ".join(str(error).replace(str(path), name).split())}


class _SameShape:
    """Gives every answer the security headers, and errors in plain text the shape of all others.

    Args:
        app: the application. The only error that it answers in plain text is that of `TrustedHostMiddleware`.
        hosts: accepted host names, for the message.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def reshaped(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                refused = message["status"] >= 400 and headers.get("content-type", "").startswith("text/plain")
            if not refused:
                await send(message)
            elif message["type"] == "http.response.body":
                text = f"Host: expected {', '.join(self._hosts)}, found {Headers(scope=scope).get('host')!r}"
                await JSONResponse({"error": text}, 400, HEADERS)(scope, receive, send)

        await self._app(scope, receive, reshaped)


async def _error(request: Request, error: Exception) -> Response:
    """Returns an error as one line of JSON."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # which nobody reads
    if not isinstance(error, HTTPException):
        return JSONResponse({"error": "internal error; the recording was not recognised"}, 500)
    text, headers = error.detail, dict(error.headers or {})
    if "Connection" in headers and "expect" not in request.headers:
        await ignore_rest(request)
    if error.status_code == 404:
        text = f"there is nothing at this address; {DOCUMENT.path} describes the API"
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted({"OPTIONS", *headers["Allow"].split(", ")}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        text = f"method: expected {headers['Allow']}, found {request.method[:20]}"
    return JSONResponse({"error": text}, error.status_code, headers)


def _taught(voice: Voice | None) -> Voice:
    """Returns the voice that can be taught.

    Raises:
        HTTPException: there is none.
    """
    if voice is None:
        raise HTTPException(403, "voice: this server does not store takes; start it with --voice FOLDER")
    return voice


def make_app(models: Models, hosts: Sequence[str], voice: Voice | None = None) -> ASGIApp:
    """Returns the application.

    Args:
        models: the model that answers.
        hosts: accepted host names, against DNS rebinding; * for any.
        voice: that the model can be taught; None if none can.
    """
    logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # broken forms are answered, not logged
    about = {
        "speechmlp": __version__,
        "labels": models.original.recognizer.labels,
        "judge": models.original.recognizer.judge is not None,
        "voice": voice is not None,
        "max_bytes": MAX_BYTES,
        "max_seconds": MAX_SECONDS,
    }
    contents = {path: files("speechmlp").joinpath(name).read_bytes() for path, (name, _) in PAGE.items()}
    document = openapi()

    async def static(request: Request) -> Response:
        path = request.url.path
        return Response(contents[path], media_type=PAGE[path][1])

    async def describe(_request: Request) -> Response:
        return JSONResponse(about | {"model": models.name})

    async def describe_api(_request: Request) -> Response:
        return JSONResponse(document)

    async def live(request: Request) -> Response:
        _require_same_site(request)
        options = read_options(LiveOptions, request.query_params)
        samples = await receive_small(request)
        return JSONResponse(await anyio.to_thread.run_sync(partial(sessions.answer, samples, **options), limiter=turns))

    async def words(request: Request) -> Response:
        _require_same_site(request)
        spelled = read_body(Spelled, await receive_small(request, json=True))
        offer = partial(_offer, models.original.recognizer.labels, spelled)
        return JSONResponse({"words": await anyio.to_thread.run_sync(offer, limiter=turns)})

    def change(operation: Operation, action: Callable[..., dict[str, Any]]) -> Route:
        """Returns the route of an operation on the voice that takes no body."""

        async def answer(request: Request) -> Response:
            if operation.method == "post":
                _require_same_site(request)
            options = read_options(operation.options or Options, request.query_params)
            # Not among `turns`, which recordings wait for.
            return JSONResponse(await anyio.to_thread.run_sync(partial(action, _taught(voice), **options)))

        return Route(operation.path, answer, methods=[operation.method])

    def take(path: Path, name: str, letter: str) -> dict[str, Any]:
        return _taught(voice).take(path, name, letter)

    answers = Answers(models)
    sessions = Sessions(models)
    turns = anyio.CapacityLimiter(max(1, os.cpu_count() or 1))  # other requests wait
    app = Starlette(
        routes=[
            *(Route(path, static) for path in PAGE),
            Route(ABOUT.path, describe),
            Route(DOCUMENT.path, describe_api),
            _Endpoint(RECOGNIZE, answers.letter, turns).route,
            _Endpoint(SPELL, answers.spelling, turns).route,
            Route(LIVE.path, live, methods=[LIVE.method]),
            Route(WORDS.path, words, methods=[WORDS.method]),
            _Endpoint(TAKE, take, turns).route,
            change(VOICE, Voice.state),
            change(REMOVE, Voice.remove),
            change(ADAPT, Voice.adapt),
            change(STOP, Voice.stop),
            change(USE, Voice.use),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={HTTPException: _error, ClientDisconnect: _error, Exception: _error},
    )
    return _SameShape(app, hosts)
