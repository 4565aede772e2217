"""Segment scores for running speech: a small dense network says whether a segment is exactly one letter.

Spelling is fluent: four in five of AN4's letters follow the one before without a pause, so energy says little. The
network's input is a segment at fixed positions, as in the aligned front end, and the frames around its ends; its
outputs are the log-odds that the segment is exactly one letter, those that it is the word double, and the letter.

Dimension key: `B` recordings, `T` samples, `F` frames (10 ms), `C` mel bands, `S` segments, `K` tokens, `W` width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp.config.schema import AlignedConfig
from speechmlp.errors import UserError
from speechmlp.files import read_tensors, whole_file
from speechmlp.labels import NUM_LETTERS
from speechmlp.models.aligned import Aligned

WEIGHTS = Path(__file__).parents[1] / "weights" / "segments.pt"
"""The network in the package; its card is in the same folder."""
FORMAT = 2
SHORTEST, LONGEST = 5, 90
"""Lengths of a letter, in frames."""


class SegmentScorer(nn.Module):
    """Scores of segments of recordings: features [B, F, C] and starts and ends [S] -> [S, 28].

    The first 26 are logits of the letters, if it is one; then the log-odds of one whole letter, and of the word double.

    Args:
        width: of a frame's embedding.
        hidden: of the two hidden layers.
        dropout: after each of them.
    """

    WARPED = 20
    """Tokens over the whole segment."""
    AROUND = 10
    """Tokens 10 ms apart on each side of its start, and of its end."""
    MEAN_LOG_LENGTH = 3.3
    """Natural logarithm of a typical letter's number of frames."""
    ODDS, DOUBLE = NUM_LETTERS, NUM_LETTERS + 1
    """Columns of the log-odds."""

    def __init__(self, width: int = 32, hidden: int = 192, dropout: float = 0.2) -> None:
        super().__init__()
        self.front_end = Aligned(AlignedConfig(endpoints="energy"))
        self.embed = nn.Linear(self.front_end.shape[0], width)
        layers: list[nn.Module] = []
        inputs = (self.WARPED + 4 * self.AROUND) * width + 2
        for _ in range(2):
            layers += [nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout)]
            inputs = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, NUM_LETTERS + 2))
        self.float()  # whatever torch's default is

    @staticmethod
    def normalise(log_mel: Tensor) -> Tensor:
        """Returns log-mel energies [B, F, C] with mean zero and about unit deviation over each recording."""
        centred = log_mel - log_mel.mean((1, 2), keepdim=True)
        return centred / (centred.std((1, 2), keepdim=True) + 0.3)

    def features(self, waveforms: Tensor) -> Tensor:
        """Returns features [B, F, C] of waveforms [B, T] of any length."""
        centred = waveforms - waveforms.mean(1, keepdim=True)
        return self.normalise(self.front_end.log_mel(self.front_end.spectrum(centred)))

    def forward(self, features: Tensor, which: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Returns scores [S, 28].

        Args:
            features: [B, F, C].
            which: int64 [S], the recording of each segment.
            start: int64 [S], in frames.
            end: int64 [S], not included; larger.
        """
        frames = features.shape[1]
        length = (end - start).float()
        relative = (torch.arange(self.WARPED, dtype=length.dtype, device=features.device) + 0.5) / self.WARPED
        step = torch.arange(-self.AROUND, self.AROUND, device=features.device)
        positions = [start[:, None] + length[:, None] * relative, start[:, None] + step, end[:, None] + step]
        position = torch.cat(positions, 1).clamp(0, frames - 1.001)  # [S, K]
        # Embedded before interpolation, which is the same for a linear layer and faster, because segments overlap.
        embedded = self.embed(features).flatten(0, 1)  # [B F, W]
        before = position.floor().long().clamp(max=frames - 2)  # float32 rounds the last position up after 5 minutes
        row = (which * frames)[:, None] + before
        tokens = torch.lerp(embedded[row], embedded[row + 1], (position - before)[..., None])  # [S, K, W]
        tokens = tokens - tokens[:, : self.WARPED].mean(1, keepdim=True)
        sums = F.pad(features.mean(2).cumsum(1), (1, 0)).flatten()
        first = which * (frames + 1)
        level = (sums[first + end] - sums[first + start]) / length
        extra = torch.stack([length.log() - self.MEAN_LOG_LENGTH, level], 1)
        return self.layers(torch.cat([tokens.flatten(1), extra], 1))  # type: ignore[no-any-return]


def save_scorer(path: Path, scorer: SegmentScorer) -> None:
    """Writes the network's weights, whole or not at all.

    Raises:
        UserError: they cannot be written.
    """
    with whole_file(path) as file:
        torch.save({"format": FORMAT, "model": scorer.state_dict()}, file)


def load_scorer(path: str | Path = WEIGHTS) -> SegmentScorer:
    """Returns the network in a file, that of the package by default, in evaluation mode.

    Raises:
        UserError: it cannot be read.
    """
    expected = "expected what scripts/release/train_segments.py writes"
    content = read_tensors(Path(path), expected, "the package contains no model for spelling; install it again")
    with torch.device("cpu"):
        scorer = SegmentScorer()
    try:
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        scorer.load_state_dict(content["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; {expected}") from error
    return scorer.eval()
