#!/usr/bin/env python3
"""Writes a manifest, with splits by speaker, for recordings in <root>/<letter>/* or for a manifest without splits."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from speechmlp.corpora.folder import assign_splits, read_source, require_shares, warning_of
from speechmlp.data.manifest import write_manifest
from speechmlp.errors import UserError, run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", metavar="PATH", required=True, help="folder of letter folders, or a manifest file")
    parser.add_argument("--output", metavar="FILE", required=True, help="the manifest to write, a .tsv file")
    parser.add_argument("--valid", type=float, default=0.1, help="share of speakers for validation (%(default)s)")
    parser.add_argument("--test", type=float, default=0.1, help="share of speakers for the test (%(default)s)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    require_shares(arguments.valid, arguments.test)
    target = Path(arguments.output)
    if target.suffix != ".tsv":
        raise UserError(f"{target}: expected a name that ends in .tsv")
    utterances, by_speaker = assign_splits(read_source(arguments.source), arguments.valid, arguments.test)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(target, utterances)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
    splits = Counter(utterance.split for utterance in utterances)
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"Folder: {len(utterances)} letters of {speakers} speakers")
    print(", ".join(f"{split}: {splits[split]}" for split in ("train", "valid", "test")))
    if (warning := warning_of(utterances, by_speaker)) is not None:
        print(warning)
    root = target.parent.resolve()
    if not all(utterance.path.resolve().is_relative_to(root) for utterance in utterances):
        print("Recordings lie outside the manifest's folder: train with corpus.outside=true")
    print(f"Manifest: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
