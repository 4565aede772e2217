"""The short version of `scripts/fuzz.py`."""

import pytest
from scripts.fuzz import KINDS, SECONDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_generated_inputs_are_valid_or_told(kind: str) -> None:
    outcome = fuzz(kind, 200)
    assert outcome.failures == []
    assert outcome.counts["told"] > 20
    assert outcome.counts["valid"] > 5
    assert outcome.slowest < SECONDS
