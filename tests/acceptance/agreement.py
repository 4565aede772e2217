"""Asks `evaluate`, `predict`, ONNX Runtime and the page about the same recordings, and compares letter by letter.

Every way is a process of its own, as people run it; the recordings are those of a manifest's split.

    python -m tests.acceptance.agreement
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speechmlp.audio.decoding import load_letter
from speechmlp.audio_format import FULL_SCALE
from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.results import Evaluation
from speechmlp.labels import LETTERS
from speechmlp.runs.checkpoint import PACKAGED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", default=str(PACKAGED), help="the model in the package by default"
    )
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid", help="(%(default)s)")
    return parser


def _run(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(command[1:])}: {result.stderr.strip() or f'exit status {result.returncode}'}")
    return result.stdout


def _evaluated(arguments: argparse.Namespace, utterances: list[Utterance], scratch: Path) -> list[str]:
    target = scratch / "evaluation.json"
    how = ["--checkpoint", arguments.checkpoint, "--manifest", arguments.manifest, "--split", arguments.split]
    _run("speechmlp.evaluate", *how, "--json", target)
    evaluation = Evaluation.model_validate_json(target.read_text(encoding="utf-8"))
    mistaken = {mistake.id: mistake.recognised for mistake in evaluation.mistakes}
    return [mistaken.get(utterance.id, utterance.letter) for utterance in utterances]


def _predicted(arguments: argparse.Namespace, utterances: list[Utterance]) -> list[str]:
    paths = [utterance.path for utterance in utterances]
    lines = _run("speechmlp.predict", "--checkpoint", arguments.checkpoint, "--format", "jsonl", *paths).splitlines()
    return [json.loads(line)["ranked"][0][0] for line in lines]


def _exported(arguments: argparse.Namespace, utterances: list[Utterance], scratch: Path) -> list[str]:
    import onnxruntime

    target = scratch / "model.onnx"
    _run("speechmlp.export", "--checkpoint", arguments.checkpoint, "--output", target)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    recognised = []
    for utterance in tqdm(utterances, "ONNX Runtime", disable=None):
        waveform = (load_letter(utterance.path)[0] * FULL_SCALE).round() / FULL_SCALE
        probabilities = session.run(None, {session.get_inputs()[0].name: waveform.numpy()[None]})[0]
        recognised.append(LETTERS[int(np.argmax(probabilities))])
    return recognised


def _served(arguments: argparse.Namespace, utterances: list[Utterance]) -> list[str]:
    command = [sys.executable, "-m", "speechmlp.serve", "--checkpoint", arguments.checkpoint, "--port", "0"]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split(" at ")[-1].split()[0]
            recognised = []
            for utterance in tqdm(utterances, "page", disable=None):
                request = urllib.request.Request(f"{address}api/recognize", utterance.path.read_bytes())
                with urllib.request.urlopen(request, timeout=60) as answer:
                    recognised.append(json.load(answer)["ranked"][0][0])
        finally:
            server.terminate()
    return recognised


def _check(arguments: argparse.Namespace) -> int:
    utterances = [item for item in read_manifest(arguments.manifest) if item.split == arguments.split]
    if not utterances or any(utterance.start is not None for utterance in utterances):
        raise UserError(f"{arguments.manifest}: expected whole recordings in split {arguments.split}")
    with tempfile.TemporaryDirectory() as scratch:
        answers = {
            "evaluate": _evaluated(arguments, utterances, Path(scratch)),
            "predict": _predicted(arguments, utterances),
            "onnx": _exported(arguments, utterances, Path(scratch)),
            "serve": _served(arguments, utterances),
        }
    print(f"{len(utterances)} letters of {arguments.manifest}, split {arguments.split}")
    other = 0
    for name, letters in answers.items():
        right = sum(letter == utterance.letter for letter, utterance in zip(letters, utterances, strict=True))
        unlike = sum(one != two for one, two in zip(letters, answers["evaluate"], strict=True))
        other += unlike
        print(f"{name}: {100 * right / len(utterances):.2f} %, {unlike} letters unlike evaluate's")
    return 1 if other else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _check, argv)


if __name__ == "__main__":
    sys.exit(main())
