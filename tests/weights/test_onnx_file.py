"""Tests of `onnx_file`: files of PyTorch, of the model zoo and of this project.

What tf2onnx writes of this project's networks is read in tests/exporting/test_formats.py.
"""

import io
import json
import struct

import numpy as np
import pytest

from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.weights import conversion, formats, guard
from tests.helpers.caffe import (
    CAFFE_ORDER,
    CAFFE_SHAPES,
    CLASSES,
    REST,
    TORCHVISION_SHAPES,
    WIDTH,
    caffemodel_bytes,
    field,
    kind,
    narrow,
    number_field,
    random_weights,
    state_dict,
)
from tests.helpers.onnx import CONV, model, node, tensor
from tests.helpers.torchvision_network import torchvision_alexnet

KERNEL, BIAS = np.arange(48, dtype="float32").reshape(4, 3, 2, 2), np.arange(4, dtype="float32")
TRANSPOSED = ("transB", number_field(3, 1))


def imported(tmp_path, content, classes, name="a.onnx"):
    (tmp_path / name).write_bytes(content)
    run = RunDirectory(tmp_path / f"run of {name}")
    return run, conversion.import_run(tmp_path / name, run.path, conversion.ImportOptions(classes=classes))


def read(*arguments, **metadata):
    return guard.parse("onnx", model(*arguments, **metadata))


def same(arrays, **expected):
    return arrays.keys() == expected.keys() and all(np.array_equal(arrays[name], expected[name]) for name in expected)


@pytest.mark.parametrize("data_type", [1, 10, 11, 16])
def test_values_of_every_precision_are_read(data_type):
    dtype = {1: "<f4", 10: "<f2", 11: "<f8", 16: np.dtype("bfloat16")}[data_type]
    tensors = [tensor("k", KERNEL.astype(dtype), data_type), tensor("b", BIAS.astype(dtype), data_type)]
    assert same(read([CONV], tensors).arrays, **{"k": KERNEL, "k.bias": BIAS})


def test_values_of_lists_of_floats_and_of_constant_operators_are_read():
    sizes = b"".join(number_field(1, size) for size in KERNEL.shape)
    floats = sizes + number_field(2, 1) + field(8, "k") + field(4, KERNEL.tobytes())
    constant = node("Constant", "", [], ["b"], ("value", field(5, tensor("", BIAS))))
    assert same(read([constant, CONV], [floats]).arrays, **{"k": KERNEL, "k.bias": BIAS})


def test_dense_layers_are_read_in_each_of_their_forms():
    dense = np.arange(6, dtype="float32").reshape(2, 3)
    for nodes, stored in (
        ([node("Gemm", "n", ["x", "k", "b"], ["y"], TRANSPOSED)], dense),
        ([node("Gemm", "n", ["x", "k", "b"], ["y"])], dense.T.copy()),
        ([node("MatMul", "n", ["x", "k"], ["p"]), node("Add", "m", ["p", "b"], ["y"])], dense.T.copy()),
        ([node("MatMul", "n", ["x", "k"], ["p"]), node("Add", "m", ["b", "p"], ["y"])], dense.T.copy()),
    ):
        arrays = read(nodes, [tensor("k", stored), tensor("b", BIAS[:2])]).arrays
        assert same(arrays, **{"k": dense, "k.bias": BIAS[:2]})
    half = ("alpha", b"\x15" + struct.pack("<f", 0.5))
    with pytest.raises(formats.WeightFileError, match="not an ordinary dense layer"):
        read([node("Gemm", "n", ["x", "k"], ["y"], half)], [tensor("k", dense)])
    product = node("MatMul", "n", ["x", "z"], ["p"])  # Of two activations.
    assert same(read([product, CONV], [tensor("k", KERNEL)]).arrays, k=KERNEL)


def test_what_no_layer_uses_is_left_over_and_refused(class_file, tmp_path):
    content = model([CONV], [tensor("k", KERNEL), tensor("b", BIAS), tensor("slope", BIAS)])
    with pytest.raises(formats.WeightFileError, match="left over: .*slope"):
        imported(tmp_path, content, class_file)


def test_a_projects_own_file_states_its_input_and_classes():
    nodes = [
        node("Sub", "", ["images", "m"], ["s"]),
        node("Mul", "", ["s", "f"], ["t"]),
        node("Conv", "", ["t", "conv1_b/kernel", "c"], ["y"]),
    ]
    tensors = [tensor("m", BIAS[:3]), tensor("f", BIAS[1:]), tensor("c", BIAS), tensor("conv1_b/kernel", KERNEL)]
    file = read(nodes, tensors, architecture="paper", classes=json.dumps(["a", "b"]))
    assert (file.architecture, file.class_names, file.mean, file.scale) == ("paper", ["a", "b"], [0, 1, 2], [1, 2, 3])
    assert same(file.arrays, **{"conv1_b/kernel": KERNEL.transpose(2, 3, 1, 0), "conv1_b/bias": BIAS})
    file = read(nodes[2:], tensors[2:])
    assert (file.mean, file.scale, file.class_names, file.layout) == (None, [1, 1, 1], None, "own")


def torchvision_file(weights, **options):
    torch = pytest.importorskip("torch")
    network = torchvision_alexnet(torch.nn, WIDTH, CLASSES)
    network.load_state_dict({name: torch.tensor(array) for name, array in state_dict(weights).items()})
    file = io.BytesIO()
    torch.onnx.export(
        network.eval(),
        (torch.zeros(1, 3, 224, 224),),
        file,
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "n"}},
        **options,
    )
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's, of the exporter that most files are of.
def test_torchvisions_network_computes_what_onnx_runtime_computes(class_file, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    content = torchvision_file(random_weights(narrow(TORCHVISION_SHAPES)), dynamo=False)
    run, lines = imported(tmp_path, content, class_file)
    assert "Network: torchvision (by its names and shapes)" in lines[0]
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    normalized = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [expected] = session.run(["logits"], {"x": normalized.transpose(0, 3, 1, 2).astype("float32")})
    network, _, _ = load_model(run)
    np.testing.assert_allclose(network(images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def zoo_file(order, weights):
    """A network of Caffe's as the ONNX model zoo has it: bvlcalexnet and caffenet."""
    nodes, last = [], "data_0"
    for name in order.split():
        operator = {
            "Convolution": "Conv",
            "ReLU": "Relu",
            "LRN": "LRN",
            "Pooling": "MaxPool",
            "InnerProduct": "Gemm",
            "Dropout": "Dropout",
        }[kind(name)]
        inputs = [f"{name}_w_0", f"{name}_b_0"] if name in weights else []
        attributes = {
            "Gemm": [TRANSPOSED],
            "LRN": [("size", number_field(3, 5)), ("alpha", b"\x15" + struct.pack("<f", 1e-4))],
        }.get(operator, [])
        nodes.append(node(operator, "", [last, *inputs], [f"{name}_1"], *attributes))
        last = f"{name}_1"
    return model(
        nodes,
        [tensor(f"{name}_{letter}_0", array) for name, pair in weights.items() for letter, array in zip("wb", pair)],
    )


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_the_model_zoos_file_is_the_caffemodel(name, class_file, tmp_path):
    weights, order = random_weights(narrow(CAFFE_SHAPES)), CAFFE_ORDER[name] + REST
    content, caffes = zoo_file(order, weights), caffemodel_bytes(order, weights)
    assert guard.parse("onnx", content).steps == guard.parse("caffe", caffes).steps
    run, lines = imported(tmp_path, content, class_file)
    other, expected = imported(tmp_path, caffes, class_file, "a.caffemodel")
    assert lines == expected and lines[0].startswith(f"Network: {name} (by its shapes and the order of its layers)")
    arrays, others = run.read_checkpoint()[0], other.read_checkpoint()[0]
    assert arrays.keys() == others.keys() and all(np.array_equal(arrays[each], others[each]) for each in arrays)


EXTERNAL = field(13, field(1, "location") + field(2, "/etc/passwd"))


@pytest.mark.parametrize(
    ("nodes", "tensors", "message"),
    [
        ([CONV], [tensor("k", KERNEL) + EXTERNAL], "lie in another file beside it. .*onnx.save"),
        ([CONV], [tensor("k", KERNEL.astype("int8"), 3)], "are computed, not stored: quantized"),
        ([CONV], [tensor("b", BIAS)], "are computed, not stored"),
        ([node("Relu", "r", ["x"], ["y"])], [], "no convolutions or dense layers"),
    ],
)
def test_what_is_not_a_network_of_weights_is_refused(nodes, tensors, message):
    with pytest.raises(formats.WeightFileError, match=message):
        read(nodes, tensors)
