"""Reads and writes .safetensors files."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from alexnet_tf.support import atomic_files
from alexnet_tf.weights import formats

_DTYPES = {"F16": "<f2", "BF16": "bfloat16", "F32": "<f4", "F64": "<f8"}


def read(content: bytes) -> formats.WeightFile:
    """Reads the arrays, and what `write` states beside them.

    Raises:
        WeightFileError: If it holds other than floating-point numbers.
    """
    arrays = {}
    for name, member in safetensors.deserialize(content):
        if member["dtype"] not in _DTYPES:
            raise formats.WeightFileError(f"{name} holds {member['dtype']}, not floating-point numbers.")
        arrays[name] = np.frombuffer(member["data"], _DTYPES[member["dtype"]]).reshape(member["shape"])
    length = int.from_bytes(content[:8], "little")
    stated = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    mean, scale = (
        [float(each) for each in stated[name].split()] if name in stated else None for name in ("mean", "scale")
    )
    return formats.state_dict(
        arrays,
        architecture=stated.get("architecture"),
        mean=mean,
        scale=scale,
        class_names=formats.class_names_in(stated.get("classes")),
    )


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray], stated: Mapping[str, str]) -> None:
    """Writes contiguous arrays, and as metadata what `read` understands: architecture, mean, scale, classes.

    Raises:
        RunError: If it cannot be written.
    """
    atomic_files.write_bytes(path, safetensors.numpy.save(dict(arrays), dict(stated)))
