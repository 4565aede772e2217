#!/usr/bin/env python3
"""Puts a trained model into the package, with its card, whose numbers all come from evaluating that file here.

    scripts/release/package_weights.py --checkpoint runs/NAME/best.pt --source AN4

Writes src/speechmlp/weights/letters.pt without the state of training, and its card, README.md in the same folder.
Other people's recordings (--voices) are evaluated, never kept.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechmlp.audio.condition_names import CONDITIONS
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.results import Estimate, Evaluation, Scores
from speechmlp.evaluation.run import evaluate
from speechmlp.evaluation.text import headlines, percent
from speechmlp.files import replacing, write_text
from speechmlp.models.segments import WEIGHTS as SEGMENTS
from speechmlp.recognition.recognizer import WEIGHTS
from speechmlp.recognition.speller import fingerprints
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CARD = WEIGHTS.with_name("README.md")
SPELLING = ROOT / "docs" / "spelling.json"
RECIPE = ROOT / "configs" / "letters_long.yaml"
NAMES = {
    "an4": "CMU AN4 (BSD-like)",
    "synthetic": "eSpeak NG's voices",
    "voices": "natural synthetic voices under free licences",
    "kokoro": "letters spelled by Kokoro-82M (Apache-2.0)",
}
"""Corpus -> what the card calls it."""
LARGEST = 4_000_000
"""Bytes of both models together."""


def strip(source: Path, target: Path) -> Checkpoint:
    """Writes a checkpoint that holds what use needs; returns it.

    Raises:
        UserError: the source is for going on with training, or the models are larger than `LARGEST` together.
    """
    checkpoint = load_checkpoint(source)
    if checkpoint.training is not None:
        raise UserError(f"{source}: expected a best.pt; a last.pt is for going on with training")
    target.parent.mkdir(exist_ok=True)
    with replacing(target) as stripped:
        save_checkpoint(
            stripped,
            checkpoint.config,
            checkpoint.model,
            [],
            temperature=checkpoint.temperature,
            reject_below=checkpoint.reject_below,
        )
        size = stripped.stat().st_size + SEGMENTS.stat().st_size
        if size > LARGEST:
            raise UserError(f"{source}: expected models of at most {LARGEST:,} bytes together, found {size:,}")
    return checkpoint


def _run(*command: str) -> None:
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(command)}: {result.stderr.strip() or f'exit status {result.returncode}'}")


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{percent(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def _table(scores: Scores) -> list[str]:
    rows = [(headline.name, estimate) for headline, estimate in headlines(scores) if headline.show is percent]
    lines = ["| on AN4's test letters, clean | value, 95 % interval over speakers |", "|---|---|"]
    return [*lines, *(f"| {name} | {_interval(estimate)} |" for name, estimate in rows)]


def _groups(scores: Scores) -> list[str]:
    lines = ["| group | letters | accuracy, 95 % interval |", "|---|---|---|"]
    for group in scores.groups:
        if group.kind != "speaker":
            lines.append(f"| {group.kind}: {group.name} | {group.count} | {_interval(group.accuracy)} |")
    if (gap := scores.gap("speaker")) is not None:
        for name, group in zip(("worst", "best"), gap, strict=True):
            lines.append(f"| {name} of {scores.num_speakers} speakers | {group.count} | {_interval(group.accuracy)} |")
    return lines


def _rejection(evaluation: Evaluation) -> list[str]:
    found = evaluation.rejection
    if found is None or not found.reject_below:
        return ["Nothing is rejected: no threshold has been fitted."]
    kinds = ", ".join(f"{kind.name} {percent(kind.declined)} of {kind.count}" for kind in found.kinds)
    return [
        f"Letters with a probability below {found.reject_below:.3f} are rejected: {percent(found.letters_declined)} of "
        f"the test letters, {percent(found.others_declined)} of the non-letters ({kinds})."
    ]


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat


def _overrides(config: Config) -> str:
    """Returns the overrides that a configuration needs in addition to the recipe."""
    recipe, run = (_flat(one.model_dump(mode="json")) for one in (load_config(str(RECIPE), []), config))
    elsewhere = ("output.", "device", "corpus.cache")
    changed = {key: value for key, value in run.items() if recipe.get(key) != value and not key.startswith(elsewhere)}
    return "".join(f" {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in changed.items())


def _wrapped(line: str) -> str:
    indent = "  " * line.startswith("- ")
    return textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def render_card(
    checkpoint: Checkpoint,
    evaluations: dict[str, Evaluation],
    voices: Evaluation | None,
    spelling: dict[str, Any] | None,
    size: int,
) -> str:
    """Returns the model card as Markdown.

    Args:
        checkpoint: the model.
        evaluations: of AN4's test speakers, by condition; `clean` among them.
        voices: of other people's recordings.
        spelling: what scripts/release/evaluate_spelling.py wrote.
        size: of the file, bytes.
    """
    clean = evaluations["clean"]
    config = checkpoint.config
    corpora = [config.corpus.manifest, *(mix.manifest for mix in config.corpus.mix)]
    trained_on = [NAMES.get(Path(manifest).parent.name, manifest) for manifest in corpora]
    negatives = "; non-letters: AN4's other words and pauses, and generated noises" if config.corpus.negatives else ""
    more = "; its validation speakers were added to the training set in the end"
    validation = more if config.corpus.learn == "train+valid" else ""
    letters, confusions = clean.scores.num_utterances, clean.scores.confusions(6)
    lines = [
        "# The models in the package",
        "",
        "Written by `scripts/release/package_weights.py` from an evaluation of these files.",
        "",
        "## letters.pt",
        "",
        f"Classifies recordings of one second as one of 26 letters, spoken in English: {config.model.kind} on "
        f"{config.front_end.kind} frames, {checkpoint.model.num_parameters():,} parameters, {size:,} bytes, "
        f"SHA-256 `{fingerprints()[WEIGHTS.name]}`.",
        "",
        f"Trained on: {'; '.join(trained_on)}{negatives} (described in data/README.md). The weights contain neither "
        f"the speech nor the programs that generated it; their licence is MIT. AN4's test speakers were used neither "
        f"for training nor for any choice{validation}.",
        "",
        f"    speechmlp train --config {RECIPE.stem}{_overrides(config)}",
        "    scripts/release/package_weights.py --checkpoint runs/NAME/best.pt --source AN4",
        "",
        f"Temperature {checkpoint.temperature:.3f}.",
        *_rejection(clean),
        "",
        *_table(clean.scores),
        "",
        "| condition | accuracy, 95 % interval |",
        "|---|---|",
    ]
    for condition, evaluation in evaluations.items():
        lines.append(f"| {condition} | {_interval(evaluation.scores.accuracy)} |")
    if voices is not None:
        lines.append(
            f"| {voices.scores.num_utterances} recordings of {voices.scores.num_speakers} other people, any microphone "
            f"and format | {_interval(voices.scores.accuracy)} |"
        )
    lines += ["", *_groups(clean.scores), "", "Limits:", ""]
    pairs = ", ".join(f"{spoken} for {recognised} ({count})" for spoken, recognised, count in confusions)
    lines += [
        f"- The results are of {letters} letters of {clean.scores.num_speakers} adults in one American city around "
        "1991, cut from continuous spelling; the intervals show the uncertainty.",
        f"- Most frequent confusions among those {letters}: {pairs}." if pairs else "- It made no errors.",
        "- English names of letters only; Z as zee or zed. Children, other accents and far microphones are rare in the "
        "training set.",
        "- The input is one second: the loudest one of a longer recording.",
    ]
    lines += [
        "",
        "## segments.pt",
        "",
        "Finds whole letters in continuous spelling, for `predict --spell`: dense layers, "
        f"{SEGMENTS.stat().st_size:,} bytes, SHA-256 `{fingerprints()[SEGMENTS.name]}`. "
        "Trained on AN4's training speakers.",
        "",
        "    scripts/release/train_segments.py --source AN4",
        "    scripts/release/evaluate_spelling.py --source AN4",
    ]
    if spelling is not None:
        ours = next(iter(spelling["recognisers"].values()))
        rate = Estimate(**ours["letter_error_rate"])
        lines += [
            "",
            f"Of {spelling['letters']} letters in {spelling['count']} spelled words of {spelling['speakers']} "
            f"{spelling['split']} speakers: letter error rate {_interval(rate)}; more in docs/spelling.md.",
        ]
    return "\n".join(line if line.startswith(("|", " ")) else _wrapped(line) for line in lines) + "\n"


def _package(arguments: argparse.Namespace) -> int:
    if not arguments.card_only:
        strip(Path(arguments.checkpoint), WEIGHTS)
    checkpoint = load_checkpoint(WEIGHTS)
    others, source = (Path(given).resolve() if given else None for given in (arguments.voices, arguments.source))
    os.chdir(ROOT)  # the model's configuration names corpora from there
    evaluations = {name: evaluate(WEIGHTS, condition=name) for name in tqdm(CONDITIONS, "evaluating", disable=None)}
    voices = evaluate(WEIGHTS, manifest=others, on_error="skip") if others else None
    if source:
        _run("scripts/release/evaluate_spelling.py", "--source", str(source))
    spelling = json.loads(SPELLING.read_text(encoding="utf-8")) if SPELLING.exists() else None
    if spelling is not None and spelling["models"] != fingerprints():
        raise UserError(f"{SPELLING}: is of other models; --source AN4 measures spelled words with these")
    write_text(CARD, render_card(checkpoint, evaluations, voices, spelling, WEIGHTS.stat().st_size))
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes, {percent(evaluations['clean'].scores.accuracy.value)} on AN4")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="FILE", help="a best.pt of configs/letters_long.yaml")
    source.add_argument("--card-only", action="store_true", help="write the card of the weights that are there")
    parser.add_argument(
        "--source", metavar="PATH", help="the AN4 folder: spelled words are measured with these models too"
    )
    parser.add_argument("--voices", metavar="FILE", help="manifest of other people's recordings, for a row of its own")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _package, None))
