"""What all weight files share, and the two kinds that have a library of their own: .safetensors, and Keras' files.

A weight file is data from a stranger: nothing in it is run, and no memory is allocated because a header claims a size.
What names and shapes mean: `layouts`.
"""

import io
import json
import math
import os
import pathlib
import re
import stat
import struct
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import ml_dtypes  # noqa: F401  (NumPy then knows bfloat16.)
import numpy as np
import numpy.typing  # noqa: F401

from alexnet_tf.support import errors

# No AlexNet is larger: 62,378,344 values of 8 bytes are 0.5 GB.
MAX_BYTES = 1 << 30

# Of JSON, which takes ten times as much as Python's objects. A mean image in a .keras file has 3 MB.
_MAX_JSON = 1 << 24

# Of a .safetensors file's header, whose parser takes forty times as much; an AlexNet's has two kilobytes.
_MAX_HEADER = 1 << 19

_SAFETENSORS_DTYPES = {"F16": "<f2", "BF16": "bfloat16", "F32": "<f4", "F64": "<f8"}


# What lies in a weight file's place after a download that went wrong, by how it begins, and what helps.
_NO_WEIGHTS = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the file itself. Fetch that in its repository: git lfs install && git lfs pull",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)",
        "a web page that was saved instead of the file, such as a site's "
        "question or error. Open the address in a browser and download the file there",
    ),
)


class WeightFileError(errors.UserError):
    """A weight file cannot be read or written; the message says why."""


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns a file's content.

    Raises:
        WeightFileError: If it cannot be read, is empty, or is larger than any of these networks.
    """
    path = pathlib.Path(path).expanduser()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise WeightFileError(f"{path} is not a regular file; directories, pipes and devices are not read.")
        size = status.st_size
        if size > MAX_BYTES:
            raise WeightFileError(f"{path} has {size:,} bytes; no weights of these networks have over {MAX_BYTES:,}.")
        content = path.read_bytes()
    except OSError as error:
        raise WeightFileError(f"{path} cannot be read: {error.strerror}.") from error
    if not content:
        raise WeightFileError(f"{path} is empty.")
    for beginning, what in _NO_WEIGHTS:
        if re.match(beginning, content, re.IGNORECASE):
            raise WeightFileError(f"{path} ({len(content):,} bytes) is {what}.")
    return content


def array_of(
    content: bytes, dtype: np.typing.DTypeLike, shape: Sequence[int], what: str, offset: int = 0
) -> np.ndarray:
    """Returns bytes as an array that shares their memory.

    Args:
        content: Bytes, or anything with that interface.
        dtype: Of the values.
        shape: As declared by the file.
        what: Names the array in messages.
        offset: Of the first byte.

    Raises:
        WeightFileError: If the shape is invalid or does not match the number of bytes.
    """
    shape = tuple(shape)
    # Nothing longer is printed or multiplied: a tuple of tuples of tuples may take for ever.
    if len(shape) > 8 or not all(isinstance(size, int) and 0 <= size < 1 << 40 for size in shape):
        raise WeightFileError(f"{what} has no possible shape.")
    declared, present = math.prod(shape) * np.dtype(dtype).itemsize, len(content) - offset
    if declared != present:
        raise WeightFileError(
            f"{what} is declared as {shape}, {declared:,} bytes, and has {present:,}: truncated or damaged."
        )
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)


def open_zip(content: bytes) -> zipfile.ZipFile:
    """Opens a zip file.

    Raises:
        WeightFileError: If it is damaged.
    """
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
        raise WeightFileError(f"The zip is damaged: {error}.") from error


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a member of a zip file.

    Raises:
        WeightFileError: If it is not there, compressed (a small file could become a huge one) or damaged.
    """
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise WeightFileError(f"{name} in the zip is compressed; weights are stored as they are.")
        return archive.read(name)
    except KeyError as error:
        raise WeightFileError(f"The zip holds no {name}.") from error
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError, struct.error) as error:
        raise WeightFileError(f"{name} in the zip is damaged: {error}.") from error


def read_safetensors(content: bytes) -> tuple[dict, dict]:
    """Reads a .safetensors file.

    Returns:
        (arrays by name, the texts in its metadata).

    Raises:
        WeightFileError: If it is damaged, or holds anything but floats.
    """
    import safetensors

    length = int.from_bytes(content[:8], "little")
    if length > _MAX_HEADER:
        raise WeightFileError(f"Its header claims {length:,} bytes: it is not a readable .safetensors file.")
    try:
        members = safetensors.deserialize(content)
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightFileError(f"It is not a readable .safetensors file: {error}") from error
    arrays = {}
    for name, member in members:
        if member["dtype"] not in _SAFETENSORS_DTYPES:
            raise WeightFileError(f"{name} holds {member['dtype']}, not floating-point numbers.")
        arrays[name] = array_of(member["data"], _SAFETENSORS_DTYPES[member["dtype"]], member["shape"], name)
    return arrays, metadata


def write_safetensors(file: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes arrays with texts about them."""
    import safetensors.numpy

    file.write(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata))


def read_keras(content: bytes) -> tuple[dict, dict]:
    """Reads a .weights.h5 or .keras file of a model of `alexnet.build_model`, without Keras.

    Returns:
        (arrays by the variable's path: "conv1_a/kernel", "conv1_a/bias"; the model's config, empty for .weights.h5).

    Raises:
        WeightFileError: If it is damaged, or an array lies outside the file or is compressed.
    """
    import h5py

    model_config = {}
    if content.startswith(b"PK"):
        archive = open_zip(content)
        content = read_member(archive, "model.weights.h5")
        try:
            text = read_member(archive, "config.json")
            model_config = json.loads(text if len(text) <= _MAX_JSON else "")["config"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WeightFileError(f"config.json in the zip is damaged: {error}.") from error
    arrays = {}
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            layers = _h5_member(file, "layers")
            for layer in layers:
                variables = _h5_member(_h5_member(layers, layer), "vars")
                weights = [_h5_member(variables, position) for position in variables]
                if weights and weights[0].shape:  # Else a count, or no weights at all.
                    for weight, kind in zip(weights, ("kernel", "bias"), strict=False):
                        name = f"{variables.attrs['name']}/{kind}"
                        arrays[name] = _h5_array(weight, name)
    except WeightFileError:
        raise
    except Exception as error:  # Of a damaged file h5py raises whatever the C library's error is taken for.
        raise WeightFileError(f"It is not a Keras weight file of this project: {error}.") from error
    return arrays, model_config


def _h5_member(group, name):
    """Returns a member of a group, refusing links that may lead out of the file."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise WeightFileError(f"{name!r} is missing, or a link that may lead anywhere.")
    return group[name]


def _h5_array(dataset, what):
    present = dataset.id.get_storage_size()
    is_inside = not dataset.external and not dataset.is_virtual
    if dataset.dtype.kind != "f" or not is_inside or dataset.size * dataset.dtype.itemsize != present:
        raise WeightFileError(f"{what} is declared as {dataset.dtype} {dataset.shape} and has {present:,} bytes.")
    return dataset[()]
