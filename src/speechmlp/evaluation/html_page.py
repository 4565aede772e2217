"""Self-contained HTML pages of Jinja2 templates, with pictures and sounds inside, for dark and narrow screens.

Templates lie in the folder `templates` of the package that renders them; `base.html.j2`, `macros.html.j2` and
`style.css` here are shared. Everything is escaped unless a template says `safe`, which none does.

Dimension key: `T` samples.
"""

import base64
import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from torch import Tensor

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError
from speechmlp.evaluation.text import interval, percent
from speechmlp.files import new_folder

HERE = "speechmlp.evaluation"
PAGE = "index.html"
"""The page in its folder."""
IGNORE = "# Written by speechmlp with the page beside it: git ignores this folder.\n*\n"
"""Content of `.gitignore` in the folder, for whatever repository it lies in."""
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that file managers leave in folders that they show."""


@dataclass(frozen=True)
class Picture:
    """A picture for the macros `picture` and `figure`.

    Attributes:
        source: a data URL.
        description: alternative text.
        kind: chart, which is inverted on dark screens, or spectrogram, which is not.
    """

    source: str
    description: str
    kind: str = "chart"


@dataclass(frozen=True)
class Sound:
    """A sound for the macro `player`: a data URL, and its name."""

    source: str
    name: str


@dataclass(frozen=True)
class Table:
    """A table for the macro `table`.

    Attributes:
        head: names of the columns.
        rows: cells; the first of each is the row's name.
        numbers: whether the other cells are numbers, and not text.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


def require_own_folder(folder: str | Path, program: str, others: Sequence[str] = ()) -> None:
    """Checks that nothing is lost if a page replaces a folder: it is empty, or holds an unchanged earlier page.

    Args:
        folder: of the page; may not exist.
        program: that writes the page, as in `evaluate`.
        others: names of further files that it writes.

    Raises:
        UserError: the folder holds something else.
    """
    folder = Path(folder)
    if not folder.exists() and not folder.is_symlink():
        return
    elsewhere = "choose another folder, or move it away"
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder, found a file; {elsewhere}")
    found = {path.name for path in folder.iterdir()} - LEFT_BY_SYSTEMS
    if not found:
        return
    foreign = sorted(found - {PAGE, ".gitignore", *others})
    if ".gitignore" in found and (folder / ".gitignore").read_bytes() != IGNORE.encode():
        foreign.append(".gitignore")
    if foreign:
        raise UserError(f"{folder}: holds {foreign[0]}, which is not of an earlier report; {elsewhere}")
    page = (folder / PAGE).read_bytes() if PAGE in found else b""
    written, begin, _ = page.rpartition(b"<!-- ")
    if not begin or page != _signed(written, program):
        raise UserError(f"{folder / PAGE}: was not written by speechmlp {program}, or was changed since; {elsewhere}")


def _signed(page: bytes, program: str) -> bytes:
    """Returns a page with a comment that says what wrote it and has a digest, by which it is known again unchanged."""
    digest = hashlib.sha256(page).hexdigest()[:32]
    return page + f"<!-- written by speechmlp {program}, {digest} -->\n".encode()


def write_page(folder: str | Path, program: str, page: str, others: Mapping[str, str] | None = None) -> Path:
    """Writes a page into a folder of its own, whole or not at all; git ignores the folder.

    Args:
        folder: replaced if it holds an earlier page of the same program that was not changed.
        program: that writes the page, as in `evaluate`.
        page: HTML.
        others: name -> content of further files.

    Returns:
        The page's file.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    others = others or {}
    require_own_folder(folder, program, list(others))
    with new_folder(Path(folder)) as new:
        for name, content in {**others, ".gitignore": IGNORE}.items():
            (new / name).write_text(content, encoding="utf-8")
        (new / PAGE).write_bytes(_signed(page.rstrip("\n").encode() + b"\n", program))
    return Path(folder) / PAGE


def load_pyplot() -> Any:
    """Returns matplotlib.pyplot, drawing into files only.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise UserError("pictures need matplotlib: python -m pip install 'speechmlp[pictures]'") from error
    return pyplot


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def draw(figure: Any, description: str, kind: str = "chart") -> Picture:
    """Returns a matplotlib figure as a picture, and closes it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a label in a script that the font lacks
        figure.savefig(buffer, format="png", dpi=110)
    load_pyplot().close(figure)
    return Picture(_data("image/png", buffer.getvalue()), description, kind)


def shortened(name: str) -> str:
    """Returns a name as it is written at an axis."""
    return name if len(name) <= 12 else f"{name[:11]}…"


def sound(waveform: Tensor, name: str, rate: int = SAMPLE_RATE) -> Sound:
    """Returns the sound of a waveform, float32 [T] at a rate in Hz, scaled to the same peak as all others."""
    loudest = float(waveform.abs().max()) or 1.0
    return Sound(_data("audio/wav", wav_bytes((0.7 * waveform / loudest).numpy(), rate)), name)


def render(template: str, package: str = HERE, **values: Any) -> str:
    """Returns a page.

    Args:
        template: its file in the folder `templates` of the package.
        package: where the template lies; shared templates are found too.
        values: what the template names.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(HERE)])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, interval=interval)
    return environment.get_template(template).render(values)
