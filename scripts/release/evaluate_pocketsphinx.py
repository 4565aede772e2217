#!/usr/bin/env python3
"""Evaluates the peer: PocketSphinx with its US English model and a grammar of the 26 letters, as `evaluate` does."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from speechmlp.audio_format import FULL_SCALE
from speechmlp.config.schema import CorpusConfig
from speechmlp.corpora.pronunciations import PRONUNCIATIONS
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.results import Evaluation
from speechmlp.evaluation.text import format_scores
from speechmlp.files import write_text
from speechmlp.labels import LETTERS, label_of


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="every utterance where it is not given")
    parser.add_argument("--condition", default="clean", metavar="NAME", help="as in speechmlp.evaluate (%(default)s)")
    parser.add_argument("--on-error", choices=("fail", "skip"), default="fail", help="(%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    try:
        import pocketsphinx
    except ImportError as error:
        raise UserError("this needs PocketSphinx: python -m pip install 'pocketsphinx<5.1'") from error
    packed = open_packed(CorpusConfig(manifest=arguments.manifest, on_error=arguments.on_error))
    letters = SpokenLetters(packed, arguments.split)
    with tempfile.TemporaryDirectory() as folder:
        dictionary, grammar = Path(folder) / "letters.dic", Path(folder) / "letters.gram"
        entries = [f"{letter} {name.cmu[0]}" for letter, name in PRONUNCIATIONS.items()]
        dictionary.write_text("\n".join([*entries, f"Z(2) {PRONUNCIATIONS['Z'].cmu[1]}"]) + "\n", encoding="ascii")
        grammar.write_text(
            f"#JSGF V1.0;\ngrammar letters;\npublic <letter> = {' | '.join(LETTERS)};\n", encoding="ascii"
        )
        model = pocketsphinx.get_model_path("en-us/en-us")
        # The peer at its best on validation speakers: the best-path search loses letters that the first pass found.
        decoder = pocketsphinx.Decoder(
            hmm=model, dict=str(dictionary), jsgf=str(grammar), cmn="batch", bestpath=False, loglevel="FATAL"
        )
        logits = torch.zeros(len(letters), len(LETTERS))
        batches = letters.in_condition(arguments.condition, torch.device("cpu")).batches(1)
        for index, batch in enumerate(tqdm(batches, "decoding", len(letters), disable=None)):
            decoder.start_utt()
            samples = (batch.waveforms[0] * FULL_SCALE).clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
            decoder.process_raw(samples.numpy().tobytes(), full_utt=True)
            decoder.end_utt()
            heard = decoder.hyp()
            word = heard.hypstr.partition("(")[0].strip() if heard else ""
            if word in LETTERS:
                logits[index, label_of(word)] = 1.0
            else:  # nothing recognised: counted as wrong
                logits[index, (int(letters.labels[index]) + 1) % len(LETTERS)] = 1.0
    scores = score(logits, letters.labels, letters.speakers, ranked=False)
    print(format_scores(scores))
    if arguments.json:
        evaluation = Evaluation(
            checkpoint="PocketSphinx",
            manifest=arguments.manifest,
            split=arguments.split,
            condition=arguments.condition,
            temperature=1.0,
            left_out=len(packed.skipped),
            scores=scores,
            mistakes=(),  # they go with probabilities, which it has none of
        )
        write_text(Path(arguments.json), evaluation.model_dump_json(indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _evaluate, None))
