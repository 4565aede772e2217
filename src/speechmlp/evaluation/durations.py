"""The durations of letters, without margins and silence.

Dimension key: `N` utterances, `B` batch.
"""

import torch
from torch import Tensor

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.config.schema import AlignedConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.models.aligned import Aligned

BATCH = 256


@torch.inference_mode()
def letter_seconds(utterances: SpokenLetters) -> Tensor:
    """Returns the duration of each letter in seconds, float64 [N].

    Where the manifest says start and end, it is the time between them, without the margin that is kept around it.
    Otherwise it is measured: from where the energy rises above the noise to where it falls again.
    """
    audio = utterances.audio
    recorded = utterances.lengths.double() / audio.sample_rate
    spans = [
        torch.nan if one.start is None or one.end is None else one.end - one.start for one in utterances.utterances
    ]
    given = torch.tensor(spans, dtype=torch.float64, device="cpu")
    # An end after that of the recording is not a part of the letter.
    given = torch.where(utterances.lengths < audio.num_samples, torch.minimum(given, recorded), given)
    unknown = given.isnan().nonzero()[:, 0]
    n_fft, window, hop = (2 * round(size / 2 * audio.sample_rate / SAMPLE_RATE) for size in (512, 400, 160))
    highest = min(7600.0, audio.sample_rate / 2)
    with torch.device("cpu"):
        config = AlignedConfig(endpoints="energy", n_fft=n_fft, win_length=window, hop_length=hop, f_max=highest)
        front_end = Aligned(config, audio).eval()
    corpus = utterances.to(torch.device("cpu"))
    for some in torch.split(unknown, BATCH) if len(unknown) else ():
        ((start, end),) = front_end.find(corpus.take(some).waveforms)[1]
        frames = (end - start).double() * front_end.spectrum.hop_length / audio.sample_rate
        given[some] = torch.minimum(frames, recorded[some])
    return given
