#!/usr/bin/env python3
"""Shows what a configuration's augmentation does: a page of training letters, as they are and as they are learnt.

Each cell has a picture (mel bands over time, the recorded part between the lines) and a sound. Most of the augmentation
acts on mel energies, so sounds are rebuilt from those, with phases by Griffin-Lim: what that loses, the model does not
hear either. The same settings give the same page.

example: scripts/augment_sheet.py --config configs/letters.yaml augment.telephone=1.0
"""

import argparse
import html
import sys
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.loading import load_config
from speechmlp.config.schema import LogMelConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError, run_command
from speechmlp.evaluation.pictures import load_pyplot
from speechmlp.files import whole_folder
from speechmlp.models.augmentation import recorded_parts
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.spectrum import MelSpectrum

BATCH = 32
"""Utterances augmented at once: those shown, and others to be the babble behind them."""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font-family: system-ui, sans-serif; margin: 1rem }}
table {{ border-spacing: .5rem }} th {{ text-align: left }}
img, audio {{ display: block; width: 13rem }}
</style></head><body>
<h1>{title}</h1>
<pre>{settings}</pre>
<table><tr><th>letter, speaker</th><th>as it is</th><th colspan="{versions}">as it is learnt</th></tr>
{rows}
</table></body></html>
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", required=True, help="YAML file of the experiment")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value")
    parser.add_argument("--output", metavar="FOLDER", default="runs/augment_sheet", help="replaced (%(default)s)")
    parser.add_argument("--letters", type=int, metavar="N", default=8, help="rows (%(default)s)")
    parser.add_argument("--versions", type=int, metavar="N", default=5, help="augmented ones of each (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="decides letters and draws (%(default)s)")
    return parser


def _rebuilt(energy: Tensor, spectrum: MelSpectrum) -> Tensor:
    """Returns waveforms [B, T] whose mel energies are near energies [B, F, C]."""
    power = (energy @ torch.linalg.pinv(spectrum.bands)).clamp_min(0)
    settings = {"n_fft": spectrum.n_fft, "hop_length": spectrum.hop_length, "length": NUM_SAMPLES}
    griffin_lim = torchaudio.transforms.GriffinLim(**settings, rand_init=False)
    waveforms: Tensor = griffin_lim(power.transpose(1, 2))
    return waveforms


def _save(folder: Path, name: str, energy: Tensor, waveform: Tensor, ends: tuple[float, float], plot: Any) -> None:
    """Writes a picture of energies [F, C], in dB below the loudest, and the sound."""
    level = 10 * torch.log10(energy / energy.max().clamp_min(1e-12) + 1e-8)
    figure, axes = plot.subplots(figsize=(3.2, 1.8), layout="constrained")
    axes.imshow(level.T, origin="lower", aspect="auto", vmin=-60, vmax=0, cmap="magma", extent=(0, 1, 0, len(level.T)))
    for end in ends:
        axes.axvline(end / SAMPLE_RATE, color="white", linewidth=1)
    axes.set_xlabel("s")
    figure.savefig(folder / f"{name}.png", dpi=100)
    plot.close(figure)
    loudest = waveform.abs().max().clamp_min(1e-6)
    soundfile.write(folder / f"{name}.wav", (0.7 * waveform / loudest).numpy(), SAMPLE_RATE, subtype="PCM_16")


def _sheet(arguments: argparse.Namespace) -> int:
    pyplot = load_pyplot()
    if not 1 <= arguments.letters <= BATCH or arguments.versions < 1:
        raise UserError(f"expected 1 to {BATCH} --letters and 1 or more --versions")
    config = load_config(arguments.config, arguments.overrides)
    if config.augment is None:
        raise UserError(f"{arguments.config}: augment is null, so there is nothing to show; see configs/letters.yaml")
    letters = SpokenLetters(open_packed(config.corpus), "train")
    torch.manual_seed(arguments.seed)
    positions = torch.randperm(len(letters))[:BATCH]
    waveforms = letters.to(torch.device("cpu")).take(positions).waveforms
    augment = SpeechClassifier(config).augment
    in_mel = config.front_end.kind != "raw"
    front_end = config.front_end if config.front_end.kind != "raw" else LogMelConfig()
    spectrum = MelSpectrum(front_end, padding="constant", mean_power=True)

    with whole_folder(arguments.output, mark="index.html") as folder, torch.no_grad():
        shown = min(arguments.letters, len(positions))
        rows = [[] for _ in range(shown)]  # type: list[list[str]]
        for version in range(1 + arguments.versions):
            moved, start, end = waveforms, torch.zeros(len(waveforms)), torch.zeros(len(waveforms))
            if version:
                moved, ends = augment.waveforms(waveforms)
                start, end = recorded_parts(waveforms) if ends is None else ends
            changed = bool(version) and in_mel
            energy = augment.mel(moved, spectrum) if changed else spectrum(moved)
            sound = _rebuilt(energy[:shown], spectrum) if changed else moved[:shown]
            for row in range(shown):
                name = f"{row}-{version}"
                _save(folder, name, energy[row], sound[row], (start[row].item(), end[row].item()), pyplot)
                what = "as it is" if not version else f"version {version}"
                rows[row].append(
                    f'<td><img src="{name}.png" alt="{what}"><audio controls src="{name}.wav"></audio></td>'
                )
        utterances = [letters.utterances[int(position)] for position in positions[:shown]]
        lines = [
            f"<tr><th>{html.escape(f'{utterance.letter}, {utterance.speaker}')}</th>{''.join(cells)}</tr>"
            for utterance, cells in zip(utterances, rows, strict=True)
        ]
        settings = ", ".join(f"{key} {value}" for key, value in config.augment.model_dump().items() if value)
        title = f"Augmentation of {Path(arguments.config).name}"
        page = PAGE.format(
            title=html.escape(title),
            settings=html.escape(settings),
            versions=arguments.versions,
            rows="\n".join(lines),
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
    print(f"Sheet: {Path(arguments.output) / 'index.html'}: {shown} letters, {arguments.versions} versions of each")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _sheet, None))
