"""Tests of `layouts`: conversions against indices written out by hand, every row against the model, refusals."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.network import alexnet, architectures
from alexnet_tf.weights import formats, guard, layouts
from alexnet_tf.weights.layouts import LAYOUTS
from tests.helpers.caffe import CAFFE_ORDER, CAFFE_SHAPES, REST, TORCHVISION_SHAPES, caffemodel_bytes, lrn_field
from tests.helpers.networks import narrow_dense


def narrow(row):
    """The row with dense layers of 8 units and 3 classes."""
    return narrow_dense(architectures.with_num_classes(row, 3), 8)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_shapes_are_those_of_the_model(name):
    row = narrow(architectures.ARCHITECTURES[name])
    model = alexnet.build_model(row)
    expected = {variable.path: tuple(variable.shape) for variable in model.variables}
    counts = layouts.dropout_counts(row)
    assert layouts.variable_shapes(row) | {path: count.shape for path, count in counts.items()} == expected


def values_of(row, seed=0):
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(shape, "float32") for path, shape in layouts.variable_shapes(row).items()}


@pytest.mark.parametrize("layout", ["stages", "torchvision"])
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_to_file_then_from_file_is_the_identity(name, layout):
    row, layout = narrow(architectures.ARCHITECTURES[name]), LAYOUTS[layout]
    rng, shapes = np.random.default_rng(0), layouts.variable_shapes(row)
    arrays = {path: rng.standard_normal(shape, "float32") for path, shape in shapes.items()}
    entries = layouts.to_file(row, layout, arrays)
    assert {key: value.shape for key, value in entries.items()} == layouts.file_shapes(row, layout)
    again = layouts.from_file(row, layout, entries)
    assert again.keys() == arrays.keys() and all(np.array_equal(again[path], arrays[path]) for path in arrays)


@pytest.mark.parametrize(
    ("name", "layout", "kernel", "bias", "shapes"),
    [
        ("caffe", "caffe", "{}[0]", "{}[1]", CAFFE_SHAPES),
        ("paper", "stages", "{}.weight", "{}.bias", CAFFE_SHAPES),
        ("torchvision", "torchvision", "{}.weight", "{}.bias", TORCHVISION_SHAPES),
    ],
)
def test_file_shapes_are_the_sources(name, layout, kernel, bias, shapes):
    expected = {kernel.format(key): shape for key, shape in shapes.items()}
    expected |= {bias.format(key): shape[:1] for key, shape in shapes.items()}
    assert layouts.file_shapes(architectures.ARCHITECTURES[name], LAYOUTS[layout]) == expected


def from_caffe(name, **changed):
    """Our arrays of a Caffe file that is zero but for `changed`."""
    row = narrow(architectures.ARCHITECTURES[name])
    layout = LAYOUTS["caffe"]
    entries = {key: np.zeros(shape, "float32") for key, shape in layouts.file_shapes(row, layout).items()}
    for key, value in changed.items():
        entries[f"{key}[0]"] = value
    return layouts.from_file(row, layout, entries)


def test_fc6_reads_channel_row_column_in_caffe_and_row_column_channel_here():
    kernel = np.arange(8 * 9216, dtype="float32").reshape(8, 9216)
    converted = from_caffe("caffe", fc6=kernel)["fc6/kernel"]
    for channel, row, column, unit in (
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 3),
        (0, 0, 1, 7),
        (255, 5, 4, 2),
        (130, 2, 5, 6),
    ):
        assert converted[row * 1536 + column * 256 + channel, unit] == kernel[unit, channel * 36 + row * 6 + column]


def test_conv1_reads_blue_first_in_caffe_and_red_first_here():
    kernel = np.zeros((96, 3, 11, 11), "float32")
    kernel[5, 0, 2, 3], kernel[6, 2, 4, 5] = 1, 2  # Blue, red.
    converted = from_caffe("caffe", conv1=kernel)["conv1/kernel"]
    assert converted[2, 3, 2, 5] == 1 and converted[4, 5, 0, 6] == 2 and np.count_nonzero(converted) == 2
    layout = LAYOUTS["torchvision"]
    row = narrow(architectures.TORCHVISION)
    entries = {key: np.zeros(shape, "float32") for key, shape in layouts.file_shapes(row, layout).items()}
    entries["features.0.weight"][5, 0, 2, 3] = 1
    assert layouts.from_file(row, layout, entries)["conv1/kernel"][2, 3, 0, 5] == 1


def test_the_first_group_is_tower_a():
    kernel = np.zeros((256, 48, 5, 5), "float32")
    kernel[3, 7, 1, 2], kernel[128, 40, 3, 4] = 1, 2
    converted = from_caffe("caffe", conv2=kernel)
    assert converted["conv2_a/kernel"][1, 2, 7, 3] == 1 and converted["conv2_b/kernel"][3, 4, 40, 0] == 2
    converted = from_caffe("paper", conv2=kernel)
    assert converted["conv2_a/kernel"][1, 2, 7, 3] == 1 and converted["conv2_b/kernel"][3, 4, 40, 0] == 2


def file_of(name, layout, steps=None, **others):
    """A file of an architecture's arrays, of zeros that take no room."""
    shapes = layouts.file_shapes(architectures.ARCHITECTURES[name], LAYOUTS[layout])
    zeros = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    return formats.WeightFile(zeros | others, layout, steps)


def steps_of(order, **arguments):
    some_weights = {"conv1": (np.zeros((1, 1, 1, 1)), np.zeros(1))}
    return guard.parse("caffe", caffemodel_bytes(order + REST, some_weights, **arguments)).steps


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_caffes_two_are_told_apart_by_the_layers_order(name):
    row, how = layouts.identify(file_of("caffe", "caffe", steps_of(CAFFE_ORDER[name])))
    assert row.name == name and "order of its layers" in how


def test_another_lrn_is_refused_with_its_constants():
    file = file_of("caffe", "caffe", steps_of(CAFFE_ORDER["caffe"], lrn_parameters=lrn_field(5e-4, 2.0)))
    with pytest.raises(
        formats.WeightFileError, match=r"(?s)file: conv1 relu lrn\(size=5, alpha=0.0005.*k=2\).*caffenet: conv1.*--arch"
    ):
        layouts.identify(file)
    row, how = layouts.identify(file, "caffe")
    assert row.name == "caffe" and how.startswith("as requested, though the file's layers are in another order: conv1")


def test_the_number_of_classes_is_the_files():
    others = {"fc8[0]": np.zeros((4096, 12)), "fc8[1]": np.zeros(12)}
    row, how = layouts.identify(file_of("caffe", "caffe-tensorflow", **others))
    assert row.num_classes == 12 and row.name == "caffe" and "caffenet" in how


def test_what_is_missing_left_over_and_differing_is_listed():
    file = file_of("torchvision", "torchvision")
    arrays = file.arrays | {"bn.weight": np.zeros(3), "classifier.4.weight": np.zeros((2048, 4096))}
    del arrays["features.3.bias"]
    with pytest.raises(formats.WeightFileError) as caught:
        layouts.identify(dataclasses.replace(file, arrays=arrays))
    message = str(caught.value)
    assert "missing: features.3.bias" in message and "left over: bn.weight" in message
    assert "classifier.4.weight: (2048, 4096) in the file, (4096, 4096) in the network" in message
    with pytest.raises(formats.WeightFileError, match="(?s)does not fit paper.*conv2"):
        layouts.identify(file_of("ungrouped", "caffe-tensorflow"), "paper")


def test_names_of_another_program_get_advice():
    arrays = {
        f"layer{index}": array for index, array in enumerate(file_of("torchvision", "torchvision").arrays.values())
    }
    with pytest.raises(formats.WeightFileError, match="names are not known; rename .* features.0.weight"):
        layouts.identify(formats.WeightFile(arrays, "torchvision"))
