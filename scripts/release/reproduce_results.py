#!/usr/bin/env python3
"""Trains and evaluates the rows of the results table and writes it to docs/results.md, and three rows to README.md.

Runs and scores are kept in runs/results/: finished ones are not repeated, interrupted ones are continued. The summary
is docs/results.json; rows that are not named keep their figures. `--table-only` writes the tables from the summary.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechmlp.audio.condition_names import CONDITIONS
from speechmlp.config.loading import load_config
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.results import Evaluation, Scores
from speechmlp.evaluation.run import evaluate
from speechmlp.files import write_text
from speechmlp.sweeps.jobs import Job, finish_all

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path("runs") / "results"
SUMMARY = ROOT / "docs" / "results.json"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results: written by reproduce_results.py -->", "<!-- end of results -->"
PEER = "pocketsphinx"
AN4 = "data/an4/manifest.tsv"
ROWS: dict[str, tuple[str, list[str]]] = {
    "letters_long": ("the model in the package: gMLP on aligned frames, AN4 and synthetic voices, 160 epochs", []),
    "letters": ("the same, 80 epochs", []),
    "an4_only": ("gMLP on aligned frames, AN4 only", []),
    "letters_small": ("gMLP under 100,000 parameters, student of the second", []),
    "letters_flat": ("flattened MLP on aligned frames, student of the second", []),
    "an4_log_mel": ("flattened MLP on log-mel frames at fixed positions", []),
    "an4_raw": ("MLP on the raw waveform, regularised", []),
    "seed": ("the textbook MLP: raw waveform, 16000-100-26", [f"corpus.manifest={AN4}"]),
    PEER: ("for comparison: PocketSphinx, grammar of 26 letters", []),
}
"""Config name -> (what it is, overrides), teachers before their students."""
SHIPPED = "letters_long"
"""Its seed 0 gets temperature and threshold from a sibling that was not trained on the validation speakers."""
README_ROWS = (SHIPPED, "seed", PEER)


def _manifests(name: str) -> list[str]:
    """Returns the corpora that a row is trained and tested on."""
    if name == PEER:
        return [AN4]
    corpus = load_config(f"configs/{name}.yaml", ROWS[name][1]).corpus
    return [AN4, corpus.manifest, *(part.manifest for part in (*corpus.mix, *corpus.negatives))]


def _run(*command: str | Path) -> None:
    arguments = [sys.executable, *map(str, command)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(arguments[1:])}: {result.stderr.strip() or f'exit status {result.returncode}'}")


def _job(name: str, seed: int) -> Job:
    return Job(f"configs/{name}.yaml", (*ROWS[name][1], f"training.seed={seed}"), RUNS / f"{name}-seed{seed}")


def _train(name: str, seeds: int, at_once: int) -> None:
    """Trains what is missing of a row, and calibrates the model that is shipped."""
    jobs = [_job(name, seed) for seed in range(seeds)]
    sibling = Job(jobs[0].config, ("corpus.learn=train", "training.keep=best"), RUNS / f"{name}-sibling")
    finish_all([*jobs, sibling] if name == SHIPPED else jobs, at_once)
    if name == SHIPPED:
        _run("-m", "speechmlp", "calibrate", "--checkpoint", jobs[0].run / "best.pt", "--like", sibling.run / "best.pt")


def _scores(name: str, seed: int, condition: str, voices: str | None) -> Scores:
    """Returns the scores of a run on AN4's test speakers in a condition, or on every utterance of `voices`."""
    target = RUNS / f"{name}-seed{seed}-{'voices' if voices else condition}.json"
    if not target.exists():
        best = _job(name, seed).run / "best.pt"
        if name == PEER:
            what = ["--manifest", voices, "--on-error", "skip"] if voices else ["--manifest", AN4, "--split", "test"]
            _run("scripts/release/evaluate_pocketsphinx.py", *what, "--condition", condition, "--json", target)
        elif voices:
            found = evaluate(best, manifest=voices, on_error="skip", condition=condition)
            write_text(target, found.model_dump_json(indent=2) + "\n")
        else:
            found = evaluate(best, manifest=AN4, split="test", condition=condition)
            write_text(target, found.model_dump_json(indent=2) + "\n")
    return Evaluation.model_validate_json(target.read_text(encoding="utf-8")).scores


def _mean_std(values: list[float]) -> list[float]:
    return [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0]


def summarise(name: str, seeds: int, voices: str | None, old: dict[str, Any], at_once: int) -> dict[str, Any]:
    """Returns the summary of a row, running what is missing; figures on `voices` are kept from `old` without them."""
    if name == PEER:
        seeds = 1  # nothing is drawn there
    else:
        _train(name, seeds, at_once)
    results = {
        (seed, condition): _scores(name, seed, condition, None) for seed in range(seeds) for condition in CONDITIONS
    }
    clean = [results[seed, "clean"] for seed in range(seeds)]
    row: dict[str, Any] = {
        "seeds": seeds,
        "interval": [clean[0].accuracy.low, clean[0].accuracy.high],
        "e_set": _mean_std([scores.e_set.value for scores in clean if scores.e_set is not None]),
        "voices": old.get("voices"),
    }
    for condition in CONDITIONS:
        row[condition] = _mean_std([results[seed, condition].accuracy.value for seed in range(seeds)])
    if voices:
        row["voices"] = _mean_std([_scores(name, seed, "clean", voices).accuracy.value for seed in range(seeds)])
    return row


def render_table(summary: dict[str, Any], rows: Sequence[str] = tuple(ROWS), short: bool = False) -> str:
    """Returns the Markdown table of a summary.

    Args:
        summary: figures by row.
        rows: names, first to last; rows without figures are left out.
        short: whether the E-set and the number of seeds are left out, and so is what the columns mean.
    """

    def cell(figures: list[float] | None, seeds: int) -> str:
        if figures is None:
            return "–"
        return f"{100 * figures[0]:.1f} ± {100 * figures[1]:.1f}" if seeds > 1 else f"{100 * figures[0]:.1f}"

    titles = ["clean", "telephone", "white noise 10 dB", "babble 10 dB", "other people's recordings", "E-set", "seeds"]
    keys = [*CONDITIONS, "voices", "e_set"]
    if short:
        titles, keys = titles[:-2], keys[:-1]
    lines = [
        f"| accuracy in %, 431 letters of AN4's ten test speakers | {' | '.join(titles)} |",
        "|---" * (1 + len(titles)) + "|",
    ]
    for name in (name for name in rows if name in summary):
        row = summary[name]
        low, high = (f"{100 * edge:.1f}" for edge in row["interval"])
        cells = [cell(row[key], row["seeds"]) for key in keys]
        cells[0] += f" [{low}, {high}]"
        cells += [] if short else [str(row["seeds"])]
        what = ROWS[name][0] if name == PEER else f"{ROWS[name][0]} (`configs/{name}.yaml`)"
        lines.append(f"| {what} | {' | '.join(cells)} |")
    if not short:
        lines.append("")
        lines.append(
            "Mean ± standard deviation over seeds. In brackets: the 95 % interval of seed 0, by bootstrap over\n"
            "speakers. Other people's recordings: a manifest given to the script; no model was trained on it, and it\n"
            "is not part of this repository."
        )
    return "\n".join(lines)


def render_tables(summary: dict[str, Any]) -> dict[Path, str]:
    """Returns the table of each document."""
    return {PAGE: render_table(summary), README: render_table(summary, README_ROWS, short=True)}


def write_tables(summary: dict[str, Any]) -> None:
    """Replaces the tables in docs/results.md and README.md."""
    for document, table in render_tables(summary).items():
        text = document.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help="these rows only")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of each row (%(default)s)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="trainings side by side (%(default)s)")
    parser.add_argument(
        "--voices", metavar="FILE", help="manifest of other people's recordings, for a column of its own"
    )
    parser.add_argument("--table-only", action="store_true", help="write the tables from docs/results.json")
    return parser


def _reproduce(arguments: argparse.Namespace) -> int:
    for option in ("seeds", "at_once"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option.replace('_', '-')}: expected 1 or more, found {getattr(arguments, option)}")
    os.chdir(ROOT)
    summary = json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else {}
    if not arguments.table_only:
        for manifest in dict.fromkeys(manifest for name in arguments.rows for manifest in _manifests(name)):
            if not Path(manifest).exists():
                raise UserError(f"{manifest}: no such corpus; make it with speechmlp prepare")
        RUNS.mkdir(parents=True, exist_ok=True)
        for name in tqdm(arguments.rows, "rows", disable=None):
            summary[name] = summarise(name, arguments.seeds, arguments.voices, summary.get(name, {}), arguments.at_once)
            SUMMARY.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_tables(summary)
    print(render_table(summary))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _reproduce, None))
