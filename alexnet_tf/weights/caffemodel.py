"""Caffe's protocol buffers: .caffemodel in both encodings, and .binaryproto.

Nothing is transposed here: see `layouts`. What an architecture is as a Caffe network: `prototxt`.
"""

import dataclasses
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from google.protobuf import message

from alexnet_tf.weights import caffe_pb2, containers, wire_format

# LayerType of the older encoding: those that the newer one's names are needed of.
_V1_TYPES = {
    3: "Concat",
    4: "Convolution",
    14: "InnerProduct",
    15: "LRN",
    17: "Pooling",
    18: "ReLU",
    26: "Power",
    33: "Slice",
}


def _defaults(parameters: type[message.Message]) -> dict[str, float]:
    """Returns a message's fields with Caffe's defaults."""
    return {field.name: field.default_value for field in parameters.DESCRIPTOR.fields}


# The types of layer whose constants are read and written: the field that has them, and their defaults.
CONSTANTS = {
    "LRN": ("lrn_param", _defaults(caffe_pb2.LRNParameter)),
    "Power": ("power_param", _defaults(caffe_pb2.PowerParameter)),
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a Caffe network.

    Attributes:
        name: Its name, by which Caffe finds its weights.
        type: Caffe's name of what it does.
        bottom: Names of what it reads.
        top: Names of what it gives.
        parameters: {"lrn_param": {"local_size": 5}}.
        blobs: Its weights, kernel before bias, in Caffe's shapes.
    """

    name: str
    type: str
    bottom: tuple[str, ...] = ()
    top: tuple[str, ...] = ()
    parameters: dict = dataclasses.field(default_factory=dict)
    blobs: tuple[np.ndarray, ...] = ()


# Where the weights lie: a message's fields that are messages again, or values ("").
_VALUES: wire_format.Fields = {
    "NetParameter": {2: "V1LayerParameter", 100: "LayerParameter"},
    "LayerParameter": {7: "BlobProto"},
    "V1LayerParameter": {6: "BlobProto"},
    "BlobProto": {5: "", 6: ""},
}


def _blob_array(blob, what: str) -> np.ndarray:
    """Returns a BlobProto's values in their declared shape, the older one's with four numbers."""
    shape = blob.shape.dim if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    return containers.array_of(b"".join(blob.data), "<f4", [int(size) for size in shape], what)


def read_caffemodel(content: bytes) -> list[Layer]:
    """Reads the layers of a .caffemodel in the file's order, with their weights.

    Args:
        content: The file's bytes, in the encoding with `layer` or the older one with `layers`.

    Returns:
        The layers, without bottoms and tops; of the parameters only those in `CONSTANTS`. Dense layers' blobs have two
        dimensions and one, also where the older encoding has four.

    Raises:
        WeightFileError: If the file is damaged or holds no weights.
    """
    if content.startswith(b"\x89HDF"):
        raise containers.WeightFileError(
            "It is an HDF5 snapshot; only the .caffemodel that is a protocol buffer is read."
        )
    net = wire_format.parse(caffe_pb2.NetParameter, content, ".caffemodel", _VALUES)
    layers = []
    for parsed in net.layer or net.layers:
        kind = parsed.type if isinstance(parsed.type, str) else _V1_TYPES.get(parsed.type, str(parsed.type))
        name = parsed.name if isinstance(parsed.name, str) else repr(parsed.name)  # Bytes, if it is no UTF-8.
        blobs = [_blob_array(blob, f"{name}[{index}]") for index, blob in enumerate(parsed.blobs)]
        blobs = [
            _without_ones(blob, 4 if kind == "Convolution" and not index else 1 if index else 2)
            for index, blob in enumerate(blobs)
        ]
        parameters = {}
        if kind in CONSTANTS:
            block, defaults = CONSTANTS[kind]
            parameters[block] = {name: getattr(getattr(parsed, block), name) for name in defaults}
        layers.append(Layer(name, kind, parameters=parameters, blobs=tuple(blobs)))
    if not any(layer.blobs for layer in layers):
        raise containers.WeightFileError("It holds no layers with weights: is it a .caffemodel?")
    return layers


def _without_ones(blob, ndim):
    """Returns a blob without the leading ones of the older encoding."""
    while blob.ndim > ndim and blob.shape[0] == 1:
        blob = blob[0]
    return blob


def write_caffemodel(file: BinaryIO, name: str, layers: Iterable[Layer]) -> None:
    """Writes a .caffemodel: what Caffe's tools need to find the weights of a deploy.prototxt, and the layers' order."""
    net = caffe_pb2.NetParameter(name=name)
    for layer in layers:
        written = net.layer.add(name=layer.name, type=layer.type, bottom=layer.bottom, top=layer.top)
        block, _ = CONSTANTS.get(layer.type, ("", {}))
        for field, value in layer.parameters.get(block, {}).items():
            setattr(getattr(written, block), field, value)
        for array in layer.blobs:
            blob = written.blobs.add(data=[np.ascontiguousarray(array, "<f4").tobytes()])
            blob.shape.dim.extend(array.shape)
    file.write(net.SerializeToString())


def read_mean(content: bytes) -> np.ndarray:
    """Reads a .binaryproto: float32 [channels, height, width], BGR.

    Raises:
        WeightFileError: If it is none.
    """
    blob = wire_format.parse(caffe_pb2.BlobProto, content, ".binaryproto", _VALUES)
    return _without_ones(_blob_array(blob, "The mean"), 3)


def write_mean(file: BinaryIO, mean: np.ndarray) -> None:
    """Writes a .binaryproto: float32 [channels, height, width], BGR, in the older shape, which every Caffe reads."""
    channels, height, width = mean.shape
    file.write(
        caffe_pb2.BlobProto(
            num=1, channels=channels, height=height, width=width, data=[np.ascontiguousarray(mean, "<f4").tobytes()]
        ).SerializeToString()
    )
