"""Reads NumPy's files: .npz archives, .npy arrays, and the dictionaries that np.save makes an array of objects of."""

import io

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.weights import formats, pickles


def read(content: bytes) -> formats.WeightFile:
    """Reads a .npy or .npz file.

    Args:
        content: The file's bytes. Pickles of Python 2 are understood.

    Returns:
        The arrays of an .npz by their names; of a .npy "conv1[0]" and "conv1[1]" of {"conv1": [kernel, bias]} or
        {"conv1": {"weights": kernel, "biases": bias}}, as caffe-tensorflow writes them, and of [kernel, bias] alone; or
        one `array`.
    """
    if content.startswith(b"PK"):
        with np.load(io.BytesIO(content)) as archive:
            return formats.state_dict(dict(archive))
    file = io.BytesIO(content)
    read_header = (
        np.lib.format.read_array_header_1_0
        if np.lib.format.read_magic(file) == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    _, _, dtype = read_header(file)
    if not dtype.hasobject:
        return formats.WeightFile({"array": np.load(io.BytesIO(content))}, "caffe-tensorflow")
    [*values] = pickles.load(file).value
    layers = values[0] if isinstance(values[0], dict) else {_layer_of(values): values}
    arrays = {}
    for layer, values in layers.items():
        if isinstance(values, dict):
            values = [values["weights"], *(values[key] for key in ("biases",) if key in values)]
        for position, value in enumerate(values if isinstance(values, list | tuple) else [values]):
            arrays[f"{layer}[{position}]"] = value.value
    return formats.WeightFile(arrays, "caffe-tensorflow")


def _layer_of(values: list) -> str:
    """Returns the convolution of Caffe's AlexNet whose kernel [height, width, in, out] comes first; "" if none has."""
    shape = values[0].value.shape
    names = [
        stage.name
        for stage in architectures.ARCHITECTURES["caffe"].stages
        if len(shape) == 4 and stage.kernel_size == shape[0] == shape[1] and stage.filters == shape[3]
    ]
    return names[0] if len(names) == 1 else ""
