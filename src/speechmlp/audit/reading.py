"""Reads every recording of a manifest once for an audit: its measurements and its aligned features.

Dimension key: `N` utterances, `M` readable ones, `T` samples, `C` mel bands, `K` tokens.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.audio.decoding import fit_one_second, load, load_letter, to_mono_16k
from speechmlp.audio.measures import Sound, measure
from speechmlp.audit.checks import Details, finding
from speechmlp.audit.findings import Finding
from speechmlp.config.schema import AlignedConfig, CorpusConfig
from speechmlp.data.fingerprints import fingerprint
from speechmlp.data.manifest import Utterance
from speechmlp.data.packed import to_samples
from speechmlp.errors import UserError
from speechmlp.models.aligned import Aligned

BLOCK = 256
"""Utterances in a batch."""
MARGIN = CorpusConfig().margin
ROUNDING = 0.05
"""Seconds by which an end in the manifest may exceed the recording: coded files differ by a frame or two."""


@dataclass(frozen=True)
class Inspection:
    """Everything read from the recordings.

    Attributes:
        sounds: index -> measurements, of the M readable utterances.
        fingerprints: index -> fingerprint of the same.
        unreadable: kind of fault -> indices and reasons.
        spectra: float16 [M, D], coarse aligned spectra for finding similar recordings.
        features: float16 [M, C x K], aligned features; None if not requested.
        probabilities: name of a judge -> its probabilities [M, L].
    """

    sounds: dict[int, Sound]
    fingerprints: dict[int, bytes]
    unreadable: dict[str, Details]
    spectra: Tensor
    features: Tensor | None
    probabilities: dict[str, Tensor]

    def findings(self, utterances: Sequence[Utterance]) -> list[Finding]:
        """Returns the findings about unreadable recordings."""
        return [finding(kind, "", utterances, details) for kind, details in self.unreadable.items()]


def _read(utterance: Utterance) -> tuple[Sound, Tensor] | tuple[str, str]:
    """Returns a recording's measurements and its second of model input, or the kind of fault and the reason."""
    try:
        waveform, rate = load(utterance.path, utterance.start, utterance.end)
        sound = measure(waveform, rate)
        if utterance.start is None or utterance.end is None:
            return sound, fit_one_second(to_mono_16k(waveform, rate))[0]
        if sound.seconds < utterance.end - utterance.start - ROUNDING:
            return "outside", f"{utterance.end:g} s is {utterance.end - utterance.start - sound.seconds:.2f} s too late"
        margin = MARGIN if utterance.margin is None else utterance.margin
        return sound, load_letter(utterance.path, utterance.start, utterance.end, margin)[0]
    except UserError as error:
        reason = str(error).removeprefix(f"{utterance.path}: ")
        if not utterance.path.exists():
            return "missing", reason
        if "NaN" in reason:
            return "not_finite", reason
        return ("outside" if utterance.start is not None and "holds no samples" in reason else "unreadable"), reason


def inspect(
    utterances: Sequence[Utterance],
    keep_features: bool = False,
    judges: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({}),
) -> Inspection:
    """Reads all utterances of a manifest, in a few hundred bytes of memory each, without features.

    Args:
        utterances: N of them.
        keep_features: whether to keep aligned features, 4 kB an utterance.
        judges: name -> function from waveforms [B, T] to probabilities [B, L].
    """
    front_end = Aligned(AlignedConfig(endpoints="energy")).eval()
    sounds: dict[int, Sound] = {}
    fingerprints: dict[int, bytes] = {}
    unreadable: dict[str, list[tuple[int, str]]] = {}
    spectra, features = [], []
    probabilities: dict[str, list[Tensor]] = {name: [] for name in judges}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # torch's own threads would compete with the reading ones
    try:
        bar = tqdm(total=len(utterances), desc="reading", unit=" files", disable=None)
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar, torch.inference_mode():
            for first in range(0, len(utterances), BLOCK):
                waveforms = []
                for index, result in enumerate(pool.map(_read, utterances[first : first + BLOCK]), first):
                    bar.update()
                    if isinstance(result[0], str) or isinstance(result[1], str):
                        unreadable.setdefault(result[0], []).append((index, str(result[1])))
                    else:
                        sounds[index] = result[0]
                        waveforms.append(result[1])
                        fingerprints[index] = fingerprint(to_samples(result[1]))
                if not waveforms:
                    continue
                together = torch.stack(waveforms)
                tokens = front_end(together)[0]  # [B, C, K]
                warped = tokens[:, :, : front_end.tokens[0]]
                spectra.append(F.avg_pool2d(warped[:, None], (4, 1)).flatten(1).half())
                if keep_features:
                    features.append(tokens.flatten(1).half())
                for name, classify in judges.items():
                    probabilities[name].append(classify(together))
    finally:
        torch.set_num_threads(threads)
    empty = torch.empty(0, 1)
    return Inspection(
        sounds=sounds,
        fingerprints=fingerprints,
        unreadable=dict(unreadable),
        spectra=torch.cat(spectra) if spectra else empty,
        features=(torch.cat(features) if features else empty) if keep_features else None,
        probabilities={name: torch.cat(found) if found else empty for name, found in probabilities.items()},
    )
