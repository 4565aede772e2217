"""Plays words to the page through a browser's microphone: which letters appear, and how long after they were said.

Words are joined from recordings of single letters, as `evaluate --spelling --joined` joins them. A letter appears when
it, and all before it, are shown and stay. Its latency counts from the end of its speech in the recording. Other
programs make it longer, so the speller's own processor time is measured too.

    python -m tests.acceptance.live --manifest letters.tsv --split valid
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.joined_words import JoinedWord, joined_words
from speechmlp.evaluation.spelling import edit_distance
from speechmlp.recognition.live import LiveLetter, LiveSpeller
from speechmlp.recognition.speller import Speller, load_speller
from speechmlp.runs.checkpoint import PACKAGED
from tests.serve.conftest import microphone, serving

BETWEEN = 1.5
"""Seconds between words."""
AT_ONCE = 60.0
"""Seconds of speech that are played in one go."""
PIECE = 0.05
"""Seconds of the shortest piece that the page sends."""
ENVELOPE = 100
"""Values a second by which what was played and what was recorded are aligned."""

SPY = """
window.spied = { blocks: [], answers: [], shown: [] };
const Node = window.AudioWorkletNode;
window.AudioWorkletNode = class extends Node {
  constructor(...all) {
    super(...all);
    this.port.addEventListener("message", ({ data }) => {
      let peak = 0;
      for (const sample of data) peak = Math.max(peak, Math.abs(sample));
      spied.blocks.push([performance.now() / 1000, data.length, peak]);
      spied.rate = all[0].sampleRate;
    });
  }
};
const plain = window.fetch;
window.fetch = async (url, ...more) => {
  const answer = await plain(url, ...more);
  if (String(url).startsWith("api/live")) answer.clone().json().then((found) => spied.answers.push(found));
  return answer;
};
addEventListener("DOMContentLoaded", () => {
  const show = () => {
    const text = document.getElementById("word").textContent + document.getElementById("provisional").textContent;
    spied.shown.push([performance.now() / 1000, text]);
  };
  const watched = { childList: true, subtree: true, characterData: true };
  for (const id of ["word", "provisional"]) new MutationObserver(show).observe(document.getElementById(id), watched);
});
"""


@dataclass
class Played:
    """Words in a row.

    Attributes:
        words: the words.
        samples: float32 [T] at 16 kHz.
        starts: of each word, in seconds.
    """

    words: list[JoinedWord]
    samples: NDArray[np.float32]
    starts: list[float]


@dataclass
class Result:
    """What became of words.

    Attributes:
        letters: their number.
        errors: of the page.
        without_page: errors of the speller on the same samples, given to it as the page gives them.
        whole: errors of the speller on whole recordings.
        latencies: on the page, in s.
        alone: latencies of the speller with a processor for itself.
    """

    letters: int = 0
    errors: int = 0
    without_page: int = 0
    whole: int = 0
    latencies: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)


def _rows(words: Sequence[JoinedWord]) -> list[Played]:
    """Returns words in rows of about `AT_ONCE` seconds, with faint noise."""
    noise = np.random.default_rng(0)

    def hush(seconds: float) -> NDArray[np.float32]:
        return np.zeros(round(seconds * SAMPLE_RATE), np.float32)

    rows: list[Played] = []
    for word in words:
        if not rows or len(rows[-1].samples) > AT_ONCE * SAMPLE_RATE:
            rows.append(Played([], hush(BETWEEN), []))
        row = rows[-1]
        row.words.append(word)
        row.starts.append(len(row.samples) / SAMPLE_RATE)
        level = 0.5 / max(1e-3, float(np.abs(word.samples.numpy()).max()))
        row.samples = np.concatenate([row.samples, level * word.samples.numpy(), hush(BETWEEN)])
    for row in rows:
        row.samples = (row.samples + noise.normal(0, 5e-4, len(row.samples))).astype(np.float32)
    return rows


def _delay(played: NDArray[np.float32], blocks: list[list[float]], rate: float) -> float:
    """Returns how many seconds later a sound is in what was recorded than in what was played; often negative."""
    times = np.cumsum([0.0, *(block[1] / rate for block in blocks)])[:-1]
    recorded = np.zeros(int(times[-1] * ENVELOPE) + 1)
    np.maximum.at(recorded, (times * ENVELOPE).astype(int), [block[2] for block in blocks])
    hop = SAMPLE_RATE // ENVELOPE
    whole = np.abs(played[: len(played) // hop * hop]).reshape(-1, hop).max(1)
    correlation = np.correlate(recorded, whole, "full")
    return float(int(correlation.argmax()) - (len(whole) - 1)) / ENVELOPE


def _measure(row: Played, spied: dict[str, Any], result: Result) -> None:
    """Adds what became of a row to the result."""
    heard = np.cumsum([block[1] for block in spied["blocks"]]) / spied["rate"]
    began = min(block[0] - seconds for block, seconds in zip(spied["blocks"], heard, strict=True))
    delay = _delay(row.samples, spied["blocks"], spied["rate"])
    final: list[dict[str, Any]] = []
    for answer in spied["answers"]:
        final += answer["letters"][len(final) - answer["first"] :]
    letters = [(one["letter"], one["start"], one["end"]) for one in final]
    result.letters += sum(len(word.text) for word in row.words)
    result.errors += _errors(row, delay, letters)
    shown = [(time - began, shown) for time, shown in spied["shown"]]
    result.latencies += _latencies(row, delay, letters, shown)


def _errors(row: Played, delay: float, letters: Sequence[tuple[str, float, float]]) -> int:
    """Returns the errors in letters, given with start and end in s, of a row recorded `delay` seconds later."""
    errors = 0
    for word, start in zip(row.words, row.starts, strict=True):
        since, until = start + delay - BETWEEN / 2, start + delay + len(word.samples) / SAMPLE_RATE + BETWEEN / 2
        found = "".join(letter for letter, first, last in letters if since <= (first + last) / 2 < until)
        errors += edit_distance(word.text, found)
    return errors


def _latencies(
    row: Played, delay: float, letters: Sequence[tuple[str, float, float]], shown: Sequence[tuple[float, str]]
) -> list[float]:
    """Returns the seconds from the end of each letter that is right until it is shown.

    Args:
        row: what was said.
        delay: seconds that it was recorded later than played.
        letters: final ones, with start and end in the recording.
        shown: times, and all letters shown then.
    """
    truth = [
        (letter, start + first / SAMPLE_RATE + delay, start + last / SAMPLE_RATE + delay)
        for word, start in zip(row.words, row.starts, strict=True)
        for letter, (first, last) in zip(word.text, word.ends, strict=True)
    ]
    text = "".join(letter for letter, _, _ in letters)
    latencies = []
    for index, (letter, start, end) in enumerate(letters):
        ends = [last for name, first, last in truth if name == letter and first <= (start + end) / 2 <= last]
        different = [time for time, visible in shown if not visible.startswith(text[: index + 1])]
        later = [time for time, _ in shown if not different or time > different[-1]]
        if ends and later:
            latencies.append(later[0] - ends[0])
    return latencies


def _without_page(row: Played, speller: Speller, result: Result) -> None:
    """Adds the errors of the speller, and its latencies if it had a processor for itself: processor time counts.

    As the page does, it takes what has been recorded as soon as it is done with what was recorded before.
    """
    live = LiveSpeller(speller)
    clock, position = 0.0, 0
    letters: list[LiveLetter] = []
    shown: list[tuple[float, str]] = []
    while position < len(row.samples):
        clock = max(clock, position / SAMPLE_RATE + PIECE)
        following = min(len(row.samples), round(clock * SAMPLE_RATE))
        began = time.thread_time()
        changes = live.push(row.samples[position:following])
        clock += time.thread_time() - began
        position = following
        for change in changes:
            letters += change.final
            shown.append((clock, "".join(one.letter for one in (*letters, *change.provisional))))
    letters += [one for change in live.finish() for one in change.final]
    spans = [(one.letter, one.start, one.end) for one in letters]
    result.without_page += _errors(row, 0.0, spans)
    result.alone += _latencies(row, 0.0, spans, shown)


def spell(url: str, words: Sequence[JoinedWord], folder: Path) -> Result:
    """Returns what the page at an address makes of words."""
    result = Result()
    with sync_playwright() as playwright:
        for row in _rows(words):
            soundfile.write(folder / "played.wav", row.samples, SAMPLE_RATE, subtype="PCM_16")
            with microphone(playwright, folder / "played.wav") as browser:
                page = browser.new_page()
                page.add_init_script(SPY)
                page.goto(url)
                page.click("#record")
                page.wait_for_timeout(1000 * len(row.samples) / SAMPLE_RATE + 1000)
                page.click("#record")
                page.wait_for_function("() => !document.getElementById('record').disabled", timeout=60_000)
                page.wait_for_timeout(200)
                _measure(row, page.evaluate("spied"), result)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--manifest", metavar="FILE", default="data/people/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid", help="(%(default)s)")
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.1, 0.3, 0.6], metavar="S", help="(0.1 0.3 0.6)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth word (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def _live(arguments: argparse.Namespace) -> int:
    letters = [one for one in read_manifest(arguments.manifest, allow_shared=True) if one.split == arguments.split]
    if not letters:
        raise UserError(f"{arguments.manifest}: has no letters of split {arguments.split!r}")
    speller = load_speller(device="cpu")
    figures = []
    torch.set_num_threads(1)  # as the server has it
    print(
        "pause | letters | errors on the page | errors without it | errors in whole recordings | "
        "latency on the page: median, 95 % | the speller's, with a processor for itself | load"
    )
    with tempfile.TemporaryDirectory(prefix="speechmlp-live-") as scratch:
        for pause in arguments.pauses:
            words = list(joined_words(letters, pause, []))[:: arguments.every]
            with serving(Path(scratch), "--checkpoint", PACKAGED) as server:
                result = spell(server.url, words, Path(scratch))
            for word in words:
                result.whole += edit_distance(word.text, speller(word.samples, SAMPLE_RATE).text)
            for row in _rows(words):
                _without_page(row, speller, result)
            latency, alone = (
                [float(np.quantile(each, q)) for q in (0.5, 0.95)] for each in (result.latencies, result.alone)
            )
            rates = [errors / result.letters for errors in (result.errors, result.without_page, result.whole)]
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
            print(
                f"{pause:g} s | {result.letters} | {rates[0]:.1%} | {rates[1]:.1%} | {rates[2]:.1%} | "
                f"{latency[0]:.2f} s, {latency[1]:.2f} s | {alone[0]:.2f} s, {alone[1]:.2f} s | {load:.1f}",
                flush=True,
            )
            figures.append(
                {
                    "pause": pause,
                    "letters": result.letters,
                    "page": rates[0],
                    "without_page": rates[1],
                    "whole": rates[2],
                    "latency": latency,
                    "alone": alone,
                }
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _live, argv)


if __name__ == "__main__":
    sys.exit(main())
