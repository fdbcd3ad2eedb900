"""Reads .onnx files: the layers of a graph in order, with their weights. The `onnx` package is not needed."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from alexnet_tf.weights import caffemodel, containers, onnx_pb2, wire_format

# Where the values lie: see `wire_format`.
_VALUES: wire_format.Fields = {
    "ModelProto": {7: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto"},
    "TensorProto": {4: "", 5: "", 7: "", 9: "", 10: ""},
}

# TensorProto.DataType.
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8", 16: "bfloat16"}

# Caffe's names of operators without weights.
_CAFFE_TYPES = {"Relu": "ReLU", "MaxPool": "Pooling", "Split": "Slice", "Concat": "Concat"}


@dataclasses.dataclass(frozen=True)
class Graph:
    """What a .onnx file holds.

    Attributes:
        layers: Its layers in order, as Caffe's: kernels [out, in, height, width] and [out, in]. A layer with weights
            has the name of its kernel in the file.
        mean: What is subtracted from the input before the first convolution.
        scale: What the input is multiplied by there.
        others: Further floating-point arrays, by name.
        metadata: Texts by name.
    """

    layers: list[caffemodel.Layer]
    mean: np.ndarray | None
    scale: np.ndarray | None
    others: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_onnx(content: bytes) -> Graph:
    """Reads the layers of a .onnx file.

    Raises:
        WeightFileError: If it is damaged, holds no weights, or they lie in other files.
    """
    model = wire_format.parse(onnx_pb2.ModelProto, content, ".onnx file", _VALUES)
    constants = _Constants(model.graph)
    layers = [layer for node in model.graph.node if (layer := _layer(node, constants)) is not None]
    if not any(layer.blobs for layer in layers):
        raise containers.WeightFileError("It holds no convolutions or dense layers with weights.")
    mean, scale = _first_steps(model.graph.node, constants)
    return Graph(layers, mean, scale, constants.unused(), {each.key: each.value for each in model.metadata_props})


class _Constants:
    """The constant tensors of a graph, and which of them were asked for."""

    def __init__(self, graph: onnx_pb2.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and len(node.attribute) == 1:
                self._tensors[node.output[0]] = node.attribute[0].t
        self._biases: dict[str, str] = {}  # Of matrix products, which have none of their own.
        for node in graph.node:
            if node.op_type == "Add" and len(node.input) == 2:
                first, second = node.input
                self._biases |= {first: second, second: first}
        self._used: set[str] = set()

    def get(self, name: str) -> np.ndarray | None:
        """Returns a constant's floating-point values; None if there is no such constant."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_type not in _FLOATS:
            return None
        self._used.add(name)
        return _array(name, tensor)

    def added_to(self, name: str) -> np.ndarray | None:
        """Returns the vector that is added to a tensor, if there is one."""
        bias = self.get(self._biases.get(name, ""))
        return bias if bias is not None and bias.ndim == 1 else None

    def unused(self) -> dict[str, np.ndarray]:
        """Returns the floating-point arrays that nobody asked for."""
        return {
            name: _array(name, tensor)
            for name, tensor in self._tensors.items()
            if name not in self._used and tensor.data_type in _FLOATS and tensor.dims
        }


def _array(name: str, tensor: onnx_pb2.TensorProto) -> np.ndarray:
    """Returns a tensor's values."""
    if tensor.external_data:
        raise containers.WeightFileError(
            "Its weights lie in another file beside it. Put them into one: "
            """python -c "import onnx; onnx.save(onnx.load('FILE.onnx'), 'WHOLE.onnx')\""""
        )
    dtype = _FLOATS[tensor.data_type]
    content = tensor.raw_data or b"".join(tensor.double_data if dtype == "<f8" else tensor.float_data)
    return containers.array_of(content, dtype, [int(size) for size in tensor.dims], name[:80])


def _layer(node: onnx_pb2.NodeProto, constants: _Constants) -> caffemodel.Layer | None:
    """Returns an operator as Caffe's layer; None for those that do not affect the logits or have no counterpart."""
    attributes = {each.name: each for each in node.attribute}
    if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1:
        return _weight_layer(node, attributes, constants)
    if node.op_type == "LRN":
        values = {
            ours: getattr(attributes[theirs], field) if theirs in attributes else default
            for ours, theirs, field, default in (
                ("local_size", "size", "i", 5),
                ("alpha", "alpha", "f", 1e-4),
                ("beta", "beta", "f", 0.75),
                ("k", "bias", "f", 1.0),
            )
        }
        return caffemodel.Layer(node.name, "LRN", parameters={"lrn_param": values})
    if node.op_type in _CAFFE_TYPES:
        return caffemodel.Layer(node.name, _CAFFE_TYPES[node.op_type])
    return None


def _weight_layer(node: onnx_pb2.NodeProto, attributes: dict, constants: _Constants) -> caffemodel.Layer | None:
    kernel = constants.get(node.input[1])
    if kernel is None:
        if node.op_type == "MatMul":  # Of two tensors.
            return None
        raise containers.WeightFileError(
            f"The weights of {node.name[:80]!r} are computed, not stored: quantized files are not read."
        )
    if node.op_type == "Gemm":
        factors = [attributes[name].f for name in ("alpha", "beta") if name in attributes]
        if any(factor != 1 for factor in factors) or "transA" in attributes and attributes["transA"].i:
            raise containers.WeightFileError(f"{node.name[:80]!r} is not an ordinary dense layer.")
    if node.op_type == "MatMul" or node.op_type == "Gemm" and not ("transB" in attributes and attributes["transB"].i):
        kernel = kernel.T
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    if bias is None and node.output:
        bias = constants.added_to(node.output[0])
    kind = "Convolution" if node.op_type == "Conv" else "InnerProduct"
    return caffemodel.Layer(node.input[1], kind, blobs=(kernel,) if bias is None else (kernel, bias))


def _first_steps(nodes: Iterable[onnx_pb2.NodeProto], constants: _Constants) -> list[np.ndarray | None]:
    """Returns [what is subtracted from the input, what it is multiplied by], before the first convolution."""
    steps: dict[str, np.ndarray | None] = {"Sub": None, "Mul": None}
    for node in nodes:
        if node.op_type == "Conv":
            break
        if node.op_type in steps and len(node.input) == 2:
            steps[node.op_type] = constants.get(node.input[1])
    return list(steps.values())
