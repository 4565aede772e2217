"""A page of training letters before and after augmentation.

Each cell has a picture (mel bands over time, the recorded part between the lines) and a sound. Most of the augmentation
acts on mel energies, so sounds are rebuilt from those, with phases by Griffin-Lim: what that loses is not in the
model's input either. The same settings give the same page.
"""

import html
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.schema import Config, LogMelConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
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
<table><tr><th>letter, speaker</th><th>original</th><th colspan="{versions}">augmented</th></tr>
{rows}
</table></body></html>
"""


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


def write_sheet(config: Config, config_name: str, output: str, letters: int, versions: int, seed: int) -> int:
    """Writes the page into a folder, which is replaced, and returns how many letters it shows.

    Args:
        config: the configuration.
        config_name: its file or name, for the page and for messages.
        output: the folder.
        letters: rows, at most `BATCH`.
        versions: augmented ones of each letter.
        seed: decides letters and draws.

    Raises:
        UserError: there is no augmentation or nothing to draw it with, or the folder cannot be replaced.
    """
    pyplot = load_pyplot()
    if not 1 <= letters <= BATCH or versions < 1:
        raise UserError(f"expected 1 to {BATCH} --letters and 1 or more --versions")
    if config.augment is None:
        raise UserError(f"{config_name}: augment is null, so there is nothing to show; see configs/letters.yaml")
    corpus = SpokenLetters(open_packed(config.corpus), "train")
    torch.manual_seed(seed)
    positions = torch.randperm(len(corpus))[:BATCH]
    waveforms = corpus.to(torch.device("cpu")).take(positions).waveforms
    augment = SpeechClassifier(config).augment
    in_mel = config.front_end.kind != "raw"
    front_end = config.front_end if config.front_end.kind != "raw" else LogMelConfig()
    spectrum = MelSpectrum(front_end, padding="constant", mean_power=True)

    with whole_folder(output, mark="index.html") as folder, torch.no_grad():
        shown = min(letters, len(positions))
        rows = [[] for _ in range(shown)]  # type: list[list[str]]
        for version in range(1 + versions):
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
                what = "original" if not version else f"version {version}"
                rows[row].append(
                    f'<td><img src="{name}.png" alt="{what}"><audio controls src="{name}.wav"></audio></td>'
                )
        utterances = [corpus.utterances[int(position)] for position in positions[:shown]]
        lines = [
            f"<tr><th>{html.escape(f'{utterance.letter}, {utterance.speaker}')}</th>{''.join(cells)}</tr>"
            for utterance, cells in zip(utterances, rows, strict=True)
        ]
        settings = ", ".join(f"{key} {value}" for key, value in config.augment.model_dump().items() if value)
        title = f"Augmentation of {Path(config_name).name}"
        page = PAGE.format(
            title=html.escape(title),
            settings=html.escape(settings),
            versions=versions,
            rows="\n".join(lines),
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
    return shown
