#!/usr/bin/env python3
"""Puts a trained model into the package, with its card, whose numbers all come from evaluating that file here.

    scripts/release/package_weights.py --checkpoint runs/NAME/best.pt --source AN4

Writes src/speechmlp/weights/letters.pt without the state of training, and its card, README.md in the same folder.
Other people's recordings (--voices, --accents) are evaluated, never kept.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechmlp.audio.condition_names import CONDITIONS
from speechmlp.audio.speech import WEIGHTS as SPEECH
from speechmlp.config.keys import flat_values
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.fingerprints import Fingerprints, fingerprints_of
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.card import BASE, About, cell, render_card, trainings
from speechmlp.evaluation.results import Estimate, Evaluation
from speechmlp.evaluation.run import evaluate
from speechmlp.evaluation.sources import find_sources
from speechmlp.evaluation.text import percent
from speechmlp.files import replacing, write_text
from speechmlp.models.segments import WEIGHTS as SEGMENTS
from speechmlp.recognition.speller import fingerprints
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CARD = PACKAGED.with_name("README.md")
SPELLING = ROOT / "docs" / "spelling.json"
RECIPE = ROOT / "configs" / "letters_tuned.yaml"
"""Of the model in the package."""
LARGEST = 4_000_000
"""Bytes of both models together."""


def _without_places(config: Config) -> Config:
    """Returns a configuration with the recipe's folders and start instead of those of the machine it was trained on."""
    recipe = load_config(str(RECIPE), [])
    start = recipe.training.start_from if config.training.start_from else None
    return config.model_copy(
        update={
            "corpus": config.corpus.model_copy(update={"cache": recipe.corpus.cache}),
            "training": config.training.model_copy(update={"start_from": start}),
            "output": recipe.output,
        }
    )


def _trained_on(checkpoint: Checkpoint) -> Fingerprints | None:
    """Returns the fingerprints of the training letters: the checkpoint's, or those of the corpora that are here."""
    if checkpoint.trained_on is not None:
        return checkpoint.trained_on
    found: list[bytes] = []
    trainings = [checkpoint.config.corpus]
    if checkpoint.config.training.start_from:
        trainings.append(load_config(str(BASE), []).corpus)
    for corpus in trainings:
        for manifest, splits in corpus.trained_on:
            if not (ROOT / manifest).exists():
                print(f"warning: {manifest}: is not here, so its letters will not be known again", file=sys.stderr)
                continue
            reading = corpus.model_copy(update={"manifest": str(ROOT / manifest), "cache": str(ROOT / corpus.cache)})
            packed = open_packed(reading)
            chosen = [position for position, one in enumerate(packed.utterances) if one.split in splits]
            found += fingerprints_of(packed, chosen)
    return Fingerprints(found) if found else None


def strip(source: Path, target: Path) -> Checkpoint:
    """Writes a checkpoint that holds what use needs; returns it.

    Raises:
        UserError: the source is for resuming training, or the models are larger than `LARGEST` together.
    """
    checkpoint = load_checkpoint(source)
    if checkpoint.training is not None:
        raise UserError(f"{source}: expected a best.pt; a last.pt is for resuming training")
    target.parent.mkdir(exist_ok=True)
    with replacing(target) as stripped:
        save_checkpoint(
            stripped,
            _without_places(checkpoint.config),
            checkpoint.model,
            [],
            temperature=checkpoint.temperature,
            reject_below=checkpoint.reject_below,
            calibration=checkpoint.calibration,
            trained_on=_trained_on(checkpoint),
        )
        size = stripped.stat().st_size + SEGMENTS.stat().st_size
        if size > LARGEST:
            raise UserError(f"{source}: expected models of at most {LARGEST:,} bytes together, found {size:,}")
    return checkpoint


def _run(*command: str) -> None:
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(command)}: {result.stderr.strip() or f'exit status {result.returncode}'}")


def _overrides(config: Config) -> str:
    """Returns the overrides that a configuration needs in addition to the recipe."""
    recipe, run = (flat_values(one) for one in (load_config(str(RECIPE), []), config))
    elsewhere = ("output.", "device", "corpus.cache", "training.seed", "training.start_from")
    changed = {key: value for key, value in run.items() if recipe.get(key) != value and not key.startswith(elsewhere)}
    return "".join(f" {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in changed.items())


def render_package_card(
    checkpoint: Checkpoint,
    evaluations: Sequence[Evaluation],
    spelling: dict[str, Any] | None,
    size: int,
    voices: Path | None = None,
) -> str:
    """Returns the model card as Markdown.

    Args:
        checkpoint: the model.
        evaluations: of it, that of AN4's test speakers first.
        spelling: what scripts/release/evaluate_spelling.py wrote.
        size: of the file, bytes.
        voices: the manifest of other people's recordings, if one of the evaluations is of it.
    """
    config = checkpoint.config
    more = "; its validation speakers were added to the training set in the end"
    validation = more if config.corpus.learn == "train+valid" else ""
    configs, _ = trainings(checkpoint, PACKAGED)
    about = About(
        name="letters.pt, and the other models in the package",
        licence="mit",
        introduction=[
            f"The file has {size:,} bytes, SHA-256 `{fingerprints()[PACKAGED.name]}`. `scripts/release/"
            "package_weights.py` makes it and this card:",
            *_commands(config),
        ],
        data=[
            "The corpora are described in data/README.md. The weights contain neither the speech nor the programs that "
            "generated it; their licence is MIT. AN4's test speakers were used neither for training nor for any "
            f"choice{validation}.",
        ],
        limits=[
            "The letters of AN4 are of adults in one American city around 1991, cut from continuous spelling.",
            "Temperature and threshold are fitted, and the model was chosen, on the validation speakers of the "
            "Alphanumeric Audio Dataset, among others: its figures there are a little too good.",
            "English names of letters only; Z as zee or zed. Children, other accents and far microphones are rare in "
            "the training set.",
        ],
        sections=_other_models(spelling),
        titles={} if voices is None else {voices.parent.name: "recordings of other people, any microphone and format"},
    )
    return render_card(about, checkpoint, find_sources(configs), evaluations)


def _commands(config: Config) -> list[str]:
    """Returns how the model was made, as a block of code in Markdown."""
    lines = [
        f"    speechmlp train --config {BASE} output.folder=runs/results output.name={BASE}-seed0",
        f"    speechmlp train --config {RECIPE.stem} training.seed=SEED{_overrides(config)}",
        "    scripts/release/average_weights.py runs/*/best.pt --output runs/mean.pt",
        "    speechmlp calibrate --checkpoint runs/mean.pt --manifest PEOPLE ACCENTS --split valid",
        "    scripts/release/package_weights.py --checkpoint runs/mean.pt --source AN4",
    ]
    return ["\n".join(lines)]


def _other_models(spelling: dict[str, Any] | None) -> list[str]:
    """Returns the sections about the models that find letters and voices."""
    lines = [
        "## segments.pt",
        "Finds whole letters in continuous spelling, for `predict --spell`: dense layers, "
        f"{SEGMENTS.stat().st_size:,} bytes, SHA-256 `{fingerprints()[SEGMENTS.name]}`. "
        "Trained on AN4's training speakers, on the names that the training speakers of the Alphanumeric Audio "
        "Dataset (MIT) spell, and on words joined from the single letters and non-letters of data/README.md, with "
        "fillers spoken by eSpeak NG between them. It is the mean of the weights before and after a training on the "
        "latter, which is better on AN4 than what the first command trains from the start (docs/experiments.md).",
        "    scripts/release/train_segments.py --source AN4 --data data\n"
        "    scripts/release/evaluate_spelling.py --source AN4",
    ]
    if spelling is not None:
        ours = next(iter(spelling["recognisers"].values()))
        rate = Estimate(**ours["letter_error_rate"])
        lines.append(
            f"Of {spelling['letters']} letters in {spelling['count']} spelled words of {spelling['speakers']} "
            f"{spelling['split']} speakers: letter error rate {cell(rate)}; more in docs/spelling.md."
        )
    return [
        *lines,
        "## speech.npz",
        f"Distinguishes voices from other sounds, for the choice of the second that is the input: a small MLP, "
        f"{SPEECH.stat().st_size:,} bytes. Trained on letters of AN4's training speakers, of people of public programs "
        "and of eSpeak NG's voices; noises of Google Speech Commands (CC-BY 4.0) and of the public domain; generated "
        "tones, buzzes, clicks and knocks.",
        "    scripts/release/train_speech.py --voices AN4 PEOPLE SYNTHETIC --noises NOISES --letters 2700 \\\n"
        "        --generated 600",
        "The people whose letters segments.pt and speech.npz are trained on include one voice that letters.pt leaves "
        "out: notnotdinner/typing-game, a repository under MIT, which names another source for its recordings.",
    ]


def _package(arguments: argparse.Namespace) -> int:
    if not arguments.card_only:
        strip(Path(arguments.checkpoint), PACKAGED)
    checkpoint = load_checkpoint(PACKAGED)
    given = (arguments.voices, arguments.accents, arguments.source)
    others, accents, source = (Path(path).resolve() if path else None for path in given)
    os.chdir(ROOT)  # the model's configuration names corpora from there
    evaluations = [evaluate(PACKAGED, condition=name) for name in tqdm(CONDITIONS, "evaluating", disable=None)]
    if others:
        evaluations.append(evaluate(PACKAGED, manifest=others, on_error="skip"))
    if accents:
        evaluations.append(evaluate(PACKAGED, manifest=accents, split="valid", group_by=("accent", "device", "age")))
    if source:
        _run("scripts/release/evaluate_spelling.py", "--source", str(source))
    spelling = json.loads(SPELLING.read_text(encoding="utf-8")) if SPELLING.exists() else None
    if spelling is not None and spelling["models"] != fingerprints():
        raise UserError(f"{SPELLING}: is of other models; --source AN4 measures spelled words with these")
    write_text(CARD, render_package_card(checkpoint, evaluations, spelling, PACKAGED.stat().st_size, others))
    print(f"{PACKAGED}: {PACKAGED.stat().st_size:,} bytes, {percent(evaluations[0].scores.accuracy.value)} on AN4")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="FILE", help="what average_weights.py writes of runs of letters_tuned")
    source.add_argument("--card-only", action="store_true", help="write the card of the weights that are there")
    parser.add_argument(
        "--source", metavar="PATH", help="the AN4 folder: spelled words are measured with these models too"
    )
    parser.add_argument("--voices", metavar="FILE", help="manifest of other people's recordings, for a row of its own")
    parser.add_argument(
        "--accents", metavar="FILE", help="manifest with validation speakers of many accents, for groups of their own"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _package, None))
