"""Writes files whole or not at all: beside their place, synchronised to the disk, then renamed."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from typing import BinaryIO

from alexnet_tf.support import errors


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
