#!/usr/bin/env python3
"""Makes a corpus of letters by more natural synthesisers than eSpeak NG: Hibari, Piper's Joe, SVOX Pico and Flite."""

import argparse
import sys
from collections import Counter

from speechmlp.corpora.voices import VOICES, prepare_voices
from speechmlp.errors import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="FOLDER", default="data/voices", help="the corpus's folder (%(default)s)")
    parser.add_argument("--engines", nargs="+", choices=VOICES, default=list(VOICES), help="which of them (all)")
    parser.add_argument("--speakers", type=int, metavar="N", default=5, help="of each voice (%(default)s)")
    parser.add_argument("--takes", type=int, metavar="N", default=2, help="of each letter (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides pitch and tempo (%(default)s)")
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    engines = list(dict.fromkeys(arguments.engines))
    utterances = prepare_voices(arguments.output, engines, arguments.speakers, arguments.takes, arguments.seed)
    letters = Counter(utterance.speaker.split("-")[0] for utterance in utterances)
    print(f"Voices: {len(utterances)} letters of {len({utterance.speaker for utterance in utterances})} speakers")
    print(", ".join(f"{engine}: {letters[engine]}" for engine in engines))
    print(f"Manifest: {arguments.output}/manifest.tsv")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _prepare, None))
