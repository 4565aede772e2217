"""Ending long work by SIGINT or SIGTERM between two steps of it."""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A request to end by SIGINT or SIGTERM, as a context.

    Before `wait` is called, both raise KeyboardInterrupt, so that temporary files are removed. Afterwards the first one
    is only recorded here, and a second one ends the program at once.

    Attributes:
        number: of the signal that was received; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        """Makes SIGTERM act as Ctrl-C. Does nothing outside of the main thread, which gets no signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the handlers of the signals."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Records the first signal from now on."""
        for number in self._before:
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Returns whether a signal was received."""
        return self.number is not None
