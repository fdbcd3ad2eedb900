"""ONNX files written by hand, byte by byte."""

import numpy as np

from tests.helpers.caffe import field, number_field


def tensor(name, array, data_type=1):
    sizes = b"".join(number_field(1, size) for size in array.shape)
    return sizes + number_field(2, data_type) + field(8, name) + field(9, array.tobytes())


def node(operator, name, inputs, outputs, *attributes):
    return b"".join(
        [
            *(field(1, each) for each in inputs),
            *(field(2, each) for each in outputs),
            field(3, name),
            field(4, operator),
            *(field(5, field(1, key) + value) for key, value in attributes),
        ]
    )


def model(nodes, tensors, **metadata):
    graph = b"".join([*(field(1, each) for each in nodes), *(field(5, each) for each in tensors)])
    stated = b"".join(field(14, field(1, key) + field(2, value)) for key, value in metadata.items())
    return number_field(1, 8) + field(7, graph) + stated


# A convolution of "x" with the kernel "k" and the bias "b".
CONV = node("Conv", "n", ["x", "k", "b"], ["y"])


def zoo_network(order, weights, size=227):
    """A network of Caffe's with the graph of the ONNX model zoo: its names, pads, groups and dense layers.

    Caffe rounds the size of a pooled map up, so Caffe2 padded the poolings at their ends. The zoo declares images of
    224 pixels; Caffe crops 227.

    Args:
        order: The layers by Caffe's names.
        weights: {layer: (kernel, bias)}, as in a .caffemodel.
        size: Of the images that it declares.
    """
    import onnx
    from onnx import helper

    last, nodes = "data_0", []
    arrays = {f"{name}_{letter}_0": each for name, pair in weights.items() for letter, each in zip("wb", pair)}

    def add(operator, name, *inputs, **attributes):
        nonlocal last
        nodes.append(helper.make_node(operator, [last, *inputs], [name], **attributes))
        last = name

    for name in order.split():
        own = [f"{name}_w_0", f"{name}_b_0"]
        if name.startswith("conv"):
            kernel, groups = weights[name][0].shape[-1], 2 if name in ("conv2", "conv4", "conv5") else 1
            stride, pad = {11: (4, 0), 5: (1, 2), 3: (1, 1)}[kernel]
            facts = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
            add("Conv", f"{name}_1", *own, **facts)
        elif name.startswith("norm"):
            add("LRN", f"{name}_1", size=5, alpha=1e-4, beta=0.75, bias=1.0)
        elif name.startswith("pool"):
            add("MaxPool", f"{name}_1", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
        elif name.startswith("fc"):
            if name == "fc6":
                add("Reshape", "OC2_DUMMY_0", "OC2_DUMMY_1")
            add("Gemm", f"{name}_1", *own, transB=1)
        elif name.startswith("relu"):
            add("Relu", f"{last}_relu")
    add("Softmax", "prob_1", axis=1)
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    constants.append(onnx.numpy_helper.from_array(np.array([1, 9216]), "OC2_DUMMY_1"))
    images = helper.make_tensor_value_info("data_0", onnx.TensorProto.FLOAT, [1, 3, size, size])
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("prob_1", "fc8_1")]
    graph = helper.make_graph(nodes, "AlexNet", [images], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7).SerializeToString()
