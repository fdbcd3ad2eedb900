"""Formats of weight files: what their names end in, and which module reads them.

A new format is a module and a line of `FORMATS`. The module's `read` takes a file's bytes and returns a `WeightFile`.
It is called in a process of its own (`guard`), so that it may raise anything and use any library.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf.support import errors, tables


class WeightFileError(errors.UserError):
    """A weight file cannot be read; the message says why."""


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a weight file holds; whatever it does not state is None.

    Attributes:
        arrays: Floating-point arrays by the file's own names.
        layout: What the names and axes mean: a key of `layouts.LAYOUTS`.
        steps: The network's layers in order: weight layers by name, "relu", "pool", and LRN as `lrn_step` writes it.
        architecture: The architecture's name.
        mean: What the input's first step subtracts, RGB: [3] or [height, width, 3], as lists.
        scale: What it multiplies by, RGB.
        class_names: In the order of the logits.
    """

    arrays: Mapping[str, np.ndarray]
    layout: str
    steps: list[str] | None = None
    architecture: str | None = None
    mean: list | None = None
    scale: list[float] | None = None
    class_names: list[str] | None = None


@dataclasses.dataclass(frozen=True)
class Format(tables.Entry):
    """One kind of weight file.

    Attributes:
        endings: Of its files' names.
    """

    endings: tuple[str, ...]


FORMATS = {
    "caffe": Format(
        "alexnet_tf.weights.caffemodel", "Caffe's networks, and its mean images", (".caffemodel", ".binaryproto")
    ),
    "numpy": Format(
        "alexnet_tf.weights.numpy_file",
        "caffe-tensorflow's dictionary; arrays by torchvision's names",
        (".npy", ".npz"),
    ),
    "torch": Format("alexnet_tf.weights.torch_file", "what torch.save writes", (".pth", ".pt", ".pth.tar")),
    "safetensors": Format("alexnet_tf.weights.safetensors_file", "PyTorch's names", (".safetensors",)),
    "keras": Format("alexnet_tf.weights.keras_file", "this project's own models", (".keras", ".weights.h5")),
    "onnx": Format(
        "alexnet_tf.weights.onnx_file", "exports of this project, of torchvision and of Caffe's networks", (".onnx",)
    ),
}

ENDINGS = {ending: name for name, entry in FORMATS.items() for ending in entry.endings}


def format_of(file_name: str) -> str:
    """Returns the key of `FORMATS` for a file's name.

    Raises:
        WeightFileError: If its ending is not known.
    """
    for ending, name in ENDINGS.items():
        if file_name.lower().endswith(ending):
            return name
    raise WeightFileError(f"Its name ends in none of {', '.join(ENDINGS)}.")


def lrn_step(size: int, alpha: float, beta: float, k: float) -> str:
    """Returns LRN over a window of `size` channels, in Caffe's terms (alpha is divided by the size), as a step."""
    return f"lrn(size={size}, alpha={alpha:.4g}, beta={beta:.4g}, k={k:.4g})"


def state_dict(arrays: Mapping[str, np.ndarray], **stated: Any) -> WeightFile:
    """Returns arrays by PyTorch's names, without what DataParallel, torch.compile and wrappers put before them.

    Args:
        arrays: Kernels [out, in, height, width] and [out, in], and biases, by torchvision's names ("features.0.weight")
            or those of this project's stages ("conv1.weight").
        **stated: Further attributes of the `WeightFile`.
    """
    plain = {re.sub(r"(?:^|(?<=\.))(?:module|_orig_mod)\.", "", name): array for name, array in arrays.items()}
    for prefix in ("model.", "net.", "alexnet.", "backbone."):
        if plain and all(name.startswith(prefix) for name in plain):
            plain = {name.removeprefix(prefix): array for name, array in plain.items()}
    plain = plain if len(plain) == len(arrays) else dict(arrays)
    is_ours = any(re.match(r"(conv|fc)\d\.", name) for name in plain)
    return WeightFile(plain, "stages" if is_ours else "torchvision", **stated)


def class_names_in(text: str | None) -> list[str] | None:
    """Returns the class names of a file's metadata, a list in JSON; None where they are not stated."""
    return None if text is None else [str(name) for name in json.loads(text)]
