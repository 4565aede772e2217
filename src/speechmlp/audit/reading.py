"""Reads every recording of a manifest once, as an audit wants it: measured as it is, and as aligned features.

Dimension key: `N` utterances, `M` readable ones, `T` samples, `C` mel bands, `K` tokens.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio.decoding import fit_one_second, load, load_letter, to_mono_16k
from speechmlp.audio.measures import Sound, measure
from speechmlp.audit.checks import Details, finding
from speechmlp.audit.findings import Finding
from speechmlp.config.schema import AlignedConfig, CorpusConfig
from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.models.aligned import Aligned

BLOCK = 256
"""Utterances whose features are computed together."""
MARGIN = CorpusConfig().margin
ROUNDING = 0.05
"""Seconds by which a manifest's end may be beyond the recording's: coded files differ by a frame or two."""


@dataclass(frozen=True)
class Inspection:
    """What was read.

    Attributes:
        sounds: position -> what the recording measures, of the M readable utterances.
        unreadable: kind of fault -> positions and reasons.
        spectra: float16 [M, D], coarse aligned spectra by which similar recordings are found.
        features: float16 [M, C x K], aligned features; None where they were not asked for.
        heard: float32 [M, 26], what `listen` said of each; None without it.
    """

    sounds: dict[int, Sound]
    unreadable: dict[str, Details]
    spectra: Tensor
    features: Tensor | None
    heard: Tensor | None

    def findings(self, utterances: Sequence[Utterance]) -> list[Finding]:
        """Returns findings of what could not be read."""
        return [finding(kind, "", utterances, details) for kind, details in self.unreadable.items()]


def _read(utterance: Utterance) -> tuple[Sound, Tensor] | tuple[str, str]:
    """Returns what a recording measures and the second that a model hears, or the kind of fault and the reason."""
    try:
        waveform, rate = load(utterance.path, utterance.start, utterance.end)
        sound = measure(waveform, rate)
        if utterance.start is None or utterance.end is None:
            return sound, fit_one_second(to_mono_16k(waveform, rate))[0]
        if sound.seconds < utterance.end - utterance.start - ROUNDING:
            return "outside", f"{utterance.end:g} s is {utterance.end - utterance.start - sound.seconds:.2f} s too far"
        return sound, load_letter(utterance.path, utterance.start, utterance.end, MARGIN)[0]
    except UserError as error:
        reason = str(error).removeprefix(f"{utterance.path}: ")
        if not utterance.path.exists():
            return "missing", reason
        if "NaN" in reason:
            return "not_finite", reason
        return ("outside" if utterance.start is not None and "holds no samples" in reason else "unreadable"), reason


def inspect(
    utterances: Sequence[Utterance], keep_features: bool = False, listen: Callable[[Tensor], Tensor] | None = None
) -> Inspection:
    """Reads all utterances of a manifest; memory grows by some hundred bytes an utterance, without features.

    Args:
        utterances: N of them.
        keep_features: whether aligned features are wanted, 4 kB an utterance.
        listen: a model that says probabilities [B, 26] of waveforms [B, T].
    """
    front_end = Aligned(AlignedConfig(endpoints="energy")).eval()
    sounds: dict[int, Sound] = {}
    unreadable: dict[str, list[tuple[int, str]]] = {}
    spectra, features, heard = [], [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # torch's own threads would compete with those that read
    try:
        bar = tqdm(total=len(utterances), desc="listening", unit=" files", disable=None)
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar, torch.inference_mode():
            for first in range(0, len(utterances), BLOCK):
                waveforms = []
                for place, result in enumerate(pool.map(_read, utterances[first : first + BLOCK]), first):
                    bar.update()
                    if isinstance(result[0], str):
                        unreadable.setdefault(result[0], []).append((place, str(result[1])))
                    else:
                        sounds[place] = result[0]
                        waveforms.append(result[1])
                if not waveforms:
                    continue
                together = torch.stack([wave for wave in waveforms if isinstance(wave, Tensor)])
                tokens = front_end(together)[0]  # [B, C, K]
                warped = tokens[:, :, : front_end.tokens[0]]
                spectra.append(F.avg_pool2d(warped[:, None], (4, 1)).flatten(1).half())
                if keep_features:
                    features.append(tokens.flatten(1).half())
                if listen is not None:
                    heard.append(listen(together))
    finally:
        torch.set_num_threads(threads)
    empty = torch.empty(0, 1)
    return Inspection(
        sounds=sounds,
        unreadable=dict(unreadable),
        spectra=torch.cat(spectra) if spectra else empty,
        features=(torch.cat(features) if features else empty) if keep_features else None,
        heard=(torch.cat(heard) if heard else empty) if listen is not None else None,
    )
