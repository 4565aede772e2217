"""Self-contained HTML pages of Jinja2 templates, with pictures and sounds inside, for dark and narrow screens.

Templates lie in the folder `templates` of the package that renders them; `base.html.j2`, `macros.html.j2` and
`style.css` here are shared. Everything is escaped unless a template says `safe`, which none does.

Dimension key: `T` samples.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import soundfile
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from torch import Tensor

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.evaluation.text import interval, percent

HERE = "speechmlp.evaluation"


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


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def draw(figure: Any, description: str, kind: str = "chart") -> Picture:
    """Returns a matplotlib figure as a picture, and closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    load_pyplot().close(figure)
    return Picture(_data("image/png", buffer.getvalue()), description, kind)


def sound(waveform: Tensor, name: str) -> Sound:
    """Returns the sound of a waveform, float32 [T] at 16 kHz, scaled to the same peak as all others."""
    buffer = io.BytesIO()
    loudest = float(waveform.abs().max()) or 1.0
    soundfile.write(buffer, (0.7 * waveform / loudest).numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return Sound(_data("audio/wav", buffer.getvalue()), name)


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
