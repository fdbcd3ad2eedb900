"""Tests of `pickles`, `numpy_file` and `torch_file`: what NumPy and PyTorch write, under every protocol, is read."""

import io
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from alexnet_tf.weights import formats, guard
from tests.helpers.pickles import npy, python2_array, tensor_pickle, torch_zip

LAYERS = {
    "conv1": [np.arange(24, dtype="float32").reshape(2, 3, 4), np.ones(4, "float32")],
    "fc6": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros(3, ">f4")],
}
VALUES = np.arange(6, dtype="<f4")


def same(read, expected):
    return read.keys() == expected.keys() and all(np.array_equal(read[name], each) for name, each in expected.items())


def saved(value):
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_dictionaries_that_numpy_pickles_are_read(protocol):
    expected = {f"{name}[{index}]": each for name, arrays in LAYERS.items() for index, each in enumerate(arrays)}
    assert same(guard.parse("numpy", npy(np.array(LAYERS, dtype=object), protocol)).arrays, expected)
    assert same(guard.parse("numpy", saved(LAYERS)).arrays, expected)


def test_what_python_2_wrote_is_read():
    values = np.array([[1, 2, 3], [250.5, -2, 0]], "<f4")
    array = python2_array(b"f4", b"<", b"K\x02K\x03\x86", b"T" + struct.pack("<I", 24) + values.tobytes())
    outer = python2_array(b"O8", b"|", b")", b"]}U\x05conv1]" + array + b"asa")
    assert same(guard.parse("numpy", npy(b"\x80\x02" + outer + b".")).arrays, {"conv1[0]": values})


def test_caffe_tensorflows_dictionaries_single_layers_and_plain_arrays_are_read():
    kernel, bias = LAYERS["fc6"]
    layers = np.array({"fc8": {"biases": bias, "weights": kernel}}, dtype=object)
    assert same(guard.parse("numpy", npy(layers)).arrays, {"fc8[0]": kernel, "fc8[1]": bias})
    assert same(guard.parse("numpy", saved(kernel)).arrays, {"array": kernel})
    pair = np.empty(2, object)
    pair[:] = [np.ones((5, 5, 48, 256), "float32"), np.zeros(256, "float32")]
    file = guard.parse("numpy", npy(pair))
    assert same(file.arrays, {"conv2[0]": pair[0], "conv2[1]": pair[1]}) and file.layout == "caffe-tensorflow"
    pair[0] = np.ones((9, 9, 3, 5), "float32")
    assert guard.parse("numpy", npy(pair)).arrays.keys() == {"[0]", "[1]"}


def test_tensors_of_other_strides_and_precisions_are_read():
    content = torch_zip(tensor_pickle(shape=(3, 2), strides=(1, 3)), {"0": VALUES.tobytes()})
    assert same(guard.parse("torch", content).arrays, {"w": VALUES.reshape(2, 3).T})
    for name, dtype in ((b"Half", "<f2"), (b"Double", "<f8"), (b"BFloat16", "bfloat16")):
        data = tensor_pickle(storage=b"torch\n" + name + b"Storage\n", offset=1, shape=(5,), strides=(1,))
        content = torch_zip(data, {"0": VALUES.astype(dtype).tobytes()})
        assert same(guard.parse("torch", content).arrays, {"w": VALUES[1:]})


def old_torch(values, keys=("0",)):
    """A file of the format before PyTorch 1.6 with a tensor of six values."""
    content = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))
    return content + tensor_pickle() + pickle.dumps(list(keys), 2) + struct.pack("<q", 6) + values


def test_the_format_before_pytorch_1_6_is_read_whole_or_not_at_all():
    assert same(guard.parse("torch", old_torch(VALUES.tobytes())).arrays, {"w": VALUES.reshape(2, 3)})
    for content in (old_torch(VALUES.tobytes()[:-4]), old_torch(VALUES.tobytes(), keys=())):
        with pytest.raises(formats.WeightFileError, match="It lacks the values of some tensors"):
            guard.parse("torch", content)


@pytest.mark.parametrize("value", [["a list"], {"w": 1}, {"state_dict": {"w": [1, 2]}}])
def test_what_is_not_named_tensors_is_refused_with_advice(value):
    with pytest.raises(formats.WeightFileError, match=r"is not a .*torch.save\(model.state_dict\(\), FILE\)"):
        guard.parse("torch", torch_zip(pickle.dumps(value, 2)))


WRAPPED = {
    "imagenet example": lambda weights, optimizer: {
        "state_dict": weights,
        "optimizer": optimizer,
        "epoch": 90,
        "arch": "alexnet",
        "best": None,
    },
    "model": lambda weights, optimizer: {"epoch": 3, "model": weights, "optimizer": optimizer},
    "DataParallel": lambda weights, _: {f"module.{name}": each for name, each in weights.items()},
    "in parallel": lambda weights, _: {
        name.replace("features.", "features.module."): weights[name] for name in weights
    },
    "compiled": lambda weights, _: {f"model._orig_mod.{name}": each for name, each in weights.items()},
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))
def test_checkpoints_of_training_programs_are_read(wrap, is_zip):
    torch = pytest.importorskip("torch")
    shapes = {"features.0.weight": (8, 3, 2, 2), "features.0.bias": (8,), "classifier.6.weight": (3, 8)}
    parameters = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    optimizer = torch.optim.SGD(parameters.values(), 0.1, momentum=0.9)
    sum(each.sum() for each in parameters.values()).backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save(wrap(parameters, optimizer.state_dict()), file, _use_new_zipfile_serialization=is_zip)
    read = guard.parse(formats.format_of("model_best.pth.tar"), file.getvalue())
    assert same(read.arrays, {name: each.detach().numpy() for name, each in parameters.items()})
    assert read.layout == "torchvision"


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, "float16", "float64"])
def test_other_precisions_are_read_from_safetensors(dtype):
    values = np.linspace(-3, 3, 24).reshape(4, 6).astype(dtype)
    content = safetensors.numpy.save({"a": values})
    assert same(guard.parse("safetensors", content).arrays, {"a": values.astype("float32")})
