"""Caffe's files written by hand, byte by byte, and the shapes of published weight files."""

import struct

import numpy as np

# (out, in / group, height, width) of bvlc_alexnet's and bvlc_reference_caffenet's layers.
CAFFE_SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
TORCHVISION_SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}
WIDTH, CLASSES = 48, 7


def narrow(shapes):
    """The shapes with dense layers of WIDTH units and CLASSES classes."""
    *_, fc6, fc7, fc8 = shapes
    return shapes | {fc6: (WIDTH, 9216), fc7: (WIDTH, WIDTH), fc8: (CLASSES, WIDTH)}


def random_weights(shapes, seed=0):
    """Kernels that keep the signal's size, so that LRN changes it much, and biases of its size."""
    numbers = np.random.default_rng(seed).standard_normal(1_000_003, "float32")  # Repeated: millions take seconds.
    return {
        name: (
            np.resize(np.roll(numbers, 997 * index), shape) * np.float32((2 / np.prod(shape[1:])) ** 0.5),
            numbers[1000 * index :][: shape[0]] * 5,
        )
        for index, (name, shape) in enumerate(shapes.items())
    }


def state_dict(weights):
    """Kernels and biases by PyTorch's names."""
    return {
        f"{name}.{each}": array for name, arrays in weights.items() for each, array in zip(("weight", "bias"), arrays)
    }


# What follows each weight layer: its type, then name; caffe and caffenet differ in nothing else.
CAFFE_ORDER = {
    "caffe": "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2",
    "caffenet": "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2",
}
REST = " conv3 relu3 conv4 relu4 conv5 relu5 pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8"
TYPES = {
    "conv": "Convolution",
    "relu": "ReLU",
    "norm": "LRN",
    "pool": "Pooling",
    "fc": "InnerProduct",
    "drop": "Dropout",
}


def kind(name):
    return TYPES[name.rstrip("0123456789")]


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, content):
    """A length-delimited field on the wire."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def number_field(number, value):
    return varint(number << 3) + varint(value)


def blob(array, is_old):
    if is_old:  # num, channels, height, width, with ones in front.
        shape = b"".join(number_field(i, n) for i, n in enumerate((1,) * (4 - array.ndim) + array.shape, start=1))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    return shape + field(5, array.astype("<f4").tobytes())


def lrn_field(alpha=1e-4, k=None):
    parameters = number_field(1, 5) + b"\x15" + struct.pack("<f", alpha) + b"\x1d" + struct.pack("<f", 0.75)
    return parameters + (b"" if k is None else b"\x2d" + struct.pack("<f", k))


def caffemodel_bytes(order, weights, is_old=False, lrn_parameters=None):
    """A .caffemodel of (name, type) in order, as a training leaves it: with its data and loss layers."""
    numbers = {
        "Convolution": 4,
        "InnerProduct": 14,
        "ReLU": 18,
        "LRN": 15,
        "Pooling": 17,
        "Dropout": 6,
        "Data": 5,
        "SoftmaxWithLoss": 21,
    }
    parts = [field(1, "AlexNet")]
    layers = [("data", "Data"), *((each, kind(each)) for each in order.split()), ("loss", "SoftmaxWithLoss")]
    for name, type_name in layers:
        blobs = b"".join(field(6 if is_old else 7, blob(each, is_old)) for each in weights.get(name, ()))
        constants = lrn_field() if lrn_parameters is None else lrn_parameters
        norm = field(18 if is_old else 118, constants) if type_name == "LRN" else b""
        if is_old:
            parts.append(field(2, field(4, name) + number_field(5, numbers[type_name]) + blobs + norm))
        else:
            parts.append(field(100, field(1, name) + field(2, type_name) + blobs + norm))
    return b"".join(parts)


# Of a convolution: filters, kernel size, stride, padding and groups.
CONV = {
    "conv1": (96, 11, 4, 0, 1),
    "conv2": (256, 5, 1, 2, 2),
    "conv3": (384, 3, 1, 1, 1),
    "conv4": (384, 3, 1, 1, 2),
    "conv5": (256, 3, 1, 1, 2),
}


def deploy(order, width=WIDTH, classes=CLASSES):
    """Caffe's deploy.prototxt, from its own files."""
    units = {"fc6": width, "fc7": width, "fc8": classes}
    text = (
        'name: "x"\nlayer { name: "data" type: "Input" top: "data" input_param { shape { '
        "dim: 1 dim: 3 dim: 227 dim: 227 } } }\n"
    )
    last = "data"
    for name in order.split():
        top = last if kind(name) in ("ReLU", "Dropout") else name
        parameters = {
            "Convolution": lambda name=name: "convolution_param {{ {} }}".format(
                "num_output: {} kernel_size: {} stride: {} pad: {} group: {}".format(*CONV[name])
            ),
            "InnerProduct": lambda name=name: f"inner_product_param {{ num_output: {units[name]} }}",
            "LRN": lambda: "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
            "Pooling": lambda: "pooling_param { pool: MAX kernel_size: 3 stride: 2 }",
        }.get(kind(name), str)()
        text += f'layer {{ name: "{name}" type: "{kind(name)}" bottom: "{last}" top: "{top}" {parameters} }}\n'
        last = top
    return text
