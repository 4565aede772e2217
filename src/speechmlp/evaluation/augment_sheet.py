"""A self-contained page of training letters before and after augmentation.

Each cell has a picture (mel bands over time, the recorded part between the lines) and a sound. Most of the augmentation
acts on mel energies, so sounds are rebuilt from those, with phases by Griffin-Lim: what that loses is not in the
model's input either. The same settings give the same page.
"""

from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import Tensor

from speechmlp.config.schema import Config, LogMelConfig, MelConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from speechmlp.evaluation.captions import sheet_caption
from speechmlp.evaluation.html_page import draw, load_pyplot, render, require_own_folder, sound, write_page
from speechmlp.models.augmentation import recorded_parts
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.spectrum import MelSpectrum

BATCH = 32
"""Utterances augmented at once: those shown, and others to be the babble behind them."""
PROGRAM = "augment-sheet"


def _rebuilt(energy: Tensor, spectrum: MelSpectrum) -> Tensor:
    """Returns waveforms [B, T] whose mel energies are near energies [B, F, C]."""
    power = (energy @ torch.linalg.pinv(spectrum.bands)).clamp_min(0)
    settings = {"n_fft": spectrum.n_fft, "hop_length": spectrum.hop_length, "length": spectrum.num_samples}
    griffin_lim = torchaudio.transforms.GriffinLim(**settings, rand_init=False)
    waveforms: Tensor = griffin_lim(power.transpose(1, 2))
    return waveforms


def _version(title: str, energy: Tensor, waveform: Tensor, ends: tuple[float, float], rate: int) -> dict[str, Any]:
    """Returns what the page shows of a version: energies [F, C], in dB below the loudest, and the sound."""
    level = 10 * torch.log10(energy / energy.max().clamp_min(1e-12) + 1e-8)
    figure, axes = load_pyplot().subplots(figsize=(3.2, 1.8), layout="constrained")
    axes.imshow(
        level.T,
        origin="lower",
        aspect="auto",
        vmin=-60,
        vmax=0,
        cmap="magma",
        extent=(0, len(waveform) / rate, 0, len(level.T)),
    )
    for end in ends:
        axes.axvline(end / rate, color="white", linewidth=1)
    axes.tick_params(colors="#888")
    axes.set_xlabel("s", color="#888")
    figure.patch.set_alpha(0)
    return {"title": title, "picture": draw(figure, title, kind="spectrogram"), "sound": sound(waveform, title, rate)}


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
    load_pyplot()  # fails before the work, not after it
    require_own_folder(output, PROGRAM)
    if not 1 <= letters <= BATCH or versions < 1:
        raise UserError(f"expected 1 to {BATCH} --letters and 1 or more --versions")
    if config.augment is None:
        raise UserError(f"{config_name}: augment is null, so there is nothing to show; see configs/letters.yaml")
    corpus = SpokenLetters(open_packed(config.corpus, labels=config.labels, audio=config.input.audio), "train")
    torch.manual_seed(seed)
    positions = torch.randperm(len(corpus))[:BATCH]
    waveforms = corpus.to(torch.device("cpu")).take(positions).waveforms
    augment = SpeechClassifier(config).augment
    in_mel = isinstance(config.front_end, MelConfig)
    spectrum = MelSpectrum(
        config.front_end if isinstance(config.front_end, MelConfig) else LogMelConfig(),
        padding="constant",
        mean_power=True,
        audio=config.input.audio,
    )

    utterances = [corpus.utterances[int(position)] for position in positions[:letters]]
    rows: list[dict[str, Any]] = [{"utterance": utterance, "versions": []} for utterance in utterances]
    with torch.no_grad():
        for version in range(1 + versions):
            moved, start, end = waveforms, torch.zeros(len(waveforms)), torch.zeros(len(waveforms))
            if version:
                moved, ends = augment.waveforms(waveforms)
                start, end = recorded_parts(waveforms) if ends is None else ends
            changed = bool(version) and in_mel
            energy = augment.mel(moved, spectrum) if changed else spectrum(moved)
            played = _rebuilt(energy[: len(rows)], spectrum) if changed else moved
            title = f"version {version}" if version else "original"
            for index, row in enumerate(rows):
                ends_of_it = (start[index].item(), end[index].item())
                row["versions"].append(
                    _version(title, energy[index], played[index], ends_of_it, config.input.sample_rate)
                )
    settings = ", ".join(f"{key} {value}" for key, value in config.augment.model_dump().items() if value)
    title = f"Augmentation of {Path(config_name).name}"
    caption = sheet_caption(config.front_end, config.input.audio)
    page = render("sheet.html.j2", title=title, settings=settings, caption=caption, rows=rows)
    write_page(output, PROGRAM, page)
    return len(rows)
