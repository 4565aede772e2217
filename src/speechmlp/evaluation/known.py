"""Which letters a model was trained on: by fingerprints of recordings, or by the manifests of its configuration."""

from collections.abc import Sequence
from pathlib import Path

from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError
from speechmlp.runs.checkpoint import Checkpoint, starts


def find_known(
    checkpoint: Checkpoint, utterances: Sequence[Utterance], fingerprints: Sequence[bytes]
) -> tuple[list[bool], list[str]]:
    """Returns whether a model was trained on each of N letters, and manifests that would be needed to know it.

    Checkpoints hold the fingerprints of their training letters. Earlier ones do not: then the manifests of their
    configuration are read, if they are there. A checkpoint that started from one, such as an adapted one, was trained
    on the letters of both.

    Args:
        checkpoint: of the model.
        utterances: N lines of a manifest.
        fingerprints: of the N recordings.
    """
    if checkpoint.trained_on is not None:
        known, missing = [one in checkpoint.trained_on for one in fingerprints], list[str]()
        # Fingerprints include those of the starting models, back to one that has none.
        unmarked = (start for _, start in starts(checkpoint) if start is not None and start.trained_on is None)
        if (earlier := next(unmarked, None)) is not None:
            older, missing = find_known(earlier, utterances, fingerprints)
            known = [one or other for one, other in zip(known, older, strict=True)]
        return known, missing
    paths: set[Path] = set()
    missing = []
    for manifest, splits in dict.fromkeys(checkpoint.config.corpus.trained_on):
        try:
            lines = read_manifest(manifest, allow_shared=True, allow_outside=True, labels=None)
        except UserError:
            missing.append(manifest)
        else:
            paths.update(line.path.resolve() for line in lines if line.split in splits)
    return [utterance.path.resolve() in paths for utterance in utterances], missing
