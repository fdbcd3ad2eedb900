"""SIGINT and SIGTERM end a training after the current step instead of in the middle of it."""

import os
import signal
import threading
import types


class StopSignal:
    """Notes a signal while it is entered; a second one raises KeyboardInterrupt.

    Outside of the main thread, where Python handles no signals, it does nothing.

    Attributes:
        number: The signal that came, or None.
    """

    def __init__(self):
        self.number: int | None = None
        self._handlers: dict = {}

    @property
    def name(self) -> str | None:
        """The signal's name, such as "SIGTERM"."""
        return signal.Signals(self.number).name if self.number else None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
        # Not print(): the signal may have come in the middle of one.
        os.write(1, f"\n{signal.Signals(number).name}: stopping; a second one stops at once.\n".encode())
