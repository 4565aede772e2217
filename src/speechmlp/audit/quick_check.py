"""Checks that are fast enough to run before every training: the manifest, and exact copies in the packed corpus.

Dimension key: `N` utterances, `T` samples.
"""

import hashlib

import torch

from speechmlp.audit.checks import check_manifest, in_order
from speechmlp.audit.duplicates import exact_pairs, report_pairs
from speechmlp.audit.findings import Finding
from speechmlp.data.packed import PackedCorpus

MIDDLE = slice(7000, 9000)
"""Samples that are compared first: the middle of the second, which short recordings fill too."""
BLOCK = 2048
QUIET = ("missing_letter", "unbalanced", "incomplete_speaker", "few_speakers", "no_splits")
"""Kinds that are properties of a corpus and not worth repeating at every training."""


def quick_check(packed: PackedCorpus) -> tuple[Finding, ...]:
    """Returns the findings of the manifest, and exact copies; errors first.

    Reads an eighth of the decoded corpus; recordings that are equal there are compared as a whole.
    """
    found = [one for one in check_manifest(packed.utterances) if one.kind not in QUIET]
    digests: dict[int, str] = {}
    for first in range(0, len(packed.utterances), BLOCK):
        middles = packed.waveforms[first : first + BLOCK, MIDDLE].numpy()
        for index, middle in enumerate(middles, first):
            if middle.any():
                digests[index] = hashlib.sha1(middle.tobytes()).hexdigest()
        packed.release()
    pairs = []
    for number, (one, other) in enumerate(exact_pairs(digests), start=1):
        if torch.equal(packed.waveforms[one], packed.waveforms[other]):
            pairs.append((one, other))
        if number % BLOCK == 0:
            packed.release()
    return in_order([*found, *report_pairs(packed.utterances, pairs)])
