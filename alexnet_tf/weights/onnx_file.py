"""Reads .onnx files of this project, PyTorch, and the ONNX model zoo's Caffe networks without `onnx`."""

import re

import numpy as np

from alexnet_tf.weights import formats, onnx_pb2

# TensorProto.DataType.
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8", 16: "bfloat16"}

# Operators that affect the logits and have no weights.
_STEPS = {"Relu": "relu", "MaxPool": "pool", "Split": "slice", "Concat": "concat"}

# A kernel's name in an export of this project, "conv2_a/kernel", and in the zoo's networks, "conv2_w_0".
_OWN_NAME = re.compile(r"((?:conv|fc)\d(?:_[ab])?)/")
_ZOO_NAME = re.compile(r"((?:conv|fc)\d)_w")


def read(content: bytes) -> formats.WeightFile:
    """Reads the kernels and biases of all layers, and the floating-point arrays that belong to none.

    An export of this project also states its architecture, mean, scale and classes.

    Raises:
        WeightFileError: If there are no weights, or they are computed or lie in other files.
    """
    model = onnx_pb2.ModelProto.FromString(content)
    nodes, values = model.graph.node, _values(model.graph)
    layers = _layers(nodes, values)
    if not layers:
        raise formats.WeightFileError("It holds no convolutions or dense layers with weights.")
    input_steps = _input_steps(nodes, values)
    used = {name for names in (*layers.values(), input_steps.values()) for name in names}
    arrays = {name: array for name, array in values.items() if name not in used}
    if own := _stages(_OWN_NAME, layers):
        for stage, names in own.items():
            for name, kind in zip(names, ("kernel", "bias")):
                array = values[name]
                arrays[f"{stage}/{kind}"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        metadata = {each.key: each.value for each in model.metadata_props}
        return formats.WeightFile(
            arrays,
            "own",
            architecture=metadata.get("architecture"),
            mean=values[input_steps["Sub"]].tolist() if "Sub" in input_steps else None,
            scale=values[input_steps["Mul"]].tolist() if "Mul" in input_steps else [1.0, 1.0, 1.0],
            class_names=formats.class_names_in(metadata.get("classes")),
        )
    if zoo := _stages(_ZOO_NAME, layers):
        for stage, names in zoo.items():
            arrays |= {f"{stage}[{index}]": values[name] for index, name in enumerate(names)}
        stage_of = {names[0]: stage for stage, names in zoo.items()}
        return formats.WeightFile(arrays, "caffe", [step for node in nodes for step in _steps(node, stage_of)])
    for kernel, *bias in layers.values():
        arrays |= {kernel: values[kernel]} | {f"{kernel.removesuffix('.weight')}.bias": values[name] for name in bias}
    return formats.state_dict(arrays)


def _stages(pattern, layers):
    """Returns the layers by their stages' names, if all of their kernels' names tell it."""
    matches = {name: pattern.match(name) for name in layers}
    return {match[1]: layers[name] for name, match in matches.items()} if all(matches.values()) else {}


def _values(graph):
    """Returns the floating-point constants of a graph that have a shape, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and len(node.attribute) == 1:
            tensors[node.output[0]] = node.attribute[0].t
    return {name: _array(tensor) for name, tensor in tensors.items() if tensor.data_type in _FLOATS and tensor.dims}


def _array(tensor):
    if tensor.external_data:
        raise formats.WeightFileError(
            "Its weights lie in another file beside it. Put them into one: "
            """python -c "import onnx; onnx.save(onnx.load('FILE.onnx'), 'WHOLE.onnx')\""""
        )
    content = tensor.raw_data or b"".join([*tensor.float_data, *tensor.double_data])
    return np.frombuffer(content, _FLOATS[tensor.data_type]).reshape(tensor.dims)


def _layers(nodes, values):
    """Returns the names of each layer's kernel and, if it has one, bias, by the kernel's name; transposes kernels.

    In `values`, kernels are then [out, in, height, width] and [out, in].
    """
    added = {}  # What is added to a tensor: the biases of matrix products, which have none of their own.
    for node in nodes:
        if node.op_type == "Add" and len(node.input) == 2:
            first, second = node.input
            added |= {first: second, second: first}
    layers = {}
    for node in nodes:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            continue
        kernel, attributes = node.input[1], {each.name: each for each in node.attribute}
        if kernel not in values:
            if node.op_type == "MatMul":  # Of two tensors.
                continue
            raise formats.WeightFileError(
                f"The weights of {node.name} are computed, not stored: quantized files are not read."
            )
        if node.op_type == "Gemm" and any(attributes[name].f != 1 for name in ("alpha", "beta") if name in attributes):
            raise formats.WeightFileError(f"{node.name} is not an ordinary dense layer.")
        if (
            node.op_type == "MatMul"
            or node.op_type == "Gemm"
            and not ("transB" in attributes and attributes["transB"].i)
        ):
            values[kernel] = values[kernel].T
        bias = node.input[2] if len(node.input) > 2 else added.get(node.output[0])
        layers[kernel] = (kernel, bias) if bias in values and values[bias].ndim == 1 else (kernel,)
    return layers


def _input_steps(nodes, values):
    """Returns what the input goes through before the first layer: {"Sub": name of the mean, "Mul": of the scale}."""
    steps = {}
    for node in nodes:
        if node.op_type == "Conv":
            break
        if node.op_type in ("Sub", "Mul") and len(node.input) == 2 and node.input[1] in values:
            steps[node.op_type] = node.input[1]
    return steps


def _steps(node, stage_of):
    """Returns an operator's step of `formats.WeightFile.steps`, in a list; without one, an empty list."""
    if node.op_type == "LRN":
        given = {each.name: each for each in node.attribute}
        size = given["size"].i if "size" in given else 5
        names_and_defaults = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}.items()
        return [
            formats.lrn_step(size, *(given[name].f if name in given else each for name, each in names_and_defaults))
        ]
    if len(node.input) > 1 and node.input[1] in stage_of:
        return [stage_of[node.input[1]]]
    return [_STEPS[node.op_type]] if node.op_type in _STEPS else []
