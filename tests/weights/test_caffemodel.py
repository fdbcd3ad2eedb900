"""Tests of `caffemodel`: both encodings on the wire, and the mean."""

import numpy as np
import pytest

from alexnet_tf.weights import formats, guard
from tests.helpers.caffe import blob, caffemodel_bytes, field, lrn_field, varint

WEIGHTS = {
    "conv1": (np.arange(48, dtype="float32").reshape(4, 3, 2, 2), np.arange(4, dtype="float32")),
    "fc6": (np.arange(8, dtype="float32").reshape(2, 4), np.array([5, 6], "float32")),
}


@pytest.mark.parametrize("is_old", [False, True])
def test_both_encodings_are_read(is_old):
    file = guard.parse("caffe", caffemodel_bytes("conv1 relu1 norm1 pool1 fc6", WEIGHTS, is_old))
    assert file.layout == "caffe" and file.arrays.keys() == {"conv1[0]", "conv1[1]", "fc6[0]", "fc6[1]"}
    for name, arrays in WEIGHTS.items():
        assert all(np.array_equal(file.arrays[f"{name}[{index}]"], array) for index, array in enumerate(arrays))
    assert file.steps == ["conv1", "relu", "lrn(size=5, alpha=0.0001, beta=0.75, k=1)", "pool", "fc6"]


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (lrn_field(5e-4, 2.0), "lrn(size=5, alpha=0.0005, beta=0.75, k=2)"),
        (b"", "lrn(size=5, alpha=1, beta=0.75, k=1)"),  # The defaults of BVLC's caffe.proto.
    ],
)
def test_lrns_constants_are_read(parameters, expected, is_old):
    file = guard.parse("caffe", caffemodel_bytes("conv1 norm1", WEIGHTS, is_old, lrn_parameters=parameters))
    assert file.steps == ["conv1", expected]


def test_floats_in_several_pieces_are_one_array():
    floats = np.array([1, 1, 0], "<f4").tobytes()
    pieces = field(7, field(1, varint(3))) + field(5, floats[:8]) + field(5, floats[8:])
    kernel = blob(np.ones((1, 3), "float32"), False)
    layer = field(100, field(1, "fc8") + field(2, "InnerProduct") + field(7, kernel) + field(7, pieces))
    assert guard.parse("caffe", layer).arrays["fc8[1]"].tolist() == [1, 1, 0]
    with pytest.raises(formats.WeightFileError, match="Two layers are called fc8"):
        guard.parse("caffe", layer * 2)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_mean_image_is_read(is_old):
    mean = np.random.default_rng(0).uniform(0, 255, (3, 4, 5)).astype("float32")
    assert np.array_equal(guard.parse("caffe", blob(mean, is_old)).arrays["mean"], mean)
