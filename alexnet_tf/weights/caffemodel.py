"""Reads Caffe's protocol buffers: .caffemodel in both encodings, and .binaryproto."""

import numpy as np

from alexnet_tf.weights import caffe_pb2, formats

# LayerType of the older encoding: those whose names are needed.
_V1_TYPES = {
    3: "Concat",
    4: "Convolution",
    14: "InnerProduct",
    15: "LRN",
    17: "Pooling",
    18: "ReLU",
    33: "Slice",
}

# Layers that affect the logits and have no weights.
_STEPS = {"ReLU": "relu", "Pooling": "pool", "Slice": "slice", "Concat": "concat"}


def read(content: bytes) -> formats.WeightFile:
    """Reads a network, or the image `mean` of a .binaryproto, [channels, height, width].

    Args:
        content: The file's bytes, in the encoding with `layer` or the older one with `layers`.

    Returns:
        The kernels "conv1[0]" and biases "conv1[1]" in Caffe's shapes. Dense layers' kernels have two dimensions and
        biases one, also where the older encoding has four.
    """
    net, arrays, steps = caffe_pb2.NetParameter.FromString(content), {}, []
    for layer in net.layer or net.layers:
        kind = layer.type if isinstance(layer.type, str) else _V1_TYPES.get(layer.type)
        if kind in ("Convolution", "InnerProduct"):
            steps.append(layer.name)
        elif kind == "LRN":
            lrn = layer.lrn_param
            steps.append(formats.lrn_step(lrn.local_size, lrn.alpha, lrn.beta, lrn.k))
        elif kind in _STEPS:
            steps.append(_STEPS[kind])
        if layer.blobs and f"{layer.name}[0]" in arrays:
            raise formats.WeightFileError(f"Two layers are called {layer.name}.")
        kernel_ndim = 4 if kind == "Convolution" else 2
        for index, blob in enumerate(layer.blobs):
            arrays[f"{layer.name}[{index}]"] = _array(blob, 1 if index else kernel_ndim)
    if not arrays:
        blob = caffe_pb2.BlobProto.FromString(content)
        if not blob.data:
            raise formats.WeightFileError("It holds no layers with weights, and no mean image.")
        arrays["mean"] = _array(blob, 3)
    return formats.WeightFile(arrays, "caffe", steps)


def _array(blob, ndim):
    """Returns a blob's values in its shape, the older one's without the ones that make it four numbers."""
    shape = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
    while len(shape) > ndim and shape[0] == 1:
        shape = shape[1:]
    return np.frombuffer(b"".join(blob.data), "<f4").reshape(shape)
