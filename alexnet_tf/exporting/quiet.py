"""Keeps what C++ libraries write to standard error off the screen, unless something fails. Standard library only."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_standard_error() -> Iterator[None]:
    """Keeps back what is written to file descriptor 2; after an exception it is shown."""
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(standard_error, kept.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
