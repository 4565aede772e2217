#!/usr/bin/env python3
"""Makes a corpus of letters spelled by Kokoro's 54 voices and mixtures of them, cut out by forced alignment.

The voices are those of the npm package kokoro-js, which npm downloads unless --voices names the archive.
"""

import argparse
import sys

from speechmlp.corpora.kokoro import prepare_kokoro
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="FOLDER", default="data/kokoro", help="the corpus's folder (%(default)s)")
    parser.add_argument(
        "--voices", metavar="FILE", help="what npm pack kokoro-js@1.2.1 writes; or bundled: five voices, no download"
    )
    parser.add_argument("--speakers", type=int, metavar="N", default=120, help="(%(default)s)")
    parser.add_argument("--takes", type=int, metavar="N", default=2, help="of each letter by each (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides every choice (%(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (one a core)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    utterances, failures = prepare_kokoro(
        arguments.output, arguments.voices, arguments.speakers, arguments.takes, arguments.seed, arguments.workers
    )
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"Kokoro: {len(utterances)} letters of {speakers} speakers, {len(failures)} rows not aligned")
    print(*(f"not aligned: {failure}" for failure in failures), f"Manifest: {arguments.output}/manifest.tsv", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
