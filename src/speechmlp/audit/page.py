"""An audit as one self-contained page: what was found, with pictures and sounds of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechmlp.audio.decoding import fit_one_second, load, to_mono_16k
from speechmlp.audio.measures import Sound
from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.audit.findings import KINDS, Audit, DoubtedLabel, Finding, Item, describe_doubts
from speechmlp.config.schema import LogMelConfig
from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.evaluation.html_page import Picture, Table, draw, load_pyplot, render, shortened, sound
from speechmlp.models.features import LogMel

EXAMPLES = 6
"""Utterances of each kind with picture and sound."""
DOUBTS = 24
"""Doubted labels with picture and sound."""
ROWS = 200
"""Utterances of each kind in a table; the JSON has all."""
SECONDS = 3.0
"""Longest part of a recording that is played."""


def _heard(path: str, utterances: Mapping[str, Utterance], item: Item | DoubtedLabel) -> Tensor | None:
    """Returns a recording at 16 kHz, its beginning where it is long; None where it cannot be read."""
    utterance = utterances[f"{path}\0{item.id}"]
    try:
        waveform = to_mono_16k(*load(utterance.path, utterance.start, utterance.end))
    except UserError:
        return None
    return waveform[: round(SECONDS * SAMPLE_RATE)]


def _drawing(waveform: Tensor, description: str) -> Picture:
    plot = load_pyplot()
    figure, (upper, lower) = plot.subplots(2, figsize=(3.4, 2.6), layout="constrained", height_ratios=(1, 2))
    upper.plot(np.arange(len(waveform)) / SAMPLE_RATE, waveform.numpy(), linewidth=0.5, color="#4878a8")
    upper.margins(x=0)
    log_mel = LogMel(LogMelConfig())(fit_one_second(waveform)[0][None])[0, 0]  # [C, F]
    lower.imshow(log_mel.numpy(), origin="lower", aspect="auto", cmap="magma", extent=(0, 1, 0, len(log_mel)))
    for axes in (upper, lower):
        axes.tick_params(colors="#888", labelsize=7)
    lower.set_xlabel("s", color="#888")
    figure.patch.set_alpha(0)
    upper.patch.set_alpha(0)
    return draw(figure, description, kind="spectrogram")


def _card(title: str, item: Item | DoubtedLabel, detail: str, utterances: Mapping[str, Utterance]) -> dict[str, Any]:
    waveform = _heard(item.path, utterances, item)
    card: dict[str, Any] = {"title": title, "detail": detail, "item": item, "picture": None, "sound": None}
    if waveform is not None:
        card["picture"] = _drawing(waveform, f"Waveform and spectrogram of {item.id}")
        card["sound"] = sound(waveform, f"{item.id}: {title}")
    return card


def _section(found: Finding, utterances: Mapping[str, Utterance]) -> dict[str, Any]:
    shown = found.items[:EXAMPLES] if found.kind != "unknown_speaker" else ()
    rows = [(item.path, item.letter, item.speaker, item.split or "", item.detail) for item in found.items[:ROWS]]
    return {
        "found": found,
        "kind": KINDS[found.kind],
        "cards": [_card(item.letter, item, item.detail, utterances) for item in shown],
        "table": Table(("path", "letter", "speaker", "split", "found"), rows, numbers=False),
    }


def _doubts(audit: Audit, utterances: Mapping[str, Utterance]) -> dict[str, Any]:
    doubts, lines = audit.doubts or (), [*audit.notes, *describe_doubts(audit)]
    cards = [
        _card(
            f"{doubt.letter}, or rather {doubt.suggested}?",
            doubt,
            f"{doubt.suggested} is more probable by {doubt.margin:.2f}",
            utterances,
        )
        for doubt in doubts[:DOUBTS]
    ]
    rows = [
        (d.path, d.letter, d.suggested, f"{d.margin:+.3f}", "yes" if d.confident else "", d.speaker, d.split or "")
        for d in doubts[:ROWS]
    ]
    head = ("path", "label", "more probable", "by", "stands out", "speaker", "split")
    return {"cards": cards, "table": Table(head, rows, numbers=False), "lines": lines}


def _letters(audit: Audit) -> dict[str, Picture | Table]:
    plot = load_pyplot()
    figure, axes = plot.subplots(figsize=(9, 3), layout="constrained")
    names = list(next(iter(audit.letters.values())))
    below = np.zeros(len(names))
    for split, counts in audit.letters.items():
        values = np.array([counts[letter] for letter in names])
        axes.bar(range(len(names)), values, bottom=below, label=split)
        below += values
    shown = [shortened(name) for name in names]
    axes.set_xticks(range(len(names)), shown, parse_math=False, rotation=60 if max(map(len, names)) > 2 else 0)
    axes.set_ylabel("utterances")
    axes.legend()
    rows = [(letter, *(str(counts[letter]) for counts in audit.letters.values())) for letter in names]
    return {
        "picture": draw(figure, f"Utterances of each letter in {', '.join(audit.letters)}"),
        "table": Table(("letter", *audit.letters), rows),
    }


def _spreads(audit: Audit, sounds: Sequence[Sound]) -> dict[str, Picture | Table]:
    plot = load_pyplot()
    figure, grid = plot.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    measured = ([s.seconds for s in sounds], [s.level for s in sounds], [s.range for s in sounds])
    for axes, spread, values in zip(grid, audit.spreads, measured, strict=True):
        axes.hist(np.clip(values, *np.percentile(values, (0.1, 99.9))), bins=40, color="#4878a8")
        axes.set_xlabel(f"{spread.name}, {spread.unit}")
    rows = [(f"{s.name}, {s.unit}", f"{s.low:g}", f"{s.median:g}", f"{s.high:g}") for s in audit.spreads]
    return {
        "picture": draw(figure, "Lengths, loudness and level above the floor of the recordings"),
        "table": Table(("", "5 % under", "median", "5 % over"), rows),
    }


def render_audit(audit: Audit, utterances: Sequence[Utterance], sounds: Mapping[int, Sound]) -> str:
    """Returns the page.

    Args:
        audit: what was found.
        utterances: of the manifest.
        sounds: position -> what the recording measures.

    Raises:
        UserError: matplotlib is not installed.
    """
    by_name = {f"{utterance.path}\0{utterance.id}": utterance for utterance in utterances}
    overview = [(f"{found.severity}", found.message, KINDS[found.kind].advice) for found in audit.findings]
    audible = [sound for sound in sounds.values() if sound.digest]
    with torch.inference_mode():
        return render(
            "audit.html.j2",
            package="speechmlp.audit",
            title="Spoken letters: audit",
            audit=audit,
            errors=sum(found.severity == "error" for found in audit.findings),
            overview=Table(("", "found", "to do"), overview, numbers=False),
            letters=_letters(audit),
            spreads=_spreads(audit, audible) if audit.spreads and audible else None,
            sections=[_section(found, by_name) for found in audit.findings],
            most=ROWS,
            doubts=None if audit.doubts is None else _doubts(audit, by_name),
        )
