#!/usr/bin/env python3
"""Measures spelled words on AN4 side by side with PocketSphinx: letter error rate, and words given lists.

The utterances are those of a split whose transcript has letters only. Both recognisers hear the same samples. Without a
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
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.corpora.an4 import Recording, read_samples, read_tree
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.bootstrap import SpeakerBootstrap
from speechmlp.files import write_text
from speechmlp.labels import LETTERS
from speechmlp.recognition.speller import Candidates, Speller, fingerprints, load_speller
from speechmlp.recognition.word_list import WordList

ROOT = Path(__file__).resolve().parents[2]
SHORTEST_NAME = 2
MOST_WORDS = 10_000
LOOP_PENALTY = 1e-4
"""PocketSphinx's `wip` for the loop of letters: the best on validation speakers (--split valid --tune)."""
OURS, PEER = "speechmlp, the model in the package", "PocketSphinx, en-us"


@dataclass(frozen=True)
class Heard:
    """What a recogniser made of an utterance: letters without a list, and the word from each list."""

    text: str
    words: dict[str, str]


def edit_distance(one: str, other: str) -> int:
    """Returns how many letters have to be inserted, deleted or replaced (Levenshtein)."""
    row = list(range(len(other) + 1))
    for count, letter in enumerate(one, start=1):
        diagonal, row[0] = row[0], count
        for place, wanted in enumerate(other, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (letter != wanted))
    return row[-1]


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
) -> Callable[[Any], Heard]:
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
        # As in evaluate_pocketsphinx.py: at its best on validation speakers.
        model = pocketsphinx.get_model_path("en-us/en-us")
        return pocketsphinx.Decoder(
            hmm=model, dict=str(dictionary), cmn="batch", bestpath=False, loglevel="FATAL", **choice
        )

    decoders = {"": decoder(jsgf=str(grammar), wip=loop_penalty)}
    for name, words in lists.items():
        write_automaton(folder / f"{name}.fsg", words)
        decoders[name] = decoder(fsg=str(folder / f"{name}.fsg"))

    def hear(samples: Any) -> Heard:
        found = {}
        for name, one in decoders.items():
            one.start_utt()
            one.process_raw(samples.tobytes(), full_utt=True)
            one.end_utt()
            hypothesis = one.hyp()
            spoken = [word.partition("(")[0] for word in hypothesis.hypstr.split()] if hypothesis else []
            found[name] = "".join(word for word in spoken if word in LETTERS)
        return Heard(found.pop(""), found)

    return hear


def _ours(speller: Speller, lists: dict[str, list[str]]) -> Callable[[Any], Heard]:
    compiled = {name: WordList(words) for name, words in lists.items()}

    def hear(samples: Any) -> Heard:
        found = speller(samples, SAMPLE_RATE)
        return Heard(found.text, {name: words.rank(found.lattice)[0][0] for name, words in compiled.items()})

    return hear


def _score(recordings: Sequence[Recording], heard: Sequence[Heard]) -> dict[str, Any]:
    """Returns letter error rate and word accuracies with intervals over speakers, and every utterance."""
    bootstrap = SpeakerBootstrap([recording.speaker for recording in recordings])
    spoken = ["".join(recording.words) for recording in recordings]
    errors = torch.tensor([edit_distance(one, other.text) for one, other in zip(spoken, heard, strict=True)])
    counts = torch.stack([errors.double(), torch.tensor([float(len(word)) for word in spoken])], 1)
    rate = bootstrap.estimate(counts, lambda sums: sums[:, 0] / sums[:, 1])
    words = {}
    for name in heard[0].words:
        right = torch.tensor([one == other.words[name] for one, other in zip(spoken, heard, strict=True)])
        share = bootstrap.share(right)
        assert share is not None
        words[name] = share.model_dump()
    utterances = [
        {"id": recording.name, "spoken": word, "letters": other.text, "words": other.words}
        for recording, word, other in zip(recordings, spoken, heard, strict=True)
    ]
    return {"letter_error_rate": rate.model_dump(), "word_accuracy": words, "utterances": utterances}


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


def tune(speller: Speller, recordings: Sequence[Recording]) -> list[tuple[float, tuple[float, float, float]]]:
    """Returns letter error rates over a grid of the weights of `Speller.spell`, the lowest first."""
    found: list[tuple[str, Candidates, int]] = []
    for recording in tqdm(recordings, "reading", disable=None):
        mono = torch.from_numpy(read_samples(recording.path).astype(np.float32) / FULL_SCALE)
        found.append(("".join(recording.words), speller.candidates(mono), len(mono)))
    letters = sum(len(word) for word, _, _ in found)
    rates = []
    for weights in product((0.5, 0.75, 1.0, 1.5), (0.5, 1.0, 1.5, 2.0), (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)):
        errors = sum(edit_distance(word, speller.spell(seen, length, weights).text) for word, seen, length in found)
        rates.append((errors / letters, weights))
    return sorted(rates)


def tune_peer(recordings: Sequence[Recording], dictionary: Path) -> list[tuple[float, float]]:
    """Returns letter error rates of the peer over penalties for a further letter, the lowest first."""
    rates = []
    for penalty in tqdm((0.65, 0.1, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), "tuning the peer", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            hear = _pocketsphinx(Path(folder), dictionary, {}, penalty)
            pairs = [("".join(one.words), hear(read_samples(one.path)).text) for one in recordings]
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
    parser.add_argument("--tune", action="store_true", help="only show letter error rates over the weights of both")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    recordings, dictionary = read_tree(arguments.source)
    spelled = [one for one in recordings if one.words and all(word in LETTERS for word in one.words)]
    chosen = [one for one in spelled if one.split == arguments.split]
    if not chosen:
        raise UserError(f"{arguments.source}: no utterance of split {arguments.split!r} has letters only")
    speller = load_speller(arguments.checkpoint)
    if arguments.tune:
        for rate, weights in tune(speller, chosen)[:10]:
            print(f"{OURS}: {100 * rate:.2f}%  odds {weights[0]}, letter {weights[1]}, bonus {weights[2]}")
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
        heard: dict[str, list[Heard]] = {name: [] for name in recognisers}
        for recording in tqdm(chosen, "listening", disable=None):
            samples = read_samples(recording.path)
            for name, hear in recognisers.items():
                heard[name].append(hear(samples))
    result = {
        "models": fingerprints() if arguments.checkpoint is None else {},
        "split": arguments.split,
        "count": len(chosen),
        "letters": sum(len(one.words) for one in chosen),
        "speakers": len({one.speaker for one in chosen}),
        "lists": {name: len(words) for name, words in lists.items()},
        "recognisers": {name: _score(chosen, found) for name, found in heard.items()},
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
