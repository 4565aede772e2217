"""The web page and its API: a recording is posted, the recognised letter comes back as JSON. No recording is stored.

`POST /api/recognize?name=clip.flac&waveform=300` with the recording as body; both parameters are optional.
"""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import soundfile
import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from speechmlp import __version__
from speechmlp.audio.decoding import FFMPEG_SUFFIXES, load, to_mono_16k
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.recognition.output import letter_values
from speechmlp.recognition.recognizer import Recognizer

MAX_BYTES = 16 << 20
MAX_IGNORED = 4 * MAX_BYTES
"""Bytes that are read of a body that is too large: many clients read no answer before they have sent all of it."""
MAX_SECONDS = 60.0
"""Longest recording."""
MAX_SAMPLES = int(MAX_SECONDS * 192_000)
"""Most samples of all channels, so that a small file cannot become gigabytes."""
UPLOAD_SECONDS = 60.0
"""Longest time of an upload."""
MAX_BARS = 2000

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/capture.js": ("capture.js", "text/javascript"),
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


async def _receive(request: Request, path: Path) -> None:
    """Writes a request's body to a file.

    Raises:
        HTTPException: it is too large, too slow, or empty.
    """
    text = f"expected at most {MAX_BYTES >> 20} MB; one spoken letter is enough"
    too_large = HTTPException(413, text, headers={"Connection": "close"})
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_IGNORED:
        raise too_large
    size = 0
    try:
        with anyio.fail_after(UPLOAD_SECONDS), path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BYTES:
                    file.write(chunk)
                elif size > MAX_IGNORED:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, f"the upload took longer than {UPLOAD_SECONDS:g} s") from error
    if size > MAX_BYTES:
        raise too_large
    if not size:
        raise HTTPException(400, "the recording is empty; expected an audio file as the request's body")


def _require_short(path: Path) -> None:
    """Checks a recording's header before decoding.

    Raises:
        UserError: the recording is too long.
    """
    if path.suffix in FFMPEG_SUFFIXES:
        try:
            from torchcodec.decoders import AudioDecoder

            found = AudioDecoder(path).metadata
        except Exception:  # not installed, or it cannot read this: `load` reports which
            return
        seconds, rate, channels = found.duration_seconds or math.inf, found.sample_rate or 1, found.num_channels or 1
    else:
        try:
            header = soundfile.info(path)
        except (soundfile.LibsndfileError, RuntimeError):
            return
        seconds, rate, channels = header.frames / max(1, header.samplerate), header.samplerate, header.channels
    if seconds > MAX_SECONDS:
        raise UserError(f"{path}: expected at most {MAX_SECONDS:g} s, found {seconds:g} s; one spoken letter is enough")
    if seconds * rate * channels > MAX_SAMPLES:
        raise UserError(f"{path}: expected at most {MAX_SAMPLES} samples, found {channels} channels at {rate} Hz")


def loudness(mono: Tensor, bars: int) -> list[float]:
    """Returns the largest absolute sample of each of `bars` equal parts of a waveform [T]."""
    peaks = torch.nn.functional.adaptive_max_pool1d(mono.abs()[None], bars)[0]
    return [round(peak, 3) for peak in peaks.tolist()]


def recognize(recognizer: Recognizer, path: Path, name: str, bars: int) -> dict[str, Any]:
    """Returns the letter of a recording as values for JSON.

    Args:
        recognizer: the model.
        path: the recording.
        name: its name in messages.
        bars: of the plotted waveform; 0 for no waveform.

    Raises:
        UserError: the recording is invalid.
    """
    try:
        _require_short(path)
        mono = to_mono_16k(*load(path, 0.0, MAX_SECONDS))
        found = recognizer(mono, SAMPLE_RATE)
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
    values = letter_values(name, found) | {"seconds": round(len(mono) / SAMPLE_RATE, 4)}
    return values | {"waveform": loudness(mono, bars)} if bars else values


class _Recognize:
    """The endpoint for recordings."""

    def __init__(self, recognizer: Recognizer, folder: Path) -> None:
        self._recognizer, self._folder = recognizer, folder
        self._turns = anyio.CapacityLimiter(max(1, os.cpu_count() or 1))  # other requests wait

    async def post(self, request: Request) -> Response:
        """Returns the letter of the recording in a request's body."""
        _require_same_site(request)
        name = Path(request.query_params.get("name", "")).name[:100] or "recording"
        wanted = request.query_params.get("waveform", "0")
        bars = min(int(wanted), MAX_BARS) if wanted.isdecimal() and len(wanted) < 9 else 0
        suffix = Path(name).suffix.lower()
        file, path = tempfile.mkstemp(suffix if suffix in FFMPEG_SUFFIXES else "", dir=self._folder)
        os.close(file)
        try:
            await _receive(request, Path(path))
            values = await anyio.to_thread.run_sync(
                recognize, self._recognizer, Path(path), name, bars, limiter=self._turns
            )
        except UserError as error:
            raise HTTPException(422, " ".join(str(error).split())) from error
        finally:
            Path(path).unlink(missing_ok=True)
        return JSONResponse(values, headers=HEADERS)


async def _error(_request: Request, error: Exception) -> Response:
    """Returns an error as one line of JSON."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, HEADERS | dict(error.headers or {}))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    return JSONResponse({"error": "internal error; the recording was not recognised"}, 500, HEADERS)


def make_app(recognizer: Recognizer, model: str, hosts: Sequence[str], folder: Path) -> Starlette:
    """Returns the application.

    Args:
        recognizer: the model.
        model: its name, shown by the page.
        hosts: accepted host names, against DNS rebinding; * for any.
        folder: of uploads during recognition.
    """
    about: Mapping[str, Any] = {
        "speechmlp": __version__,
        "model": model,
        "labels": LETTERS,
        "max_bytes": MAX_BYTES,
        "max_seconds": MAX_SECONDS,
    }
    contents = {path: files("speechmlp.serve").joinpath("page", name).read_bytes() for path, (name, _) in PAGE.items()}

    async def static(request: Request) -> Response:
        path = request.url.path
        return Response(contents[path], media_type=PAGE[path][1], headers=HEADERS)

    async def describe(_request: Request) -> Response:
        return JSONResponse(about, headers=HEADERS)

    return Starlette(
        routes=[
            *(Route(path, static) for path in PAGE),
            Route("/api", describe),
            Route("/api/recognize", _Recognize(recognizer, folder).post, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={HTTPException: _error, ClientDisconnect: _error, Exception: _error},
    )
