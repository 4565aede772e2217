"""What can be checked before every training without a wait: the manifest, and the corpus as it is decoded.

Dimension key: `N` utterances, `T` samples.
"""

import hashlib

import torch

from speechmlp.audit.checks import check_manifest, in_order
from speechmlp.audit.duplicates import exact_pairs, report_pairs
from speechmlp.audit.findings import Finding
from speechmlp.data.packed import PackedCorpus

MIDDLE = slice(7000, 9000)
"""Samples that tell recordings apart: the middle of the second, where short ones lie."""
BLOCK = 2048
QUIET = ("missing_letter", "unbalanced", "incomplete_speaker", "few_speakers", "no_splits")
"""Kinds that are how a corpus is, rather than news at every training."""


def quick_check(packed: PackedCorpus) -> tuple[Finding, ...]:
    """Returns what is wrong with a corpus by its manifest, and the same audio twice; gravest first.

    Reads an eighth of the decoded corpus; what looks the same there is compared as a whole.
    """
    found = [one for one in check_manifest(packed.utterances) if one.kind not in QUIET]
    digests: dict[int, str] = {}
    for first in range(0, len(packed.utterances), BLOCK):
        middles = packed.waveforms[first : first + BLOCK, MIDDLE].numpy()
        for place, middle in enumerate(middles, first):
            if middle.any():
                digests[place] = hashlib.sha1(middle.tobytes()).hexdigest()
        packed.release()
    pairs = []
    for number, (one, other) in enumerate(exact_pairs(digests), start=1):
        if torch.equal(packed.waveforms[one], packed.waveforms[other]):
            pairs.append((one, other))
        if number % BLOCK == 0:
            packed.release()
    return in_order([*found, *report_pairs(packed.utterances, pairs)])
