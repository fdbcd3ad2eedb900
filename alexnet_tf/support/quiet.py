"""Keeps what C++ libraries write to standard error off the screen, unless something fails. Standard library only."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO


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
