"""Tests of `caffemodel`: both encodings on the wire, hostile files, and the mean."""

import io
import resource
import tracemalloc

import numpy as np
import pytest

from alexnet_tf.weights import caffemodel, containers, prototxt
from tests.helpers.caffe import blob, caffemodel_bytes, field, lrn_field, number_field, varint

WEIGHTS = {
    "conv1": (np.arange(48, dtype="float32").reshape(4, 3, 2, 2), np.arange(4, dtype="float32")),
    "fc6": (np.arange(8, dtype="float32").reshape(2, 4), np.array([5, 6], "float32")),
}


@pytest.mark.parametrize("is_old", [False, True])
def test_read_caffemodel_reads_both_encodings(is_old):
    layers = caffemodel.read_caffemodel(caffemodel_bytes("conv1 relu1 norm1 pool1 fc6", WEIGHTS, is_old))
    by_name = {layer.name: layer for layer in layers}
    assert [layer.type for layer in layers][1:-1] == ["Convolution", "ReLU", "LRN", "Pooling", "InnerProduct"]
    for name, arrays in WEIGHTS.items():
        assert all(np.array_equal(a, b) for a, b in zip(by_name[name].blobs, arrays, strict=True))
    assert prototxt.layer_signature(layers) == [
        "conv1",
        "ReLU",
        "LRN(local_size=5, alpha=0.0001, beta=0.75, norm_region=0, k=1)",
        "Pooling",
        "fc6",
    ]


def test_read_caffemodel_reads_lrns_own_constants():
    layers = caffemodel.read_caffemodel(caffemodel_bytes("conv1 norm1", WEIGHTS, lrn_parameters=lrn_field(5e-4, 2.0)))
    assert prototxt.layer_signature(layers)[1] == "LRN(local_size=5, alpha=0.0005, beta=0.75, norm_region=0, k=2)"


@pytest.mark.parametrize("is_old", [False, True])
def test_read_caffemodel_knows_caffes_defaults(is_old):
    """Those of BVLC's caffe.proto: what a file leaves out is not written anywhere else."""
    layers = caffemodel.read_caffemodel(caffemodel_bytes("conv1 norm1", WEIGHTS, is_old, lrn_parameters=b""))
    assert prototxt.layer_signature(layers)[1] == "LRN(local_size=5, alpha=1, beta=0.75, norm_region=0, k=1)"
    power = field(100, field(1, "power1") + field(2, "Power"))
    layers = caffemodel.read_caffemodel(caffemodel_bytes("conv1", WEIGHTS) + power)
    assert prototxt.layer_signature(layers)[-1] == "Power(power=1, scale=1, shift=0)"


@pytest.mark.parametrize("values", [31, 32, 4095, 4096, 600_000])
@pytest.mark.parametrize("is_old", [False, True])
def test_lengths_of_every_size_are_read(values, is_old):
    """Lengths on both sides of 7, 14 and 21 bits, which take 1 to 4 bytes."""
    array = np.arange(values, dtype="float32")
    weights = {"fc6": (np.ones((1, values), "float32"), array)}
    [layer] = [each for each in caffemodel.read_caffemodel(caffemodel_bytes("fc6", weights, is_old)) if each.blobs]
    assert np.array_equal(layer.blobs[1].ravel(), array)


def test_floats_in_several_pieces_are_one_array():
    floats = np.array([1, 1, 0], "<f4").tobytes()
    pieces = field(7, field(1, varint(3))) + field(5, floats[:8]) + field(5, floats[8:])
    [layer] = caffemodel.read_caffemodel(
        field(
            100,
            field(1, "fc8")
            + field(2, "InnerProduct")
            + field(7, blob(np.ones((1, 3), "float32"), False))
            + field(7, pieces),
        )
    )
    assert layer.blobs[1].tolist() == [1, 1, 0]


def layer_with(blob_bytes):
    return field(100, field(1, "conv1") + field(2, "Convolution") + field(7, blob_bytes))


def dims(*sizes):
    return field(7, field(1, b"".join(varint(size & (1 << 64) - 1) for size in sizes)))


DATA = field(5, bytes(16))
HOSTILE = {
    "nothing": b"",
    "no layers": field(1, "net"),
    "text": b'name: "AlexNet"\nlayer {',
    "a page": b"<html>404</html>",
    "zeros": bytes(1000),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(900),
    "4 GB of layers": varint(100 << 3 | 2) + varint(0xFFFFFFF0) + bytes(900),
    "4 GB of floats": layer_with(dims(1 << 30) + varint(5 << 3 | 2) + varint(4 << 30) + bytes(900)),
    "4 GB shape": layer_with(dims(1 << 30) + DATA),
    "an overflowing shape": layer_with(dims(1 << 62, 4, 1 << 62) + DATA),
    "a negative shape": layer_with(dims(-4, -1) + DATA),
    "a shape of a million": layer_with(dims(*[1] * 300) + DATA),
    "old, 4 GB": layer_with(b"".join(number_field(i, n) for i, n in enumerate((1 << 15, 1 << 15, 1, 1), 1)) + DATA),
    "no values": layer_with(dims(4)),
    "odd bytes": layer_with(dims(4) + field(5, bytes(15))),
    "a million empty layers": field(100, b"") * 1_000_000,
    "a million empty blobs": layer_with(b"") * 500_000,
    "a million sizes": layer_with(field(7, field(1, bytes(1_000_000)))),
    "values of no blob": field(5, bytes(1_000_000)),
    "a number of eleven bytes": b"\x08" + b"\x80" * 10 + b"\x01",
    "a number that goes on for ever": b"\x08" + b"\xff" * 1_000_000,
    "groups in groups": (b"\x0b" * 500),
    "a field of no type": b"\x07" * 20,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_caffemodels_end_in_an_error_within_little_memory(name):
    caffemodel.read_caffemodel(caffemodel_bytes("conv1", WEIGHTS))  # So that only the file's own memory is measured.
    content, before = HOSTILE[name], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(containers.WeightFileError) as caught:
            caffemodel.read_caffemodel(content)
        # The library's own memory is not Python's: the process' is looked at too, in kilobytes.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        assert tracemalloc.get_traced_memory()[1] < 1 << 24 and len(str(caught.value)) < 500
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("part", [0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999])
def test_a_truncated_caffemodel_is_refused(part):
    content = caffemodel_bytes("conv1 relu1 fc6", WEIGHTS)
    with pytest.raises(containers.WeightFileError):
        caffemodel.read_caffemodel(content[: int(len(content.removesuffix(b"loss")) * part)])


def test_every_single_flipped_byte_ends_in_an_error_or_in_layers():
    content = caffemodel_bytes("conv1 relu1 norm1 fc6", WEIGHTS)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            prototxt.layer_signature(caffemodel.read_caffemodel(bytes(damaged)))
        except containers.WeightFileError:
            pass


def test_write_caffemodel_is_read_back():
    layers = [
        caffemodel.Layer("conv1", "Convolution", ("data",), ("conv1",), {}, WEIGHTS["conv1"]),
        caffemodel.Layer("norm1", "LRN", parameters={"lrn_param": {"local_size": 3, "alpha": 0.5, "beta": 0.25}}),
    ]
    file = io.BytesIO()
    caffemodel.write_caffemodel(file, "net", layers)
    read = caffemodel.read_caffemodel(file.getvalue())
    assert prototxt.layer_signature(read) == ["conv1", "LRN(local_size=3, alpha=0.5, beta=0.25, norm_region=0, k=1)"]
    assert all(np.array_equal(a, b) for a, b in zip(read[0].blobs, WEIGHTS["conv1"], strict=True))


def test_mean_round_trip_and_its_own_bytes():
    mean = np.random.default_rng(0).uniform(0, 255, (3, 4, 5)).astype("float32")
    file = io.BytesIO()
    caffemodel.write_mean(file, mean)
    assert np.array_equal(caffemodel.read_mean(file.getvalue()), mean)
    assert file.getvalue() == number_field(1, 1) + number_field(2, 3) + number_field(3, 4) + number_field(4, 5) + field(
        5, mean.tobytes()
    )
    with pytest.raises(containers.WeightFileError, match="not a .binaryproto"):
        caffemodel.read_mean(file.getvalue()[:-5])
