"""ONNX files written by hand, byte by byte."""

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
