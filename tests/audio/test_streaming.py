"""Resampling in pieces: the same samples as those of the whole signal."""

import numpy as np
import pytest
import torch

from speechmlp.audio.resampling import resample
from speechmlp.audio.streaming import StreamResampler


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_051, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("size", [1, 137, 5000, 1 << 20])
def test_pieces_of_any_length_give_what_the_whole_gives(rate: int, size: int) -> None:
    length = 300 if size == 1 else rate // 2
    whole = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32))
    stream = StreamResampler(rate, 16_000)
    pieces = [stream.push(whole[first : first + size]) for first in range(0, length, size)]
    expected = resample(whole, rate, 16_000)
    assert sum(map(len, pieces)) > len(expected) - 0.1 * 16_000  # it follows closely
    found = torch.cat([*pieces, stream.finish()])[: len(expected)]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
