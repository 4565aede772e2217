#!/usr/bin/env python3
"""Makes the README's pictures with the system's Chromium: the page of `serve`, and the report of `evaluate`.

All recordings are synthetic, from a corpus of speechmlp prepare synthetic.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Browser, sync_playwright

from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.runs.checkpoint import PACKAGED

WORD = "MIXER"


def _parser() -> argparse.ArgumentParser:
    here = Path.cwd()
    shown = (
        PACKAGED.relative_to(here) if PACKAGED.is_relative_to(here) else PACKAGED
    )  # pictures name no machine's folders
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="FILE", default=str(shown), help="the model (%(default)s)")
    parser.add_argument("--manifest", metavar="FILE", default="data/synthetic/manifest.tsv", help="(%(default)s)")
    parser.add_argument("--output", metavar="FOLDER", default="docs/images", help="(%(default)s)")
    return parser


def _padded(utterance: Utterance, path: Path) -> Path:
    """Writes an utterance as somebody would record it, with quiet around; returns the recording."""
    samples, rate = soundfile.read(utterance.path)
    soundfile.write(path, np.pad(samples, rate // 4), rate)
    return path


def _speak(browser: Browser, url: str, utterances: list[Utterance], target: Path) -> None:
    """Spells the word on the page with recordings of one speaker who is understood, and takes its picture."""
    page = browser.new_page(viewport={"width": 640, "height": 800})
    page.add_init_script("localStorage.clear()")  # the page keeps what was spelled
    with tempfile.TemporaryDirectory() as folder:
        for speaker in sorted({utterance.speaker for utterance in utterances}):
            spoken = {one.letter: one for one in utterances if one.speaker == speaker}
            page.goto(url)
            for letter in WORD:
                page.evaluate("() => { document.getElementById('status').textContent = '' }")
                page.set_input_files("#file", _padded(spoken[letter], Path(folder) / "letter.wav"))
                page.wait_for_function(
                    "() => /^(Recognised|No letter)/.test(document.getElementById('status').textContent)"
                )
            if page.inner_text("#word") == WORD:
                page.screenshot(path=target, full_page=True)
                return
    raise UserError(f"no speaker of the manifest's test split spells {WORD} so that the model understands")


def _serve(browser: Browser, arguments: argparse.Namespace, utterances: list[Utterance], target: Path) -> None:
    command = [sys.executable, "-m", "speechmlp.serve", "--no-browser", "--port", "0", "--device", "cpu"]
    command += ["--checkpoint", arguments.checkpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            words = server.stdout.readline().split()
            if not words:
                raise UserError("the page cannot be served; see above")
            _speak(browser, next(word for word in words if word.startswith("http")), utterances, target)
        finally:
            server.terminate()


def _report(browser: Browser, arguments: argparse.Namespace, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        command = [sys.executable, "-m", "speechmlp.evaluate", "--device", "cpu", "--checkpoint", arguments.checkpoint]
        command += ["--manifest", arguments.manifest, "--split", "test", "--report", str(report)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise UserError("the report cannot be made; see above")
        page = browser.new_page(viewport={"width": 900, "height": 1000})
        page.goto((report / "index.html").as_uri())
        page.screenshot(path=target)


def _make(arguments: argparse.Namespace) -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise UserError("pictures need Chromium, found none; install your system's package")
    utterances = [one for one in read_manifest(arguments.manifest) if one.split == "test"]
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        _serve(browser, arguments, utterances, output / "serve.png")
        _report(browser, arguments, output / "report.png")
        browser.close()
    for picture in ("serve.png", "report.png"):
        print(f"Wrote {output / picture}: {(output / picture).stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _make, None))
