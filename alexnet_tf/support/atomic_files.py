"""Writes files whole or not at all: beside their place, synchronised to the disk, then renamed; locks directories."""

import contextlib
import fcntl
import logging
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from alexnet_tf.support import errors

_LOGGER = logging.getLogger(__name__)


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all.

    Args:
        path: Where the file is to appear.
        write: Called with a binary file to fill.

    Raises:
        RunError: If it cannot be written (a full disk, say); nothing half-written stays.
        UserError: If it is in remote storage.
    """
    errors.check_local_path(path, "")
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        synchronize(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):  # Such as Ctrl-C.
            raise
        raise errors.RunError(f"{path} could not be written: {error.strerror or error}.") from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file of known content, as `atomic_write` does."""
    atomic_write(path, lambda file: file.write(content))


def synchronize(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: pathlib.Path, work: str) -> Iterator[None]:
    """Holds a directory, which is made if need be, so that no other process does the same work in it.

    Args:
        directory: Where.
        work: What this process does, and the other one would be doing, for the message.

    Raises:
        RunError: If another process holds it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "a")
    except OSError as error:
        raise errors.RunError(f"{directory} cannot be written: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.RunError(
                f"{directory} is in use by another {work}. Wait for it, or give another directory."
            ) from error
        except OSError as error:
            _LOGGER.warning(
                f"The file system of {directory} has no locks ({error.strerror}): make sure that no other {work} "
                "uses it."
            )
        yield
