"""Saliency: integrated gradients over time and frequency (Sundararajan, Taly & Yan, 2017).

Dimension key: `B` batch, `T` samples, `F` frames, `C` mel bands.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from speechmlp.models.classifier import SpeechClassifier

STEPS = 32
"""Points on the path from silence; the sums then differ from the logits' difference by about a hundredth of it."""


def _readable(model: SpeechClassifier, waveforms: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Returns log-mel energies [B, F, C], and the rest of the model: from such energies to log-probabilities [B, L].

    The letter's ends, and the mean and deviation that it is normalised with, are fixed to those of the waveforms:
    normalisation would otherwise undo the path from silence. None for models without mel bands.
    """
    front_end = model.front_end
    if front_end.spectrum is None:
        return None
    log_mel, ends = front_end.find(waveforms)
    reference = front_end.read(log_mel, ends)

    def read(energies: Tensor) -> Tensor:
        return model.of_readings(front_end.read(energies, ends, log_mel), reference).log_softmax(1)

    return log_mel, read


def integrated_gradients(model: SpeechClassifier, waveforms: Tensor, letters: Tensor) -> Tensor | None:
    """Returns how much each cell of the spectrogram contributes to a letter, in nats: [B, F, C].

    Gradients of the letter's log-probability are averaged on the straight path from silence (each utterance's quietest
    cell everywhere) to the utterance, and multiplied by the difference. The cells' sum is about the difference of the
    log-probability between both ends.

    Args:
        model: in evaluation mode, on the waveforms' device.
        waveforms: float32 [B, T].
        letters: int64 [B], the letter for each one.

    Returns:
        The contributions; None for models without mel bands.
    """
    with torch.no_grad():
        found = _readable(model, waveforms)
    if found is None:
        return None
    log_mel, probabilities = found
    silence = log_mel.amin((1, 2), keepdim=True).expand_as(log_mel)
    total = torch.zeros_like(log_mel)
    with torch.enable_grad():
        for step in range(STEPS):
            position = (silence + (step + 0.5) / STEPS * (log_mel - silence)).detach().requires_grad_(True)
            chosen = probabilities(position).gather(1, letters[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, position)
            total += gradient
    return (total / STEPS * (log_mel - silence)).detach()


def mean_pictures(model: SpeechClassifier, waveforms: Tensor, labels: Tensor, columns: int = 40) -> dict[int, Tensor]:
    """Returns the mean saliency of each label over its utterances, [columns, C].

    The time axis is the letter with a tenth of its length before and after if the front end finds its ends, and the
    whole second otherwise. Empty for models without mel bands, and for no utterances.

    Args:
        model: in evaluation mode, on the waveforms' device.
        waveforms: float32 [B, T] of recognised letters.
        labels: int64 [B].
        columns: of the pictures.
    """
    cells = integrated_gradients(model, waveforms, labels) if len(labels) else None
    if cells is None:
        return {}
    frames = cells.shape[1]
    start, end = torch.zeros(len(cells), device=cells.device), torch.full((len(cells),), frames - 1.0).to(cells.device)
    with torch.no_grad():
        ends = model.front_end.find(waveforms)[1]
    if ends:
        start, end = ends[0]
    margin = 0.1 * (end - start)
    fraction = torch.linspace(0, 1, columns, device=cells.device)
    position = (start - margin)[:, None] + fraction * (end - start + 2 * margin)[:, None]
    weight = (
        1 - (position.clamp(0, frames - 1)[..., None] - torch.arange(frames, device=cells.device)).abs()
    ).clamp_min(0)
    pictures = weight @ cells
    return {int(label): pictures[labels == label].mean(0).cpu() for label in set(labels.tolist())}
