"""Caffe's protocol buffers: .caffemodel in both encodings, and .binaryproto.

Only the part of caffe.proto that weights and their order need is here. What a network of Caffe's computes is in
`caffe_nets`; nothing here transposes: see `weights`.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from alexnet_tf.weights import containers

# (field, number, type) from BVLC/caffe's src/caffe/proto/caffe.proto; "*" is repeated. `data` is there a packed list of
# floats, which has the same bytes on the wire as a bytes field: so 61 million floats need not become Python's.
_MESSAGES = {
    "BlobShape": (("dim", 1, "int64*"),),
    "BlobProto": (
        ("num", 1, "int32"), ("channels", 2, "int32"), ("height", 3, "int32"), ("width", 4, "int32"),
        ("data", 5, "bytes*"), ("shape", 7, "BlobShape")),
    "LRNParameter": (
        ("local_size", 1, "uint32"), ("alpha", 2, "float"), ("beta", 3, "float"), ("norm_region", 4, "int32"),
        ("k", 5, "float")),
    "PowerParameter": (("power", 1, "float"), ("scale", 2, "float"), ("shift", 3, "float")),
    "LayerParameter": (
        ("name", 1, "string"), ("type", 2, "string"), ("bottom", 3, "string*"), ("top", 4, "string*"),
        ("blobs", 7, "BlobProto*"), ("lrn_param", 118, "LRNParameter"),
        ("power_param", 122, "PowerParameter")),
    "V1LayerParameter": (
        ("name", 4, "string"), ("type", 5, "int32"), ("blobs", 6, "BlobProto*"), ("lrn_param", 18, "LRNParameter"),
        ("power_param", 21, "PowerParameter")),
    "NetParameter": (("name", 1, "string"), ("layers", 2, "V1LayerParameter*"), ("layer", 100, "LayerParameter*")),
}

# The older encoding's LayerType, where a present name is wanted.
_V1_TYPES = {
    3: "Concat", 4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU", 26: "Power", 33: "Slice"}

# The constants that are read and written with a type of layer, by their defaults.
CONSTANTS = {
    "LRN": ("lrn_param", {"local_size": 5, "alpha": 1.0, "beta": 0.75, "norm_region": 0, "k": 1.0}),
    "Power": ("power_param", {"power": 1.0, "scale": 1.0, "shift": 0.0}),
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


@functools.cache
def _message_class(name: str):
    """Returns the protobuf class of one of `_MESSAGES`."""
    Field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="alexnet_tf_caffe.proto", package="caffe", syntax="proto2")
    for message_name, fields in _MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for field_name, number, kind in fields:
            is_repeated, kind = kind.endswith("*"), kind.rstrip("*")
            field = described.field.add(
                name=field_name, number=number, label=Field.LABEL_REPEATED if is_repeated else Field.LABEL_OPTIONAL)
            if kind in _MESSAGES:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(Field, f"TYPE_{kind.upper()}")
            if field_name == "dim":
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()  # A pool of our own: another library may have brought Caffe's names.
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))


# Where the weights lie: a message's fields that are messages again, or values ("").
_INNER = {
    "NetParameter": {2: "V1LayerParameter", 100: "LayerParameter"}, "LayerParameter": {7: "BlobProto"},
    "V1LayerParameter": {6: "BlobProto"}, "BlobProto": {5: "", 6: ""}}

# Bytes that a file may have beside its values; Caffe's own have some thousands.
_MAX_OVERHEAD = 1 << 18


def _varint(content, position: int) -> tuple[int, int]:
    """Returns (the number at a position, the position after it)."""
    number = shift = 0
    while shift < 64 and position < len(content):
        byte = content[position]
        number, shift, position = number | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return number, position
    raise ValueError("a number has no end")


def _check_overhead(kind: str, content: bytes) -> None:
    """Looks over a message's fields before it is parsed: the library makes a hundred bytes of each empty one.

    Raises:
        ValueError: If a field leads out of its message, or there is much beside the values.
    """
    pending, overhead = [(0, len(content), kind)], 0
    while pending:
        position, end, kind = pending.pop()
        while position < end:
            start = position
            key, position = _varint(content, position)
            if key & 7 == 2:
                length, position = _varint(content, position)
                inner = _INNER.get(kind, {}).get(key >> 3)
                overhead += position - start + (length if inner is None else 0)
                if inner:
                    pending.append((position, position + length, inner))
                position += length
            else:
                sizes = {1: 8, 5: 4}
                position = _varint(content, position)[1] if key & 7 == 0 else position + sizes[key & 7]
                overhead += position - start
            if position > end or overhead > _MAX_OVERHEAD:
                raise ValueError("a field is too long")


def _parse(kind: str, content: bytes, what: str):
    parsed = _message_class(kind)()
    try:
        _check_overhead(kind, content)
        parsed.ParseFromString(content)
    except (message.DecodeError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise containers.WeightFileError(f"It is no {what}: truncated, damaged or of another kind.") from error
    return parsed


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
        raise containers.WeightFileError("It is an HDF5 snapshot; only the .caffemodel that is a protocol buffer "
            "is read.")
    net = _parse("NetParameter", content, ".caffemodel")
    layers = []
    for parsed in net.layer or net.layers:
        kind = parsed.type if isinstance(parsed.type, str) else _V1_TYPES.get(parsed.type, str(parsed.type))
        name = parsed.name if isinstance(parsed.name, str) else repr(parsed.name)  # Bytes, if it is no UTF-8.
        blobs = [_blob_array(blob, f"{name}[{index}]") for index, blob in enumerate(parsed.blobs)]
        blobs = [_without_ones(blob, 4 if kind == "Convolution" and not index else 1 if index else 2)
                 for index, blob in enumerate(blobs)]
        parameters = {}
        if kind in CONSTANTS:
            block, defaults = CONSTANTS[kind]
            values = getattr(parsed, block)
            parameters[block] = {
                name: getattr(values, name) if values.HasField(name) else default for name, default in defaults.items()}
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
    net = _message_class("NetParameter")(name=name)
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
    return _without_ones(_blob_array(_parse("BlobProto", content, ".binaryproto"), "The mean"), 3)


def write_mean(file: BinaryIO, mean: np.ndarray) -> None:
    """Writes a .binaryproto: float32 [channels, height, width], BGR, in the older shape, which every Caffe reads."""
    channels, height, width = mean.shape
    file.write(_message_class("BlobProto")(
        num=1, channels=channels, height=height, width=width,
        data=[np.ascontiguousarray(mean, "<f4").tobytes()]).SerializeToString())
