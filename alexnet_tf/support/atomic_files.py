"""Writes files whole or not at all: beside their place, synchronised to the disk, then renamed."""

import contextlib
import hashlib
import io
import os
import pathlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

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


def write_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes a .npy file with its SHA-256 behind the array, which `numpy.load` does not look at.

    Raises:
        RunError: If it cannot be written.
    """
    content = io.BytesIO()
    np.save(content, array)
    atomic_write(path, lambda file: file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest()))


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an array that `write_array` wrote, or any .npy file, which has no checksum.

    Raises:
        Exception: If it cannot be read, or is not what was written; a damaged header can raise anything.
    """
    content = io.BytesIO(pathlib.Path(path).read_bytes())
    array = np.load(content, allow_pickle=False)
    written, checksum = content.getvalue()[: content.tell()], content.read()
    if checksum and checksum != hashlib.sha256(written).digest():
        raise ValueError("its SHA-256 is not the one that was written")
    return array


def synchronize(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
