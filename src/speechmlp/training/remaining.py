"""The time that is left of a run, by the steps done so far."""

import time

from tqdm import tqdm


class Remaining:
    """Estimates the time until a run ends, from the pace of its steps since `begin`, validation included.

    Args:
        at_most: whether the run may end earlier, by `patience` or `stop_at_loss`.
    """

    def __init__(self, at_most: bool = False) -> None:
        self._at_most = "at most " if at_most else ""
        self._started, self._first = 0.0, 0

    def begin(self, done: int) -> None:
        """Starts the clock, after so many steps of the run."""
        self._started, self._first = time.perf_counter(), done

    def seconds(self, done: int, total: int) -> float | None:
        """Returns the seconds that the steps after those done take; None before the first step."""
        new = done - self._first
        return (time.perf_counter() - self._started) / new * (total - done) if new > 0 else None

    def text(self, done: int, total: int) -> str:
        """Returns it as in `12:30 left` or `1:02:30 left`; empty before the first step and after the last one."""
        left = self.seconds(done, total)
        return f"{self._at_most}{tqdm.format_interval(left)} left" if left is not None and done < total else ""
