"""Writes checkpoints beside the training, which goes on meanwhile."""

import threading
from collections.abc import Callable


class CheckpointWriter:
    """Runs one write at a time in a thread of its own."""

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Starts a write, after the one before has ended.

        Args:
            write: Must not depend on anything that training changes.

        Raises:
            Exception: What the write before has raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=[write], name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Waits until nothing is being written.

        Raises:
            Exception: What the write has raised.
        """
        if self._thread:
            self._thread.join()
        self.check()

    def check(self) -> None:
        """Raises what a write that has ended has raised, once."""
        error, self._error = self._error, None
        if error:
            raise error

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # Raised again in the thread that trains.
            self._error = error
