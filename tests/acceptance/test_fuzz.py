"""Generated inputs: few of them here, more in test_acceptance.py."""

import pytest

from tests.acceptance.fuzz import KINDS, SECONDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_generated_inputs_are_valid_or_reported(kind: str) -> None:
    outcome = fuzz(kind, 100)
    assert outcome.failures == []
    assert outcome.counts["reported"] > 10
    assert outcome.counts["valid"] > 2
    assert outcome.slowest < SECONDS
