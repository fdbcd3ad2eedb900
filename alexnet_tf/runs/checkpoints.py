"""A checkpoint's file: named arrays and a state, written with a checksum and verified whole before anything is used.

The file is an ordinary .npz, which `numpy.load` reads: a zip archive with a member for each array, and the state as
JSON in a member of its own. The archive's comment is the SHA-256 of all that stands before it. Files of older versions
have no comment; their members are verified by the archive's own CRC-32.
"""

import hashlib
import io
import json
import os
import pathlib
import struct
import typing
import zipfile
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from alexnet_tf.support import atomic_files, errors

_STATE = "state.json"

_MARK = b"sha256="

# An archive ends with the length of its comment, two bytes, and the comment.
_COMMENT_BYTES = len(_MARK) + 64


class DamagedError(ValueError):
    """A checkpoint cannot be read: it is damaged, or it is not one."""


def write(path: str | pathlib.Path, arrays: Mapping[str, np.ndarray], state: dict) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: The file, which ends in .npz.
        arrays: Arrays by name.
        state: What else a checkpoint holds; must survive JSON.

    Raises:
        errors.RunError: If it cannot be written.
    """
    members = {**arrays, _STATE: np.frombuffer(json.dumps(state).encode(), "uint8")}

    def write_with_digest(file: typing.BinaryIO) -> None:
        np.savez(file, **members)  # type: ignore[arg-type]  # NumPy's stub takes no mapping.
        file.flush()
        file.seek(-2, os.SEEK_END)
        with open(file.name, "rb") as written:
            digest = _digest(written, file.tell())
        file.write(struct.pack("<H", _COMMENT_BYTES) + _MARK + digest)

    atomic_files.atomic_write(path, write_with_digest)


def read(
    path: str | pathlib.Path, is_wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, np.ndarray], dict]:
    """Reads a checkpoint once it is verified.

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
            _verify(file)
            with zipfile.ZipFile(file) as archive:
                arrays = _read_members(archive, is_wanted)
        state = json.loads(arrays.pop(_STATE).tobytes())
        if not isinstance(state, dict):
            raise ValueError("its state is not a dictionary")
    # A damaged archive can raise anything: its structure is parsed before a checksum is met.
    except Exception as error:
        raise DamagedError(str(error) or type(error).__name__) from error
    return arrays, state


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Returns all arrays of any .npz file, each read to its end and so verified by the archive's CRC-32.

    Raises:
        Exception: If the file is damaged; its structure is parsed before a checksum is met, which can raise anything.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        return _read_members(archive, lambda name: True)


def num_bytes(shapes_and_dtypes: typing.Iterable[tuple[tuple[int, ...], str]]) -> int:
    """Returns about how large the checkpoint of such arrays is, in bytes."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize + 1000 for shape, dtype in shapes_and_dtypes)


def _verify(file: typing.BinaryIO) -> None:
    """Raises ValueError if the file has a checksum that is not that of its content."""
    end = file.seek(0, os.SEEK_END) - _COMMENT_BYTES - 2
    file.seek(max(0, end))
    tail = file.read()
    if end > 0 and tail.startswith(struct.pack("<H", _COMMENT_BYTES) + _MARK):
        if tail[-64:] != _digest(file, end):
            raise ValueError("its SHA-256 is not the one that was written")


def _digest(file: typing.BinaryIO, size: int) -> bytes:
    """Returns the SHA-256 of the first bytes of a file, in hexadecimal."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()


def _read_members(archive: zipfile.ZipFile, is_wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Returns the state and the arrays that are wanted, each read to its end, where its CRC-32 is checked."""
    arrays = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as opened:  # Compares its name with the one in the archive's directory.
            if name != _STATE and not is_wanted(name):
                continue
            content = opened.read()
        if len(content) != member.file_size:
            raise ValueError(f"{name} is cut")
        stream = io.BytesIO(content)
        arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.tell() != len(content):
            raise ValueError(f"{name} is longer than its header says")
    return arrays


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
