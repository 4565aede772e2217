"""Duplicate recordings, exact or nearly so: in two splits, under two letters, or merely repeated.

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
"""Utterances with the most similar spectra whose waveforms are compared with each utterance."""
SIMILAR = 0.8
"""Smallest cosine of aligned spectra for which waveforms are compared; copies resampled to 8 kHz and back reach it."""
SAME = 0.9
"""Smallest correlation of copies, maximum over all shifts; the most similar two of AN4's letters have 0.84."""
BLOCK = 512

Pair = tuple[int, int]


def exact_pairs(digests: Mapping[int, str]) -> list[Pair]:
    """Returns each repeated utterance, after the first one with the same samples, given index -> digest."""
    first: dict[str, int] = {}
    pairs = []
    for index, digest in digests.items():
        if digest and first.setdefault(digest, index) != index:
            pairs.append((first[digest], index))
    return pairs


def near_pairs(
    spectra: Tensor, indices: Sequence[int], read: Callable[[int], Tensor], known: Sequence[Pair]
) -> list[tuple[Pair, float]]:
    """Returns nearly equal pairs with their correlation: louder, shifted, resampled, coded or noisier copies.

    Args:
        spectra: [N, D], aligned and normalised.
        indices: of the N utterances, ascending.
        read: index -> waveform float32 [T].
        known: pairs that are exactly equal, which are left out.
    """
    copies = {later for _, later in known}
    kept = [row for row, index in enumerate(indices) if index not in copies]
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
        pair = (indices[kept[one]], indices[kept[other]])
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
    """Returns the findings of pairs: across splits, under two letters (or both), otherwise repeated."""
    details: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for first, second in pairs:
        one, other = utterances[first], utterances[second]
        kinds = [
            name
            for name, differs in (("across", one.split != other.split), ("letters", one.letter != other.letter))
            if differs
        ]
        for kind in [f"{'near' if near else 'same'}_{name}" for name in kinds] or [f"{'near_' * near}repeated"]:
            same = f"{one.path}, {one.letter} in {one.split or 'no split'}"
            details[kind].append((second, f"{other.letter} in {other.split or 'no split'}, same as {same}"))
    return [finding(kind, "", utterances, found) for kind, found in details.items()]
