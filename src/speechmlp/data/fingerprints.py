"""Fingerprints of recordings, by which a model's training letters are known again under any name, path or format.

A fingerprint is a hash of the samples in the middle of the input, so a lossless copy has the same one. With another
`corpus.margin` it may differ, since the margin decides the constant offset that is removed.

Dimension key: `N` utterances, `T` samples (16000).
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from speechmlp.data.packed import PackedCorpus

NEAR_MIDDLE = 1000
"""Samples on each side of the middle of the input that are hashed; short recordings fill it too."""
SIZE = 6
"""Bytes: with a million fingerprints, one recording in 280 million is mistaken for one of them."""
BLOCK = 2048


class Fingerprints:
    """A set of fingerprints.

    Args:
        known: fingerprints of `SIZE` bytes each.
    """

    def __init__(self, known: Iterable[bytes] = ()) -> None:
        self._known = frozenset(known) - {b""}

    def __len__(self) -> int:
        return len(self._known)

    def __or__(self, other: "Fingerprints") -> "Fingerprints":
        return Fingerprints(self._known | other._known)

    def __contains__(self, fingerprint: bytes) -> bool:
        return fingerprint in self._known

    def to_tensor(self) -> Tensor:
        """Returns them as uint8 [N, `SIZE`], in order, for a checkpoint."""
        joined = b"".join(sorted(self._known))
        stored: Tensor = torch.from_numpy(np.frombuffer(joined, np.uint8).copy())
        return stored.view(-1, SIZE)

    @classmethod
    def of_tensor(cls, stored: Tensor) -> "Fingerprints":
        """Returns those that `to_tensor` stored.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(stored, Tensor) or stored.dtype != torch.uint8 or stored.shape[1:] != (SIZE,):
            raise ValueError("fingerprints")
        joined = stored.contiguous().numpy().tobytes()
        return cls(joined[first : first + SIZE] for first in range(0, len(joined), SIZE))


def fingerprint(samples: Tensor) -> bytes:
    """Returns the fingerprint of a waveform int16 [T]: of all of it if its middle is silent; empty if all is silent."""
    half = len(samples) // 2
    middle = samples[max(0, half - NEAR_MIDDLE) : half + NEAR_MIDDLE]
    hashed = middle if middle.any() else samples
    return hashlib.sha1(hashed.numpy().tobytes()).digest()[:SIZE] if hashed.any() else b""


def fingerprints_of(packed: PackedCorpus, positions: Sequence[int] | None = None) -> list[bytes]:
    """Returns the fingerprints of some utterances of a decoded corpus, or of all; reads an eighth of them."""
    chosen = range(len(packed.utterances)) if positions is None else positions
    found = []
    for first in range(0, len(chosen), BLOCK):
        found += [fingerprint(packed.waveforms[position]) for position in chosen[first : first + BLOCK]]
        packed.release()
    return found
