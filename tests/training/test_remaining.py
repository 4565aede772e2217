import time

import pytest

from speechmlp.training.remaining import Remaining


def test_the_time_left_is_that_of_all_steps_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    remaining = Remaining()
    remaining.begin(40)  # of a resumed run, whose first steps were done at another time
    assert remaining.seconds(40, 100) is None
    assert remaining.text(40, 100) == ""
    now = 110.0
    assert remaining.seconds(45, 100) == pytest.approx(2 * 55)
    assert remaining.text(45, 100) == "01:50 left"
    now = 120.0  # validation counts too
    assert remaining.seconds(45, 100) == pytest.approx(4 * 55)
    now = 100 + 3 * 3600
    assert remaining.text(70, 100) == "3:00:00 left"
    assert remaining.text(100, 100) == ""


def test_an_early_end_is_possible() -> None:
    remaining = Remaining(at_most=True)
    remaining.begin(0)
    assert remaining.text(1, 1_000_000_000).startswith("at most ")
