"""Tests of `onnx_graph`: files of PyTorch, of the model zoo and of this project, and hostile ones.

What tf2onnx writes of this project's networks is read in tests/exporting/test_formats.py.
"""

import io
import json
import resource
import struct
import tracemalloc

import numpy as np
import pytest

from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.weights import containers, conversion, formats, onnx_graph
from tests.helpers.caffe import (
    CAFFE_ORDER,
    CAFFE_SHAPES,
    REST,
    TORCHVISION_SHAPES,
    caffemodel_bytes,
    field,
    kind,
    number_field,
    varint,
)
from tests.helpers.networks import narrow_dense
from tests.helpers.torchvision_network import torchvision_alexnet

UNITS, CLASSES = 8, 7
KERNEL, BIAS = np.arange(48, dtype="float32").reshape(4, 3, 2, 2), np.arange(4, dtype="float32")


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    for name, architecture in architectures.ARCHITECTURES.items():
        monkeypatch.setitem(architectures.ARCHITECTURES, name, narrow_dense(architecture, UNITS))


@pytest.fixture
def class_file(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"kind {number}\n" for number in range(CLASSES)))
    return tmp_path / "classes.txt"


def random_weights(shapes):
    """Kernels and biases by layer, with dense layers of UNITS units and CLASSES classes."""
    *_, fc6, fc7, fc8 = shapes
    rng, narrow = np.random.default_rng(0), {fc6: (UNITS, 9216), fc7: (UNITS, UNITS), fc8: (CLASSES, UNITS)}
    shapes = {name: narrow.get(name, shape) for name, shape in shapes.items()}
    return {
        name: (
            rng.standard_normal(shape, "float32") * np.float32((2 / np.prod(shape[1:])) ** 0.5),
            rng.standard_normal(shape[0], "float32"),
        )
        for name, shape in shapes.items()
    }


def imported(tmp_path, content, classes=None, name="a.onnx", **arguments):
    (tmp_path / name).write_bytes(content)
    run = RunDirectory(tmp_path / f"run of {name}")
    return run, conversion.import_run(tmp_path / name, run.path, classes=classes, **arguments)


# On the wire, by hand.
def tensor(name, array, data_type=1):
    return (
        b"".join(number_field(1, size) for size in array.shape)
        + number_field(2, data_type)
        + field(8, name)
        + field(9, array.tobytes())
    )


def node(operator, name, inputs, outputs, attributes=b""):
    return b"".join(
        [
            *(field(1, each) for each in inputs),
            *(field(2, each) for each in outputs),
            field(3, name),
            field(4, operator),
            attributes,
        ]
    )


def model(nodes, tensors, **metadata):
    graph = b"".join([*(field(1, each) for each in nodes), *(field(5, each) for each in tensors)])
    return (
        number_field(1, 8)
        + field(7, graph)
        + b"".join(field(14, field(1, key) + field(2, value)) for key, value in metadata.items())
    )


CONV = node("Conv", "n", ["x", "k", "b"], ["y"])


@pytest.mark.parametrize("data_type", [1, 10, 11, 16])
def test_read_onnx_reads_values_of_every_precision(data_type):
    bfloat16 = np.dtype("bfloat16")
    dtype = {1: "<f4", 10: "<f2", 11: "<f8", 16: bfloat16}[data_type]
    tensors = [tensor("k", KERNEL.astype(dtype), data_type), tensor("b", BIAS.astype(dtype), data_type)]
    graph = onnx_graph.read_onnx(model([CONV], tensors, author="me"))
    [layer] = graph.layers
    assert layer.name == "k" and graph.metadata == {"author": "me"} and graph.others == {}
    assert np.array_equal(layer.blobs[0], KERNEL) and np.array_equal(layer.blobs[1], BIAS)


def test_read_onnx_reads_values_as_a_list_of_floats_and_of_constant_operators():
    floats = (
        b"".join(number_field(1, size) for size in KERNEL.shape)
        + number_field(2, 1)
        + field(8, "k")
        + field(4, KERNEL.tobytes())
    )
    constant = node("Constant", "", [], ["b"], field(5, field(1, "value") + field(5, tensor("", BIAS))))
    [layer] = onnx_graph.read_onnx(model([constant, CONV], [floats])).layers
    assert np.array_equal(layer.blobs[0], KERNEL) and np.array_equal(layer.blobs[1], BIAS)


def test_dense_layers_are_read_in_each_of_their_forms():
    dense = np.arange(6, dtype="float32").reshape(2, 3)
    trans = field(5, field(1, "transB") + number_field(3, 1))
    for nodes, stored in (
        ([node("Gemm", "n", ["x", "k", "b"], ["y"], trans)], dense),
        ([node("Gemm", "n", ["x", "k", "b"], ["y"])], dense.T.copy()),
        ([node("MatMul", "n", ["x", "k"], ["p"]), node("Add", "m", ["p", "b"], ["y"])], dense.T.copy()),
        ([node("MatMul", "n", ["x", "k"], ["p"]), node("Add", "m", ["b", "p"], ["y"])], dense.T.copy()),
    ):
        [layer] = onnx_graph.read_onnx(model(nodes, [tensor("k", stored), tensor("b", BIAS[:2])])).layers
        assert layer.type == "InnerProduct" and np.array_equal(layer.blobs[0], dense)
        assert np.array_equal(layer.blobs[1], BIAS[:2])
    half = field(5, field(1, "alpha") + b"\x15" + struct.pack("<f", 0.5))
    with pytest.raises(containers.WeightFileError, match="not an ordinary dense layer"):
        onnx_graph.read_onnx(model([node("Gemm", "n", ["x", "k"], ["y"], half)], [tensor("k", dense)]))


def test_what_no_layer_uses_is_left_over_and_refused(tmp_path):
    content = model([CONV], [tensor("k", KERNEL), tensor("b", BIAS), tensor("slope", BIAS)])
    assert list(onnx_graph.read_onnx(content).others) == ["slope"]
    with pytest.raises(containers.WeightFileError, match="left over: slope, k"):
        imported(tmp_path, content)


def test_a_projects_own_file_states_its_input_and_classes():
    nodes = [
        node("Sub", "", ["images", "m"], ["s"]),
        node("Mul", "", ["s", "f"], ["t"]),
        node("Conv", "", ["t", "paper_1/conv1_b_1/convolution/ReadVariableOp:0", "c"], ["y"]),
    ]
    tensors = [
        tensor("m", BIAS[:3]),
        tensor("f", BIAS[1:]),
        tensor("c", BIAS),
        tensor("paper_1/conv1_b_1/convolution/ReadVariableOp:0", KERNEL),
    ]
    read = formats.FORMATS["onnx"].read(model(nodes, tensors, architecture="paper", classes=json.dumps(["a", "b"])))
    assert (read.architecture, read.class_names, read.mean, read.scale) == ("paper", ["a", "b"], [0, 1, 2], (1, 2, 3))
    assert np.array_equal(read.entries["conv1_b/kernel"], KERNEL.transpose(2, 3, 1, 0))
    for classes in ("[", "{}", "1"):
        assert formats.FORMATS["onnx"].read(model(nodes, tensors, classes=classes)).class_names in (None, [])


def torchvision_file(weights, **options):
    torch = pytest.importorskip("torch")
    network = torchvision_alexnet(torch.nn, UNITS, CLASSES)
    network.load_state_dict(
        {
            f"{name}.{each}": torch.tensor(array)
            for name, pair in weights.items()
            for each, array in zip(("weight", "bias"), pair)
        }
    )
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
    content = torchvision_file(random_weights(TORCHVISION_SHAPES), dynamo=False)
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
        number = lambda key, value: field(5, field(1, key) + value)  # noqa: E731
        attributes = {
            "Gemm": number("transB", number_field(3, 1)),
            "LRN": number("size", number_field(3, 5)) + number("alpha", b"\x15" + struct.pack("<f", 1e-4)),
        }.get(operator, b"")
        nodes.append(node(operator, "", [last, *inputs], [f"{name}_1"], attributes))
        last = f"{name}_1"
    return model(
        nodes,
        [tensor(f"{name}_{letter}_0", array) for name, pair in weights.items() for letter, array in zip("wb", pair)],
    )


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_the_model_zoos_file_is_the_caffemodel(name, class_file, tmp_path):
    weights, order = random_weights(CAFFE_SHAPES), CAFFE_ORDER[name] + REST
    run, lines = imported(tmp_path, zoo_file(order, weights), class_file)
    other, expected = imported(tmp_path, caffemodel_bytes(order, weights), class_file, "a.caffemodel")
    assert lines == expected and lines[0].startswith(f"Network: {name} (by its shapes and the order of its layers)")
    arrays, others = run.read_checkpoint()[0], other.read_checkpoint()[0]
    assert arrays.keys() == others.keys() and all(np.array_equal(arrays[each], others[each]) for each in arrays)


def external(name):
    return (
        number_field(1, 4)
        + number_field(2, 1)
        + field(8, name)
        + field(13, field(1, "location") + field(2, "/etc/passwd"))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (model([CONV], [external("k")]), "lie in another file beside it. .*onnx.save"),
        (model([CONV], [tensor("k", KERNEL.astype("int8"), 3)]), "are computed, not stored: quantized"),
        (model([CONV], [tensor("b", BIAS)]), "are computed, not stored"),
        (model([node("Relu", "r", ["x"], ["y"])], []), "no convolutions or dense layers"),
        (model([CONV], [tensor("k", KERNEL)[:-4]]), "It is not a .onnx file"),
        (
            model([CONV], [number_field(1, 1 << 30) + number_field(2, 1) + field(8, "k") + field(9, b"abcd")]),
            "declared as",
        ),
        (model([CONV], [number_field(1, (1 << 64) - 4) + number_field(2, 1) + field(8, "k")]), "no possible shape"),
        (b"", "no convolutions"),
        (b"<html>404</html>", "not a .onnx file"),
        (bytes(1000), "not a .onnx file"),
        (varint(7 << 3 | 2) + varint(0xFFFFFFF0) + bytes(900), "not a .onnx file"),
        (field(7, field(1, b"") * 500_000), "not a .onnx file"),
        (field(7, field(5, field(1, b"") * 500_000)), "not a .onnx file"),
    ],
    ids=[
        "external",
        "int8",
        "computed",
        "no weights",
        "cut",
        "4 GB",
        "negative",
        "empty",
        "page",
        "zeros",
        "4 GB of graph",
        "half a million nodes",
        "half a million sizes",
    ],
)
def test_hostile_files_end_in_an_error_within_little_memory(content, message):
    onnx_graph.read_onnx(model([CONV], [tensor("k", KERNEL)]))  # So that only the file's own memory is measured.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(containers.WeightFileError, match=message):
            onnx_graph.read_onnx(content)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_every_single_flipped_byte_ends_in_an_error_or_in_layers():
    content = model(
        [node("Sub", "", ["x", "m"], ["s"]), CONV],
        [tensor("k", KERNEL[:1, :1]), tensor("b", BIAS[:1]), tensor("m", BIAS[:3])],
        classes='["a"]',
    )
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            formats.FORMATS["onnx"].read(bytes(damaged))
        except containers.WeightFileError:
            pass
