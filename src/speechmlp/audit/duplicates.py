"""The same recording twice, exactly or almost: in two splits, under two letters, or merely again.

Dimension key: `N` utterances, `D` features, `T` samples.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from speechmlp.audit.checks import finding
from speechmlp.audit.findings import Finding
from speechmlp.data.manifest import Utterance

NEIGHBOURS = 3
"""Utterances of the most similar spectra that are compared with each by their waveforms."""
SIMILAR = 0.8
"""Cosine of aligned spectra from which waveforms are compared: copies resampled to 8 kHz and back still reach it."""
SAME = 0.9
"""Largest correlation of two waveforms over all shifts: copies reach it; the nearest two of AN4's letters have 0.84."""
BLOCK = 512

Pair = tuple[int, int]


def exact_pairs(digests: Mapping[int, str]) -> list[Pair]:
    """Returns each utterance with the first one that has the same samples, given position -> digest."""
    first: dict[str, int] = {}
    pairs = []
    for place, digest in digests.items():
        if digest and first.setdefault(digest, place) != place:
            pairs.append((first[digest], place))
    return pairs


def near_pairs(
    spectra: Tensor, places: Sequence[int], read: Callable[[int], Tensor], known: Sequence[Pair]
) -> list[tuple[Pair, float]]:
    """Returns pairs that are almost the same, with their correlation: louder, moved, resampled, coded, noisier.

    Args:
        spectra: [N, D], aligned and normalised.
        places: N positions, ascending.
        read: position -> waveform float32 [T].
        known: pairs that are exactly the same, and not looked for again.
    """
    copies = {later for _, later in known}
    kept = [row for row, place in enumerate(places) if place not in copies]
    if len(kept) < 2:
        return []
    centred = spectra[kept].float()
    centred = centred - centred.mean(1, keepdim=True)
    units = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
    candidates: set[Pair] = set()
    for first in range(0, len(units), BLOCK):
        similarity = units[first : first + BLOCK] @ units.T  # [B, N]
        rows = torch.arange(len(similarity))
        similarity[rows, first + rows] = -1.0
        values, columns = similarity.topk(min(NEIGHBOURS, len(units) - 1), dim=1)
        for row, column in (values > SIMILAR).nonzero().tolist():
            one, other = first + row, int(columns[row, column])
            candidates.add((min(one, other), max(one, other)))
    pairs = []
    for one, other in sorted(candidates):
        pair = (places[kept[one]], places[kept[other]])
        if (correlation := correlate(read(pair[0]), read(pair[1]))) >= SAME:
            pairs.append((pair, correlation))
    return pairs


def correlate(first: Tensor, second: Tensor) -> float:
    """Returns the largest normalised correlation, 0 to 1, of two waveforms [T] over all shifts and both polarities."""
    size = 1 << (len(first) + len(second) - 1).bit_length()
    one, other = (wave.double() - wave.double().mean() for wave in (first, second))
    product = torch.fft.rfft(one, size) * torch.fft.rfft(other, size).conj()
    norm = one.norm() * other.norm()
    return float(torch.fft.irfft(product, size).abs().max() / norm) if norm > 0 else 0.0


def report_pairs(utterances: Sequence[Utterance], pairs: Sequence[Pair], near: bool = False) -> list[Finding]:
    """Returns findings of pairs: across splits, under two letters (or both), or else merely repeated."""
    details: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for first, second in pairs:
        one, other = utterances[first], utterances[second]
        kinds = [
            name
            for name, differs in (("across", one.split != other.split), ("letters", one.letter != other.letter))
            if differs
        ]
        for kind in [f"{'near' if near else 'same'}_{name}" for name in kinds] or [f"{'near_' * near}repeated"]:
            said = f"{one.path}, {one.letter} in {one.split or 'no split'}"
            details[kind].append((second, f"{other.letter} in {other.split or 'no split'}, as {said}"))
    return [finding(kind, "", utterances, found) for kind, found in details.items()]
