"""Generated inputs: few of them here, more in test_acceptance.py."""

import pytest

from speechmlp.audio.readers import has_ffmpeg
from tests.acceptance.fuzz import KINDS, SECONDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_generated_inputs_are_valid_or_reported(kind: str) -> None:
    has_ffmpeg()  # loads FFmpeg, which takes a second once
    outcome = fuzz(kind, 100)
    assert outcome.failures == []
    assert outcome.counts["reported"] > 10
    assert outcome.counts["valid"] > 2
    assert outcome.slowest < SECONDS
