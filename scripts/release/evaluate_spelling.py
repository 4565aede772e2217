#!/usr/bin/env python3
"""Measures spelled words on AN4 side by side with PocketSphinx: letter error rate, and words given lists.

The utterances are those of a split whose transcript has letters only. Both recognisers get the same samples. Without a
list both choose freely among the 26 letters (PocketSphinx: a loop of letters); with one, both choose among its words
(PocketSphinx: an automaton of all spellings). The lists: every word that is spelled in AN4, and those with the most
frequent family names of the United States census of 1990, as in the package `names` (MIT; the data are public domain)
up to 10,000 words.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.corpora.an4 import Recording, read_samples, read_tree
from speechmlp.data.manifest import read_manifest
from speechmlp.data.spelled import read_spelled
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.evaluation.joined_words import joined_words
from speechmlp.evaluation.spelling import compare_words, edit_distance, score_spelling
from speechmlp.files import write_text
from speechmlp.labels import LETTERS
from speechmlp.recognition.candidates import Candidates
from speechmlp.recognition.speller import WEIGHTS, Speller, Weights, fingerprints, load_speller
from speechmlp.recognition.word_list import WordList

ROOT = Path(__file__).resolve().parents[2]
SHORTEST_NAME = 2
MOST_WORDS = 10_000
LOOP_PENALTY = 1e-4
"""PocketSphinx's `wip` for the loop of letters: the best on validation speakers (--split valid --tune-peer)."""
JOINED = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Pauses of joined words, in seconds, for --tune."""
GRID = {
    "odds": (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    "named": (0.0, 0.1, 0.2, 0.4, 0.6),
    "bonus": (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
    "piece": (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5),
    "alone": (0.0, 1.0, 2.0, 3.0, 5.0),
}
"""Values of each field of `Weights` that --tune tries."""
OURS, PEER = "speechmlp, the model in the package", "PocketSphinx, en-us"


@dataclass(frozen=True)
class Answer:
    """What a recogniser made of an utterance: letters without a list, and the word from each list."""

    text: str
    words: dict[str, str]


def census_names(path: str | None) -> list[str]:
    """Returns family names, the most frequent first: of a file with one a line, or of the package `names`.

    Raises:
        UserError: neither is there.
    """
    if path is None:
        try:
            import names
        except ImportError as error:
            raise UserError("this needs a list of names: python -m pip install names, or --names FILE") from error
        path = names.FILES["last"]
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return [name for line in lines if len(name := line.split()[0].upper()) >= SHORTEST_NAME and name.isalpha()]


def write_automaton(path: Path, words: Sequence[str]) -> None:
    """Writes the spellings of words as a finite-state grammar of PocketSphinx, beginnings shared."""
    states = {"": 0}
    lines = []
    for word in words:
        for length in range(1, len(word) + 1):
            if (prefix := word[:length]) not in states:
                states[prefix] = len(states)
                lines.append(f"TRANSITION {states[prefix[:-1]]} {states[prefix]} 1.0 {prefix[-1]}")
    final = len(states)
    lines += [f"TRANSITION {states[word]} {final} 1.0" for word in words]
    head = ["FSG_BEGIN words", f"NUM_STATES {final + 1}", "START_STATE 0", f"FINAL_STATE {final}"]
    path.write_text("\n".join([*head, *lines, "FSG_END"]) + "\n", encoding="ascii")


def _letters_of(dictionary: Path) -> str:
    """Returns the letters of AN4's pronouncing dictionary, without the article A, with the British Z."""
    lines = dictionary.read_text(encoding="ascii").splitlines()
    letters = [line for line in lines if line.split("(")[0].split()[0] in LETTERS and line.split()[1:] != ["AH"]]
    return "\n".join([*letters, "Z(2) Z EH D"]).replace("A(2)", "A") + "\n"


def _pocketsphinx(
    folder: Path, source: Path, lists: dict[str, list[str]], loop_penalty: float
) -> Callable[[Any], Answer]:
    """Returns the peer as a function of int16 samples.

    Args:
        folder: for its files.
        source: AN4's pronouncing dictionary.
        lists: words to choose from, by name.
        loop_penalty: its `wip` for the loop of letters.
    """
    try:
        import pocketsphinx
    except ImportError as error:
        raise UserError("this needs PocketSphinx: python -m pip install 'pocketsphinx<5.1'") from error
    dictionary, grammar = folder / "letters.dic", folder / "loop.gram"
    dictionary.write_text(_letters_of(source), encoding="ascii")
    loop = f"#JSGF V1.0;\ngrammar letters;\npublic <letters> = ({' | '.join(LETTERS)})+;\n"
    grammar.write_text(loop, encoding="ascii")

    def decoder(**choice: str | float) -> Any:
        # As in evaluate_peer.py: at its best on validation speakers.
        model = pocketsphinx.get_model_path("en-us/en-us")
        return pocketsphinx.Decoder(
            hmm=model, dict=str(dictionary), cmn="batch", bestpath=False, loglevel="FATAL", **choice
        )

    decoders = {"": decoder(jsgf=str(grammar), wip=loop_penalty)}
    for name, words in lists.items():
        write_automaton(folder / f"{name}.fsg", words)
        decoders[name] = decoder(fsg=str(folder / f"{name}.fsg"))

    def recognise(samples: Any) -> Answer:
        found = {}
        for name, one in decoders.items():
            one.start_utt()
            one.process_raw(samples.tobytes(), full_utt=True)
            one.end_utt()
            hypothesis = one.hyp()
            spoken = [word.partition("(")[0] for word in hypothesis.hypstr.split()] if hypothesis else []
            found[name] = "".join(word for word in spoken if word in LETTERS)
        return Answer(found.pop(""), found)

    return recognise


def _ours(speller: Speller, lists: dict[str, list[str]]) -> Callable[[Any], Answer]:
    compiled = {name: WordList(words) for name, words in lists.items()}

    def recognise(samples: Any) -> Answer:
        found = speller(samples, SAMPLE_RATE)
        return Answer(found.text, {name: words.rank(found.lattice)[0][0] for name, words in compiled.items()})

    return recognise


def _score(recordings: Sequence[Recording], answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns letter error rate and word accuracies with intervals over speakers, and every utterance."""
    speakers = [recording.speaker for recording in recordings]
    bootstrap = SpeakerBootstrap(speakers)
    spoken = ["".join(recording.words) for recording in recordings]
    ids = [recording.name for recording in recordings]
    scores = score_spelling(compare_words(spoken, [other.text for other in answers], speakers, ids))
    words = {}
    for name in answers[0].words:
        right = torch.tensor([one == other.words[name] for one, other in zip(spoken, answers, strict=True)])
        accuracy = bootstrap.fraction(right)
        assert accuracy is not None
        words[name] = accuracy.model_dump()
    utterances = [
        {"id": recording.name, "spoken": word, "letters": other.text, "words": other.words}
        for recording, word, other in zip(recordings, spoken, answers, strict=True)
    ]
    return {
        "letter_error_rate": scores.letter_error_rate.model_dump(),
        "word_accuracy": words,
        "utterances": utterances,
    }


def render_table(result: dict[str, Any]) -> str:
    """Returns the Markdown page of a result."""

    def cell(estimate: dict[str, Any]) -> str:
        return f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"

    sizes = result["lists"]
    heads = ["letter error rate", *(f"words of {sizes[name]:,}" for name in sizes)]
    lines = [
        "# Spelled words",
        "",
        f"{result['count']} utterances, {result['letters']} letters, of {result['speakers']} speakers of AN4's "
        f"{result['split']} split whose transcript has letters only; in %, in brackets the 95 % interval by bootstrap "
        "over speakers. Written by `scripts/release/evaluate_spelling.py`, both recognisers in one run; how is in its "
        "first lines, every utterance in [spelling.json](spelling.json).",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name, scores in result["recognisers"].items():
        cells = [cell(scores["letter_error_rate"]), *(cell(scores["word_accuracy"][one]) for one in sizes)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


Read = list[tuple[str, Candidates, int]]
"""Of each recording: the spoken letters, the candidates, and its length in samples."""


def read_sets(speller: Speller, arguments: argparse.Namespace, recordings: Sequence[Recording]) -> dict[str, Read]:
    """Returns the candidates of each set of validation recordings by name: AN4, spelled names, and joined letters."""
    sets: dict[str, list[tuple[str, Tensor]]] = {
        "AN4": [
            ("".join(one.words), torch.from_numpy(read_samples(one.path).astype(np.float32) / FULL_SCALE))
            for one in recordings
        ]
    }
    if arguments.spelled is not None:
        words = [one for one in read_spelled(arguments.spelled, allow_outside=True) if one.split == "valid"]
        sets["names"] = [(word.text, to_mono_16k(*load(word.path))) for word in words]
    if arguments.letters is not None:
        letters = read_manifest(arguments.letters, allow_shared=True, allow_outside=True)
        chosen = [one for one in letters if one.split == "valid"]
        for pause in JOINED:
            sets[f"joined, {pause:g} s"] = [(word.text, word.samples) for word in joined_words(chosen, pause, [])]
    return {
        name: [(text, speller.candidates(mono), len(mono)) for text, mono in tqdm(some, name, disable=None)]
        for name, some in sets.items()
        if some
    }


def error_rate(speller: Speller, some: Read, weights: Weights) -> float:
    """Returns the letter error rate of a set."""
    errors = sum(edit_distance(text, speller.spell(seen, length, weights).text) for text, seen, length in some)
    return errors / sum(len(text) for text, _, _ in some)


def tune(speller: Speller, sets: dict[str, Read]) -> tuple[Weights, dict[str, float]]:
    """Returns the weights of `Speller.spell` with the lowest mean error rate, and the rate of each set.

    One weight after the other is changed for as long as it helps. Joined letters together count as much as AN4 and
    spelled names together.
    """
    joined = sum(name.startswith("joined") for name in sets)
    shares = {name: 2 / joined if name.startswith("joined") else 1.0 for name in sets}

    def mean(weights: Weights) -> float:
        return sum(share * error_rate(speller, sets[name], weights) for name, share in shares.items())

    best, lowest = WEIGHTS, mean(WEIGHTS)
    better = True
    while better:
        better = False
        for name, values in GRID.items():
            for value in values:
                tried = replace(best, **{name: value})
                if tried != best and (rate := mean(tried)) < lowest - 1e-9:
                    best, lowest, better = tried, rate, True
    return best, {name: error_rate(speller, some, best) for name, some in sets.items()}


def tune_peer(recordings: Sequence[Recording], dictionary: Path) -> list[tuple[float, float]]:
    """Returns letter error rates of the peer over penalties for a further letter, the lowest first."""
    rates = []
    for penalty in tqdm((0.65, 0.1, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), "tuning the peer", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            recognise = _pocketsphinx(Path(folder), dictionary, {}, penalty)
            pairs = [("".join(one.words), recognise(read_samples(one.path)).text) for one in recordings]
        errors = sum(edit_distance(word, text) for word, text in pairs)
        rates.append((errors / sum(len(word) for word, _ in pairs), penalty))
    return sorted(rates)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", metavar="PATH", required=True, help="the AN4 folder")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test", help="(%(default)s)")
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt; the model in the package by default")
    parser.add_argument("--names", metavar="FILE", help="family names, one a line, instead of those of the package")
    parser.add_argument("--output", metavar="FOLDER", default=str(ROOT / "docs"), help="(%(default)s)")
    parser.add_argument(
        "--tune", action="store_true", help="only show the best weights for --split valid, and the rates"
    )
    parser.add_argument("--tune-peer", action="store_true", help="only show PocketSphinx's rates over its penalties")
    parser.add_argument("--spelled", metavar="FILE", help="manifest of spelled names, for --tune")
    parser.add_argument("--letters", metavar="FILE", help="manifest of single letters that are joined, for --tune")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    recordings, dictionary = read_tree(arguments.source)
    spelled = [one for one in recordings if one.words and all(word in LETTERS for word in one.words)]
    chosen = [one for one in spelled if one.split == arguments.split]
    if not chosen:
        raise UserError(f"{arguments.source}: no utterance of split {arguments.split!r} has letters only")
    speller = load_speller(arguments.checkpoint)
    if arguments.tune:
        weights, rates = tune(speller, read_sets(speller, arguments, chosen))
        print(weights)
        for name, rate in rates.items():
            print(f"{name}: letter error rate {100 * rate:.2f}%")
        return 0
    if arguments.tune_peer:
        for rate, penalty in tune_peer(chosen, dictionary):
            print(f"{PEER}: {100 * rate:.2f}%  wip {penalty}")
        return 0
    corpus = sorted({"".join(one.words) for one in spelled})
    lists = {"corpus": corpus, "names": list(dict.fromkeys([*corpus, *census_names(arguments.names)]))[:MOST_WORDS]}
    with tempfile.TemporaryDirectory() as folder:
        recognisers = {
            OURS: _ours(speller, lists),
            PEER: _pocketsphinx(Path(folder), dictionary, lists, LOOP_PENALTY),
        }
        answers: dict[str, list[Answer]] = {name: [] for name in recognisers}
        for recording in tqdm(chosen, "listening", disable=None):
            samples = read_samples(recording.path)
            for name, recognise in recognisers.items():
                answers[name].append(recognise(samples))
    result = {
        "models": fingerprints() if arguments.checkpoint is None else {},
        "split": arguments.split,
        "count": len(chosen),
        "letters": sum(len(one.words) for one in chosen),
        "speakers": len({one.speaker for one in chosen}),
        "lists": {name: len(words) for name, words in lists.items()},
        "recognisers": {name: _score(chosen, found) for name, found in answers.items()},
    }
    text = render_table(result)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "spelling.json", json.dumps(result, indent=1) + "\n")
    write_text(output / "spelling.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _evaluate, None))
