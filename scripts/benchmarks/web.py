#!/usr/bin/env python3
"""Compares the exported web page with Python: letters recognised on a manifest's split, and the time for one recording.

The page runs in the system's Chromium without a network. Times are ratios within this run: both read the same files,
in turn, each on one thread.
"""

import argparse
import functools
import http.server
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Page, sync_playwright

from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.export.web import export_web
from speechmlp.recognition.recognizer import Recognition, Recognizer, load_recognizer

KINDS = ("int8", "onnx")
RECOGNIZE = """async ([name, rounds]) => {
  const { recognize } = await import("./backend.js");
  const file = new File([await (await fetch(name)).arrayBuffer()], name);
  let found, seconds;
  for (let round = 0; round < rounds; round += 1) {
    const started = performance.now();
    found = await recognize(file, name, 0);
    seconds = (performance.now() - started) / 1000;
  }
  return { ...found, seconds };
}"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="FILE", help="the model; the one in the package by default")
    parser.add_argument("--manifest", metavar="FILE", default="data/an4/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid", help="(%(default)s)")
    parser.add_argument("--most", type=int, default=100, metavar="N", help="recordings, spread over it (%(default)s)")
    parser.add_argument("--runtime", metavar="FOLDER", help="as of speechmlp export")
    return parser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *values: Any) -> None:
        del values


def _timed(recognizer: Recognizer, path: Path) -> tuple[Recognition, float]:
    recognizer(path)
    started = time.perf_counter()
    return recognizer(path), time.perf_counter() - started


def _compare(
    page: Page, recognizer: Recognizer, utterances: list[Utterance], folder: Path, kind: str
) -> tuple[str, float]:
    """Returns a row of the table, and Python's accuracy."""
    right, right_here, same, differences, ratios, times = 0, 0, 0, [], [], []
    for number, utterance in enumerate(utterances):
        name = f"clip{number}{utterance.path.suffix}"  # browsers keep what had the same name
        shutil.copy(utterance.path, folder / name)
        expected, here = _timed(recognizer, utterance.path)
        found = page.evaluate(RECOGNIZE, [name, 2])
        if "error" in found:
            raise UserError(f"{utterance.path}: {found['error']}")
        best, probabilities = found["ranked"][0][0], dict(expected.ranked)
        right += best == utterance.letter
        right_here += expected.ranked[0][0] == utterance.letter
        same += best == expected.ranked[0][0]
        differences.append(max(abs(value - probabilities[label]) for label, value in found["probabilities"].items()))
        times.append(found["seconds"])
        ratios.append(found["seconds"] / here)
    count = len(utterances)
    middle, ratio = 1000 * statistics.median(times), statistics.median(ratios)
    row = (
        f"| {kind} | {100 * right / count:.1f} % | {count - same} | {statistics.median(differences):.1g} | "
        f"{max(differences):.1g} | {middle:.0f} | {ratio:.1f} |"
    )
    return row, right_here / count


def _benchmark(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise UserError("the page needs Chromium, found none; install your system's package")
    recognizer = load_recognizer(arguments.checkpoint, "cpu")
    chosen = [one for one in read_manifest(arguments.manifest) if one.split == arguments.split and one.start is None]
    chosen = chosen[:: max(1, len(chosen) // arguments.most)][: arguments.most]
    if not chosen:
        raise UserError(f"{arguments.manifest}: expected recordings of single letters in the split {arguments.split}")
    rows = []
    with tempfile.TemporaryDirectory() as root, sync_playwright() as playwright:
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for kind in KINDS:
            folder = Path(root) / kind
            runtime = Path(arguments.runtime) if arguments.runtime else None
            export_web(recognizer.checkpoint, "model", kind, folder, runtime)
            handler = functools.partial(_Quiet, directory=str(folder))
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{server.server_port}/")
                row, accuracy = _compare(page, recognizer, chosen, folder, kind)
                rows.append(row)
                server.shutdown()
        browser.close()
    print(
        f"{len(chosen)} recordings of {arguments.manifest}, split {arguments.split}; Python recognises "
        f"{100 * accuracy:.1f} %. A model may have been trained on them\n"
    )
    print("| | accuracy | other letters | median difference | largest difference | ms a recording | / Python |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _benchmark, None))
