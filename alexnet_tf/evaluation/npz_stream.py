"""An .npz larger than memory: written as a stream, read in blocks. `np.load(path, allow_pickle=False)` reads it too.

What is read may come from a stranger: nothing in it is run, and nothing is allocated because a header says so. Every
array that is used is read to its end, where the archive's CRC-32 of header and values is compared, before anything is
concluded from it: a damaged file is an error, never a wrong value. What the arrays mean is in `features`.
"""

import contextlib
import dataclasses
import math
import os
import re
import typing
import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from alexnet_tf.support import errors

# Bytes and rows that are read at a time, unless a single row is larger.
BLOCK_BYTES, _BLOCK_ROWS = 1 << 22, 1 << 13

# Largest array that is read as a whole: a text, or some thousand class names.
_MAX_WHOLE = 1 << 26

# As NumPy writes it. Other headers exist (Fortran order, big-endian, pickled objects) and are refused.
_HEADER = re.compile(
    rb"\{'descr': '(<f4|<i4|<i8|<U[1-9]\d{0,5})', 'fortran_order': False, 'shape': \(((?:\d{1,15}, ?)*\d{0,15})\), "
    rb"\} *\n"
)


class ArrayFileError(errors.UserError):
    """An .npz file is damaged, or is not what it should be; the message says why."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """An array that is written in parts.

    Attributes:
        dtype: Of the values.
        shape: Of the whole.
        parts: Arrays or bytes that make up the whole, in order.
    """

    dtype: str
    shape: tuple[int, ...]
    parts: typing.Iterable


def write(file: BinaryIO, members: dict) -> None:
    """Writes an uncompressed .npz, with one part of a `Stream` in memory at a time.

    Args:
        file: Binary file, open for writing.
        members: Arrays, or `Stream`s, by name.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            if not isinstance(array, Stream):
                array = np.asarray(array)
                array = Stream(array.dtype.str, array.shape, [array.tobytes()])
            header = {"descr": np.dtype(array.dtype).str, "fortran_order": False, "shape": array.shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for part in array.parts:
                    member.write(part)


class Reader(contextlib.AbstractContextManager):
    """An open .npz whose arrays are not compressed.

    Args:
        path: The file.

    Raises:
        ArrayFileError: If it is not such a file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        with self._refusing("it"), contextlib.ExitStack() as stack:
            file = stack.enter_context(open(self.path, "rb"))
            self._zip = stack.enter_context(zipfile.ZipFile(file))
            self._size = os.fstat(file.fileno()).st_size
            self._open = stack.pop_all()

    def __exit__(self, *_):
        self._open.close()

    @contextlib.contextmanager
    def _refusing(self, what: str):
        """Turns whatever is wrong with the file into an ArrayFileError of one line."""
        try:
            yield
        except ArrayFileError:
            raise
        except FileNotFoundError as error:
            raise ArrayFileError(f"{self.path} does not exist.") from error
        except Exception as error:  # Of a damaged zip, zipfile raises a dozen kinds.
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ArrayFileError(f"{self.path} cannot be read: {what} is damaged, or no .npz: {reason}.") from error

    @contextlib.contextmanager
    def _member(self, name: str):
        """Opens an array; gives (file at its first value, dtype, shape)."""
        with self._refusing(f"'{name}'"):
            if f"{name}.npy" not in self._zip.namelist():
                there = ", ".join(self.names()[:20]) or "none"
                raise ArrayFileError(f"{self.path} has no array '{name}'; it has {there}.")
            info = self._zip.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED:  # A small file could become a huge one.
                raise ArrayFileError(f"{self.path}: '{name}' is compressed; such files are written uncompressed.")
            with self._zip.open(info) as member:
                beginning = member.read(10)
                header = member.read(int.from_bytes(beginning[8:], "little"))
                match = _HEADER.fullmatch(header)
                if beginning[:8] != b"\x93NUMPY\1\0" or not match:
                    raise ArrayFileError(f"{self.path}: '{name}' is no array of numbers or texts as NumPy writes them.")
                dtype, shape = np.dtype(match[1].decode()), tuple(map(int, re.findall(rb"\d+", match[2])))
                declared, present = dtype.itemsize * math.prod(shape), info.file_size - member.tell()
                if declared != present or info.header_offset + info.file_size > self._size:
                    raise ArrayFileError(
                        f"{self.path}: '{name}' is declared as {shape}, {declared:,} bytes, and has {present:,} in a "
                        f"file of {self._size:,}: truncated or damaged."
                    )
                yield member, dtype, shape

    def names(self) -> list[str]:
        """Returns the names of the arrays, long ones cut."""
        return [name.removesuffix(".npy")[:40] for name in self._zip.namelist()]

    def shape(self, name: str, kind: str, dimensions: int) -> tuple[int, ...]:
        """Returns the shape of an array.

        Args:
            name: The array's.
            kind: NumPy's letter for what it must hold: "f", "i" or "U".
            dimensions: How many it must have.

        Raises:
            ArrayFileError: If it is not there, or another kind of array.
        """
        with self._member(name) as (_, dtype, shape):
            if (dtype.kind, len(shape)) != (kind, dimensions):
                raise ArrayFileError(
                    f"{self.path}: '{name}' must have {dimensions} dimensions of kind '{kind}'; it is {dtype} {shape}."
                )
            return shape

    def whole(self, name: str, kind: str, dimensions: int) -> np.ndarray:
        """Returns a small array."""
        self.shape(name, kind, dimensions)
        with self._member(name) as (member, dtype, shape):
            if dtype.itemsize * math.prod(shape) > _MAX_WHOLE:
                raise ArrayFileError(f"{self.path}: '{name}' has {shape} values of {dtype}: too many.")
            return np.frombuffer(member.read(), dtype).reshape(shape)

    def text(self, name: str) -> str:
        """Returns a text."""
        return self.whole(name, "U", 0).item()

    def blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number of the first row, some rows) until all were read; damage raises an error by then."""
        with self._member(name) as (member, dtype, shape):
            row_bytes = dtype.itemsize * math.prod(shape[1:])
            rows = max(1, min(_BLOCK_ROWS, BLOCK_BYTES // row_bytes))
            for first in range(0, shape[0], rows):
                block = member.read(min(rows, shape[0] - first) * row_bytes)
                yield first, np.frombuffer(block, dtype).reshape(-1, *shape[1:])

    def values(self, name: str, indices: Sequence[int] | np.ndarray) -> dict[int, typing.Any]:
        """Returns {index: value} for some places of an array of one dimension."""
        wanted = np.unique(indices)
        found: dict[int, typing.Any] = {}
        for first, block in self.blocks(name):
            here = wanted[(wanted >= first) & (wanted < first + len(block))]
            found |= {int(index): block[index - first].item() for index in here}
        return found
