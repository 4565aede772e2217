"""Mistakes with picture and sound, and pictures of saliency, for the evaluation's page.

Dimension key: `F` frames, `C` mel bands, `T` samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechmlp.audio_format import AudioInput
from speechmlp.config.schema import LogMelConfig
from speechmlp.evaluation.captions import COLOURS
from speechmlp.evaluation.html_page import Picture, draw, load_pyplot, shortened, sound
from speechmlp.evaluation.results import Mistake
from speechmlp.evaluation.saliency import integrated_gradients
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.features import LogMel


@dataclass(frozen=True)
class Example:
    """A mistake with what the page shows of it.

    Attributes:
        mistake: what was said and recognised.
        waveform: float32 [T].
        audio: its rate and length.
        log_mel: [F, C], natural logarithms.
        ends: where the front end finds the letter's start and end, in seconds, one pair for each reading.
        saliency: [F, C], what speaks for the recognised letter, in nats; None for models without mel bands.
    """

    mistake: Mistake
    waveform: Tensor
    audio: AudioInput
    log_mel: Tensor
    ends: tuple[tuple[float, float], ...]
    saliency: Tensor | None


def find_examples(model: SpeechClassifier, waveforms: Tensor, mistakes: Sequence[Mistake]) -> list[Example]:
    """Returns mistakes with waveform, spectrogram and saliency.

    Args:
        model: on the device of the waveforms.
        waveforms: float32 [M, T] of the mistakes.
        mistakes: M of them.
    """
    if not mistakes:
        return []
    with torch.no_grad():
        log_mel, ends = model.front_end.find(waveforms)
        if not ends:
            log_mel, _ = LogMel(LogMelConfig(), model.audio).to(waveforms.device).find(waveforms)
    recognised = torch.tensor([model.labels.index(mistake.recognised) for mistake in mistakes], device=waveforms.device)
    saliency = integrated_gradients(model, waveforms, recognised)
    hop = model.audio.seconds / (log_mel.shape[1] - 1)
    return [
        Example(
            mistake=mistake,
            waveform=waveforms[row].cpu(),
            audio=model.audio,
            log_mel=log_mel[row].cpu(),
            ends=tuple((start[row].item() * hop, end[row].item() * hop) for start, end in ends),
            saliency=None if saliency is None else saliency[row].cpu(),
        )
        for row, mistake in enumerate(mistakes)
    ]


def _draw_saliency(axes: Any, saliency: Tensor, extent: tuple[float, float, float, float] | None = None) -> None:
    """Draws cells [F, C]: red for the letter, blue against it, black for neither."""
    strongest = float(saliency.abs().quantile(0.995)) or 1.0
    settings = {"cmap": "berlin", "vmin": -strongest, "vmax": strongest, "extent": extent}
    axes.imshow(saliency.T.numpy(), origin="lower", aspect="auto", **settings)


def saliency_picture(pictures: Mapping[str, Tensor]) -> Picture:
    """Returns a picture of what decides for each letter, of mean saliencies [F, C] by its name."""
    plot, rows = load_pyplot(), -(-len(pictures) // 7)
    figure, grid = plot.subplots(rows, 7, figsize=(9, 1.25 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (name, picture) in zip(grid.flat, pictures.items(), strict=False):
        _draw_saliency(axes, picture)
        axes.set_title(shortened(name), fontsize=10, color="#888", parse_math=False)
    figure.patch.set_alpha(0)
    return draw(figure, f"What decides, for each of {' '.join(pictures)}", kind="spectrogram")


def example_card(example: Example) -> dict[str, Any]:
    """Returns what the page shows of a mistake: title, spectrogram with what decided, and sound."""
    plot, mistake = load_pyplot(), example.mistake
    rows = 1 if example.saliency is None else 2
    figure, grid = plot.subplots(
        rows, figsize=(3.4, 0.4 + 1.5 * rows), layout="constrained", squeeze=False, sharex=True
    )
    level = example.log_mel.numpy()
    extent = (0, example.audio.seconds, 0, level.shape[1])
    grid[0, 0].imshow(level.T, origin="lower", aspect="auto", cmap="magma", extent=extent)
    if example.saliency is not None:
        _draw_saliency(grid[1, 0], example.saliency, extent)
    for axes in grid[:, 0]:
        for colour, ends in zip(COLOURS, example.ends, strict=False):
            for end in ends:
                axes.axvline(end, color=colour, linewidth=1)
        axes.set_ylabel("mel band", color="#888")
        axes.tick_params(colors="#888")
    grid[-1, 0].set_xlabel("s", color="#888")
    figure.patch.set_alpha(0)  # these are not inverted on dark screens, so they have no paper
    title = f"{mistake.spoken} taken for {mistake.recognised}"
    return {
        "title": title,
        "mistake": mistake,
        "picture": draw(
            figure, f"Spectrogram of {mistake.id} of {mistake.speaker}, a spoken {mistake.spoken}", kind="spectrogram"
        ),
        "sound": sound(example.waveform, f"{mistake.id}: {title}", example.audio.sample_rate),
    }
