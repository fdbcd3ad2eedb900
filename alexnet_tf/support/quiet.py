"""What becomes of standard output and standard error: C++ libraries kept off them, and screens that go away survived.

Standard library only.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TextIO


def hide_standard_error() -> None:
    """Drops what this process, a helper of another, writes to file descriptor 2 from now on, also while it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextlib.contextmanager
def standard_error_hidden() -> Iterator[TextIO]:
    """Keeps back what is written to file descriptor 2, by C++ too, and shows it only if an exception is raised.

    Yields:
        The hidden standard error, for what must be seen all the same.
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as hidden, open(standard_error, "w") as screen:
        os.dup2(hidden.fileno(), 2)
        try:
            yield screen
        except BaseException:
            hidden.seek(0)
            os.write(standard_error, hidden.read())
            raise
        finally:
            os.dup2(standard_error, 2)


class _LastingStream:
    """A stream whose text is dropped, instead of raising an error, from the first write on that fails."""

    def __init__(self, stream: TextIO, on_failure: Callable[[OSError], None]) -> None:
        self._stream, self._on_failure = stream, on_failure

    def write(self, text: str) -> int:
        """Writes as `io.TextIOBase.write`."""
        self._survive(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flushes as `io.TextIOBase.flush`."""
        self._survive(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _survive(self, function: Callable[..., object], *arguments: str) -> None:
        try:
            function(*arguments)
        except OSError as error:
            # Also what the stream still holds, and what is written past it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._on_failure(error)


@contextlib.contextmanager
def lost_screens_survived(on_failure: Callable[[OSError], None]) -> Iterator[None]:
    """Lets a long program outlive its terminal, the disk of its log, and `tee`.

    Args:
        on_failure: Called once for each of standard output and standard error that can no longer be written.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_LastingStream(stream, on_failure) for stream in streams)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
