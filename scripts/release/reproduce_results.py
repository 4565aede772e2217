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
from speechmlp.data.manifest import Split
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.groups import ACCENT
from speechmlp.evaluation.results import Evaluation, Scores
from speechmlp.evaluation.run import evaluate
from speechmlp.files import write_text
from speechmlp.runs.checkpoint import PACKAGED
from speechmlp.sweeps.jobs import Job, finish_all

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path("runs") / "results"
SUMMARY = ROOT / "docs" / "results.json"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results: written by reproduce_results.py -->", "<!-- end of results -->"
PEERS, SHIPPED = ("pocketsphinx", "whisper"), "packaged"
"""Rows that nothing is trained for: recognisers of others, and the model in the package."""
AN4 = "data/an4/manifest.tsv"
ROWS: dict[str, tuple[str, list[str]]] = {
    SHIPPED: (
        "the model in the package: `letters_long` trained further on people of many accents, `letters_tuned`",
        [],
    ),
    "letters_long": ("gMLP on aligned frames, AN4 and synthetic voices, 160 epochs", []),
    "letters": ("the same, 80 epochs", []),
    "an4_only": ("gMLP on aligned frames, AN4 only", []),
    "letters_small": ("gMLP under 100,000 parameters, student of `letters`", []),
    "letters_flat": ("flattened MLP on aligned frames, student of `letters`", []),
    "an4_log_mel": ("flattened MLP on log-mel frames at fixed positions", []),
    "an4_raw": ("MLP on the raw waveform, regularised", []),
    "seed": ("the textbook MLP: raw waveform, 16000-100-26", [f"corpus.manifest={AN4}"]),
    "alphanumeric": ("letters and digits, 665 of the same speakers: the model in the package, trained further", []),
    "pocketsphinx": ("for comparison: PocketSphinx, grammar of 26 letters", []),
    "whisper": ("for comparison: Whisper tiny.en, 39 million parameters, probabilities of the letters", []),
}
"""Config name -> (what it is, overrides), teachers before their students."""
TESTED = {"alphanumeric": "data/an4_digits/manifest.tsv"}
"""Rows that are tested on another manifest than AN4's letters."""
README_ROWS = (SHIPPED, "seed", *PEERS)


def _manifests(name: str) -> list[str]:
    """Returns the corpora that a row is trained and tested on."""
    if name in (*PEERS, SHIPPED):
        return [AN4]
    corpus = load_config(f"configs/{name}.yaml", ROWS[name][1]).corpus
    return [TESTED.get(name, AN4), corpus.manifest, *(part.manifest for part in (*corpus.mix, *corpus.negatives))]


def _run(*command: str | Path) -> None:
    arguments = [sys.executable, *map(str, command)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(arguments[1:])}: {result.stderr.strip() or f'exit status {result.returncode}'}")


def _job(name: str, seed: int) -> Job:
    return Job(f"configs/{name}.yaml", (*ROWS[name][1], f"training.seed={seed}"), RUNS / f"{name}-seed{seed}")


def _scores(name: str, seed: int, what: str, manifest: str, split: Split | None) -> Scores:
    """Returns the scores of a run on a split of a manifest, or all of it; `what` is a condition or names the set."""
    target = RUNS / f"{name}-seed{seed}-{what}.json"
    if not target.exists():
        condition = what if what in CONDITIONS else "clean"
        if name in PEERS:
            of_split = ["--split", split] if split else []
            options = ["--manifest", manifest, *of_split, "--on-error", "skip", "--condition", condition]
            _run("scripts/release/evaluate_peer.py", name, *options, "--json", target)
        else:
            best = PACKAGED if name == SHIPPED else _job(name, seed).run / "best.pt"
            found = evaluate(best, manifest=manifest, split=split, on_error="skip", condition=condition)
            write_text(target, found.model_dump_json(indent=2) + "\n")
    return Evaluation.model_validate_json(target.read_text(encoding="utf-8")).scores


def _mean_std(values: list[float]) -> list[float]:
    return [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0]


def _answers(runs: Sequence[Scores]) -> list[float] | None:
    """Returns the fractions answered right, answered wrong, rejected, and rejected though ranked right, over runs."""
    found = [scores.answers for scores in runs if scores.answers is not None and scores.answers.reject_below]
    if len(found) < len(runs):
        return None  # there is no threshold
    parts = [(one.right, one.wrong, one.rejected, one.rejected_right) for one in found]
    return [statistics.mean(part.value for part in each) for each in zip(*parts, strict=True)]


def _by_accent(runs: Sequence[Scores]) -> dict[str, Any]:
    """Returns the accuracy over runs, and the name and the accuracy of the accent that the first run is worst at."""
    worst = next(gap.worst for gap in runs[0].gaps if gap.kind == ACCENT)
    of_worst = [group.accuracy.value for run in runs for group in run.groups if group.name == worst.name]
    return {
        "accuracy": statistics.mean(run.accuracy.value for run in runs),
        "worst": worst.name,
        "worst_accuracy": statistics.mean(of_worst),
    }


def summarise(
    name: str, seeds: int, voices: str | None, accents: str | None, old: dict[str, Any], at_once: int
) -> dict[str, Any]:
    """Returns the summary of a row, running what is missing.

    Args:
        name: of the row.
        seeds: number of runs.
        voices: manifest of other people's recordings; None to keep the figures in `old`.
        accents: manifest whose validation split has accents; None to keep the figures in `old`.
        old: the row so far.
        at_once: trainings side by side.
    """
    if name in (*PEERS, SHIPPED):
        seeds = 1  # nothing is drawn there
    else:
        finish_all([_job(name, seed) for seed in range(seeds)], at_once)
    results = {
        (seed, condition): _scores(name, seed, condition, TESTED.get(name, AN4), "test")
        for seed in range(seeds)
        for condition in CONDITIONS
    }
    clean = [results[seed, "clean"] for seed in range(seeds)]
    row: dict[str, Any] = {
        "seeds": seeds,
        "interval": [clean[0].accuracy.low, clean[0].accuracy.high],
        "e_set": _mean_std([scores.e_set.value for scores in clean if scores.e_set is not None]),
        "voices": old.get("voices"),
        "clean_answers": _answers(clean),
        "voices_answers": old.get("voices_answers"),
        "accents": old.get("accents"),
    }
    for condition in CONDITIONS:
        row[condition] = _mean_std([results[seed, condition].accuracy.value for seed in range(seeds)])
    if voices:
        strangers = [_scores(name, seed, "voices", voices, None) for seed in range(seeds)]
        row["voices"] = _mean_std([scores.accuracy.value for scores in strangers])
        row["voices_answers"] = _answers(strangers)
    if accents:
        row["accents"] = _by_accent([_scores(name, seed, "accents", accents, "valid") for seed in range(seeds)])
    return row


def render_table(summary: dict[str, Any], rows: Sequence[str] = tuple(ROWS), short: bool = False) -> str:
    """Returns the Markdown table of a summary.

    Args:
        summary: figures by row.
        rows: names, first to last; rows without figures are left out.
        short: whether only the columns of the README are wanted, without what they mean.
    """

    def cell(figures: list[float] | None, seeds: int) -> str:
        if figures is None:
            return "–"
        return f"{100 * figures[0]:.1f} ± {100 * figures[1]:.1f}" if seeds > 1 else f"{100 * figures[0]:.1f}"

    def answers(row: dict[str, Any], key: str) -> str:
        if (found := row.get(f"{key}_answers")) is None:
            return "–"
        right, wrong, rejected, rejected_right = (f"{100 * value:.1f}" for value in found)
        return f"{right} / {wrong} / {rejected}" + ("" if short else f" ({rejected_right})")

    def by_accent(found: dict[str, Any] | None) -> str:
        if found is None:
            return "–"
        return f"{100 * found['accuracy']:.1f} ({found['worst']} {100 * found['worst_accuracy']:.1f})"

    titles = ["clean", "telephone", "white noise 10 dB", "babble 10 dB", "other people's recordings"]
    titles += ["their answers: right / wrong / rejected", "accented spellers (worst accent)"]
    if not short:
        titles += ["clean: right / wrong / rejected", "E-set", "seeds"]
    lines = [
        f"| accuracy in %, 431 letters of AN4's ten test speakers | {' | '.join(titles)} |",
        "|---" * (1 + len(titles)) + "|",
    ]
    for name in (name for name in rows if name in summary):
        row = summary[name]
        low, high = (f"{100 * edge:.1f}" for edge in row["interval"])
        clean, *others = (cell(row[key], row["seeds"]) for key in CONDITIONS)
        cells = [f"{clean} [{low}, {high}]", *others, cell(row["voices"], row["seeds"])]
        cells += [answers(row, "voices"), by_accent(row.get("accents"))]
        cells += [] if short else [answers(row, "clean"), cell(row["e_set"], row["seeds"]), str(row["seeds"])]
        what = ROWS[name][0] if name in (*PEERS, SHIPPED) else f"{ROWS[name][0]} (`configs/{name}.yaml`)"
        lines.append(f"| {what} | {' | '.join(cells)} |")
    if not short:
        lines.append("")
        lines.append(
            "Mean ± standard deviation over seeds. In brackets: the 95 % interval of seed 0, by bootstrap over\n"
            "speakers. Other people's recordings: a manifest given to the script; no model was trained on it, and it\n"
            "is not part of this repository. Right / wrong / rejected: what is answered at the model's threshold\n"
            "(in brackets: letters that are rejected although ranked right). Accented spellers: the validation\n"
            "speakers of `prepare alphanumeric`, with which choices were made, and the accent that is worst.\n"
            "–: not measured, or the model has no threshold."
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
    parser.add_argument(
        "--accents", metavar="FILE", help="manifest with accents, whose validation split gets a column of its own"
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
            summary[name] = summarise(
                name, arguments.seeds, arguments.voices, arguments.accents, summary.get(name, {}), arguments.at_once
            )
            SUMMARY.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_tables(summary)
    print(render_table(summary))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _reproduce, None))
