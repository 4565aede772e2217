"""An audit as one self-contained page: what was found, with pictures and sounds of it."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from speechmlp.audio.decoding import SAMPLE_RATE, fit_one_second, load, to_mono_16k
from speechmlp.audio.measures import Sound
from speechmlp.audit.findings import KINDS, Audit, DoubtedLabel, Finding, Item
from speechmlp.config.schema import LogMelConfig
from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.evaluation import pages
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.labels import LETTERS
from speechmlp.models.features import LogMel

EXAMPLES = 6
"""Utterances of each kind with picture and sound."""
DOUBTS = 24
"""Doubted labels with picture and sound."""
ROWS = 200
"""Utterances of each kind in a table; the JSON has all."""
SECONDS = 3.0
"""Of a recording that are heard."""
TITLE = "Spoken letters: audit"


def _heard(path: str, utterances: Mapping[str, Utterance], item: Item | DoubtedLabel) -> Tensor | None:
    """Returns a recording at 16 kHz, its beginning where it is long; None where it cannot be read."""
    utterance = utterances[f"{path}\0{item.id}"]
    try:
        waveform = to_mono_16k(*load(utterance.path, utterance.start, utterance.end))
    except UserError:
        return None
    return waveform[: round(SECONDS * SAMPLE_RATE)]


def _drawing(waveform: Tensor, description: str) -> str:
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
    return pages.picture(figure, description, kind="spectrogram")


def _card(title: str, item: Item | DoubtedLabel, detail: str, utterances: Mapping[str, Utterance]) -> str:
    waveform = _heard(item.path, utterances, item)
    shown = ""
    if waveform is not None:
        shown = _drawing(waveform, f"Waveform and spectrogram of {item.id}") + pages.player(
            waveform, f"{item.id}: {title}"
        )
    where = f"{item.path}, speaker {item.speaker}, {item.split or 'no split'}"
    return f"<li><h3>{html.escape(title)}</h3>{shown}<p>{html.escape(detail)}</p><p>{html.escape(where)}</p></li>"


def _section(found: Finding, utterances: Mapping[str, Utterance]) -> str:
    kind = KINDS[found.kind]
    parts = [
        f'<h2 id="{found.kind}">{html.escape(found.severity.capitalize())}: {html.escape(kind.title)}</h2>',
        f"<p>{html.escape(found.message)}</p><p>To do: {html.escape(kind.advice)}.</p>",
    ]
    if found.items and found.kind != "unknown_speaker":
        cards = "".join(_card(item.letter, item, item.detail, utterances) for item in found.items[:EXAMPLES])
        parts.append(f'<ul class="cards">{cards}</ul>')
    if found.items:
        rows = [(item.path, item.letter, item.speaker, item.split or "", item.detail) for item in found.items[:ROWS]]
        table = pages.table(("path", "letter", "speaker", "split", "found"), rows, numbers=False)
        more = f", the first {ROWS}" if len(found.items) > ROWS else ""
        parts.append(f"<details><summary>All {len(found.items)} as a table{more}</summary>{table}</details>")
    return "".join(parts)


def _doubts(audit: Audit, utterances: Mapping[str, Utterance]) -> str:
    doubts = audit.doubts or ()
    cards = "".join(
        _card(
            f"{doubt.letter}, or rather {doubt.suggested}?",
            doubt,
            f"{doubt.suggested} is more probable by {doubt.margin:.2f}",
            utterances,
        )
        for doubt in doubts[:DOUBTS]
    )
    rows = [
        (d.path, d.letter, d.suggested, f"{d.margin:+.3f}", "yes" if d.confident else "", d.speaker, d.split or "")
        for d in doubts[:ROWS]
    ]
    head = ("path", "label", "more probable", "by", "counted as wrong", "speaker", "split")
    return (
        f'<h2 id="doubts">Doubted labels</h2><p>Of {audit.num_utterances} labels, {audit.wrong_labels} are probably '
        "wrong by confident learning: a network that has not heard the speaker finds another letter as probable as it "
        f'is where it belongs. Most doubted first; listen before you change one.</p><ul class="cards">{cards}</ul>'
        f"<details><summary>As a table</summary>{pages.table(head, rows, numbers=False)}</details>"
    )


def _letters(audit: Audit) -> str:
    plot = load_pyplot()
    figure, axes = plot.subplots(figsize=(9, 3), layout="constrained")
    below = np.zeros(len(LETTERS))
    for split, counts in audit.letters.items():
        values = np.array([counts[letter] for letter in LETTERS])
        axes.bar(LETTERS, values, bottom=below, label=split)
        below += values
    axes.set_ylabel("utterances")
    axes.legend()
    picture = pages.picture(figure, f"Utterances of each letter in {', '.join(audit.letters)}")
    rows = [(letter, *(str(counts[letter]) for counts in audit.letters.values())) for letter in LETTERS]
    table = pages.table(("letter", *audit.letters), rows)
    return f"{pages.captioned(picture, 'By split')}<details><summary>As a table</summary>{table}</details>"


def _spreads(audit: Audit, sounds: Sequence[Sound]) -> str:
    plot = load_pyplot()
    figure, grid = plot.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    measured = ([s.seconds for s in sounds], [s.level for s in sounds], [s.range for s in sounds])
    for axes, spread, values in zip(grid, audit.spreads, measured, strict=True):
        axes.hist(np.clip(values, *np.percentile(values, (0.1, 99.9))), bins=40, color="#4878a8")
        axes.set_xlabel(f"{spread.name}, {spread.unit}")
    picture = pages.picture(figure, "Lengths, loudness and level above the floor of the recordings")
    rows = [(f"{s.name}, {s.unit}", f"{s.low:g}", f"{s.median:g}", f"{s.high:g}") for s in audit.spreads]
    return pages.captioned(picture, "How recordings differ") + pages.table(
        ("", "5 % under", "median", "5 % over"), rows
    )


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
    errors = sum(found.severity == "error" for found in audit.findings)
    verdict = "No errors" if audit.sound else f"{errors} kind{'s' if errors > 1 else ''} of errors"
    told = (
        "An accuracy on this corpus means what it says, as far as can be checked."
        if audit.sound
        else "An accuracy on this corpus would be meaningless until they are mended."
    )
    splits = ", ".join(f"{count} in {split}" for split, count in audit.splits.items())
    rows = [(f"{found.severity}", found.message, KINDS[found.kind].advice) for found in audit.findings]
    parts = [
        f"<h1>{TITLE}</h1>",
        f"<p>{html.escape(audit.manifest)}: {audit.num_utterances} utterances of {audit.num_speakers} speakers; "
        f"{html.escape(splits)}.</p>",
        f'<p class="headline" id="verdict">{verdict}</p><p>{told}</p>',
        pages.table(("", "found", "to do"), rows, numbers=False) if rows else "<p>Nothing to complain of.</p>",
        f"<h2>Letters</h2>{_letters(audit)}",
    ]
    audible = [sound for sound in sounds.values() if sound.digest]
    with torch.inference_mode():
        if audit.spreads and audible:
            parts.append(f"<h2>Recordings</h2>{_spreads(audit, audible)}")
        parts += [_section(found, by_name) for found in audit.findings]
        if audit.doubts is not None:
            parts.append(_doubts(audit, by_name))
    return pages.page(TITLE, parts)
