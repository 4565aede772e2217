"""Export as a web page: a folder with the model, ONNX Runtime, and the page of `serve` with a backend in the browser.

The backend is JavaScript (`export/page`). The numbers of what it computes are written from the Python modules that it
follows, so that the two cannot differ in them; the tests compare their results.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from speechmlp import __version__, placing
from speechmlp.audio import channel_choice, hum, speech
from speechmlp.audio import placing as seconds
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.export.formats import export
from speechmlp.export.portable import Parity
from speechmlp.export.runtime import runtime_files
from speechmlp.files import whole_folder
from speechmlp.recognition import recognizer
from speechmlp.runs.checkpoint import Checkpoint

SETTINGS = "settings.json"
MODEL = "model.onnx"
MAX_BYTES, MAX_SECONDS = 16 << 20, 60.0
"""Largest and longest recording."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; img-src data:; "
    "media-src blob:; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy: nothing is loaded from, or sent to, another host."""


def _constants(module: ModuleType) -> dict[str, Any]:
    """Returns the numbers that a module defines in capitals."""
    kinds = (int, float, tuple)
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, kinds)}


def _rounded(values: Iterable[Any]) -> list[float]:
    return [float(f"{float(value):.9g}") for value in values]  # exact for float32


def settings(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Returns what the page has to know: about the model, and the numbers of all steps before it.

    Args:
        checkpoint: the model.
        name: of the model.
    """
    audio = checkpoint.model.audio
    tables, weights = speech.analysis_tables(), speech.packaged_weights()
    return {
        "about": {
            "speechmlp": __version__,
            "model": name,
            "labels": checkpoint.config.labels,
            "max_bytes": MAX_BYTES,
            "max_seconds": MAX_SECONDS,
        },
        "labels": checkpoint.config.labels,
        "reject_below": checkpoint.reject_below,
        "sample_rate": audio.sample_rate,
        "num_samples": audio.num_samples,
        "judged_rate": SAMPLE_RATE,
        "recognizer": _constants(recognizer),
        "placing": _constants(seconds),
        "hum": _constants(hum),
        "channels": _constants(channel_choice),
        "resampling": _constants(placing),
        "speech": {
            "constants": _constants(speech),
            "tables": {
                "window": _rounded(tables.window),
                "inside": [band.nonzero()[0].tolist() for band in tables.bands.T],
                "centres": _rounded(tables.centres),
                "emphasis": _rounded(tables.emphasis),
                "rise": _rounded(tables.rise),
                "lags": _rounded(tables.lags),
            },
            "weights": {key: value.tolist() for key, value in weights.items()},
        },
    }


@dataclass(frozen=True)
class WebExport:
    """What was written.

    Attributes:
        parity: of the model with PyTorch.
        size: bytes of all files.
    """

    parity: Parity
    size: int


def export_web(checkpoint: Checkpoint, name: str, kind: str, output: Path, runtime: Path | None = None) -> WebExport:
    """Writes a folder that any static web server can serve, whole or not at all.

    Args:
        checkpoint: the model.
        name: of the model.
        kind: of the model's file, one of `FORMATS`.
        output: the folder; replaced if it is an earlier one.
        runtime: a folder or archive with ONNX Runtime; None for a download.

    Raises:
        UserError: ONNX Runtime cannot be had, the model's predictions differ, a package is missing, or the folder
            cannot be written.
    """
    parts = runtime_files(runtime) | page_files(checkpoint, name)
    with whole_folder(output, SETTINGS) as folder:
        parity = export(checkpoint, name, kind, folder / MODEL, ends=True)
        for part, content in parts.items():
            (folder / part).write_bytes(content)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return WebExport(parity, size)


def page_files(checkpoint: Checkpoint, name: str) -> dict[str, bytes]:
    """Returns the files of the page, without the model and ONNX Runtime.

    Args:
        checkpoint: the model.
        name: of the model.
    """
    package = files("speechmlp")
    sources = [part for folder in (package / "page", package / "export" / "page") for part in folder.iterdir()]
    parts = {part.name: part.read_bytes() for part in sources if part.is_file()}
    parts["index.html"] = _with_policy(parts["index.html"].decode()).encode()
    parts[SETTINGS] = json.dumps(settings(checkpoint, name), separators=(",", ":")).encode()
    return parts


def _with_policy(page: str) -> str:
    """Returns a page with what `serve` says in headers, and with a message for who opens it as a file."""
    start, end = '<meta charset="utf-8">', "</body>"
    assert page.count(start) == page.count(end) == 1
    page = page.replace(start, f'{start}\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">')
    return page.replace(end, f'<script src="local.js"></script>\n{end}')
