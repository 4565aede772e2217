"""Self-contained HTML pages: pictures and sounds inside, nothing loaded from elsewhere, for dark and narrow screens.

Dimension key: `T` samples.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import soundfile
from torch import Tensor

from speechmlp.audio.decoding import SAMPLE_RATE
from speechmlp.evaluation.pictures import load_pyplot

STYLE = """
:root { color-scheme: light dark; --line: #8886 }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem }
h1, h2, h3, p, li { overflow-wrap: anywhere } td { overflow-wrap: break-word }
table { border-collapse: collapse } th, td { text-align: left; padding: .25rem .75rem .25rem 0 }
th, td { border-bottom: 1px solid var(--line) }
td.number { font-variant-numeric: tabular-nums; text-align: right }
.wide { overflow-x: auto }
.headline { font-size: 2.5rem; font-weight: 700; margin: .5rem 0 0 }
figure { margin: 1rem 0 } figcaption { opacity: .8 }
img { max-width: 100%; height: auto }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); padding: 0 }
.cards li { list-style: none; border: 1px solid var(--line); border-radius: .5rem; padding: .75rem }
audio { width: 100% }
@media (prefers-color-scheme: dark) { img.chart { filter: invert(.9) hue-rotate(180deg) } }
"""


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(figure: Any, description: str, kind: str = "chart") -> str:
    """Returns an <img> of a matplotlib figure, and closes it; of the kind `chart`, it is turned over in the dark."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    load_pyplot().close(figure)
    return f'<img class="{kind}" alt="{html.escape(description)}" src="{_data("image/png", buffer.getvalue())}">'


def captioned(image: str, caption: str) -> str:
    """Returns a picture with a caption."""
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Returns a table; every cell but a row's first is a number, or text."""
    cells = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in head)
    kind = ' class="number"' if numbers else ""
    lines = [
        f"<tr><th scope=row>{html.escape(row[0])}</th>"
        + "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(lines)}</table></div>'


def player(waveform: Tensor, name: str) -> str:
    """Returns an <audio> of a waveform, float32 [T] at 16 kHz, made as loud as all others."""
    buffer = io.BytesIO()
    loudest = float(waveform.abs().max()) or 1.0
    soundfile.write(buffer, (0.7 * waveform / loudest).numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    source = _data("audio/wav", buffer.getvalue())
    return f'<audio controls preload="metadata" aria-label="{html.escape(name)}" src="{source}"></audio>'


def page(title: str, parts: Sequence[str]) -> str:
    """Returns the whole page, given what is in it."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    )
    body = f"<main>{''.join(parts)}</main>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'
