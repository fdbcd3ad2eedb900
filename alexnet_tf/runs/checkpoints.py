"""A file of named arrays and a state, written with a checksum and verified whole before anything of it is used.

It is an ordinary .npz, which `numpy.load` reads: a zip archive with a member for each array, and the state as JSON in a
member of its own. Behind it stand the 32 bytes of the SHA-256 of all before. (The archive's own CRC-32 alone let two of
40,857 damaged files pass.)
"""

import hashlib
import json
import os
import pathlib
import typing
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from alexnet_tf.support import atomic_files, errors

_STATE = "state.json"

_DIGEST_BYTES = 32


class DamagedError(ValueError):
    """The file cannot be read: it is damaged, or it is not one of these."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], state: dict) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: The file, which ends in .npz.
        arrays: Arrays by name.
        state: What else it holds; must survive JSON.

    Raises:
        errors.RunError: If it cannot be written.
    """
    members = {**arrays, _STATE: np.frombuffer(json.dumps(state).encode(), "uint8")}

    def write_with_digest(file: typing.BinaryIO) -> None:
        np.savez(file, **members)  # type: ignore[arg-type]  # NumPy's stub takes no mapping.
        file.flush()
        with open(file.name, "rb") as written:
            digest = _digest(written, file.seek(0, os.SEEK_END))
        file.write(digest)

    atomic_files.atomic_write(path, write_with_digest)


def read(
    path: str | os.PathLike[str], is_wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, np.ndarray], dict]:
    """Reads a file once it is verified.

    Args:
        path: The file.
        is_wanted: Which arrays to return, by name.

    Returns:
        (arrays by name, state).

    Raises:
        DamagedError: If it is not whole, whatever the damage; the message says what is wrong with it.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
            digest = _digest(file, size)
            if file.read() != digest:
                raise ValueError("its SHA-256 is not the one that was written")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files if name == _STATE or is_wanted(name)}
        return arrays, json.loads(arrays.pop(_STATE).tobytes())
    except Exception as error:  # What is not such a file can raise anything.
        raise DamagedError(str(error) or type(error).__name__) from error


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Returns all arrays of any .npz file, each read to its end and so verified by the archive's CRC-32.

    Raises:
        Exception: If the file is damaged; its structure is parsed before a checksum is met, which can raise anything.
    """
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def num_bytes(shapes_and_dtypes: Iterable[tuple[tuple[int, ...], str]]) -> int:
    """Returns about how large the file of such arrays is, in bytes."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize + 1000 for shape, dtype in shapes_and_dtypes)


def _digest(file: typing.BinaryIO, size: int) -> bytes:
    """Returns the SHA-256 of the first bytes of a file, which is then read up to there."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.digest()


def restore(variables: Iterable[typing.Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns arrays to the variables of the same path; arrays left over belong to something else and are ignored.

    Args:
        variables: Keras variables.
        arrays: Arrays by path.

    Raises:
        RunError: If an array is missing or has another shape; nothing is assigned then.
    """
    missing = [v.path for v in variables if v.path not in arrays]
    differing = [
        f"{v.path}: {arrays[v.path].shape} in the checkpoint, {tuple(v.shape)} in the network"
        for v in variables
        if v.path in arrays and arrays[v.path].shape != tuple(v.shape)
    ]
    if missing or differing:
        raise errors.RunError(
            f"The checkpoint does not fit the network. Missing: {', '.join(missing) or 'none'}. Other shapes: "
            f"{'; '.join(differing) or 'none'}."
        )
    for variable in variables:
        variable.assign(arrays[variable.path])
