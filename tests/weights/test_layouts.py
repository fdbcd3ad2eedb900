"""Tests of `layouts`: conversions against indices written out by hand, every row against the model, refusals."""

import dataclasses
import pathlib

import numpy as np
import pytest

from alexnet_tf.network import alexnet, architectures
from alexnet_tf.weights import caffemodel, containers, formats, layouts
from tests.helpers.caffe import CAFFE_ORDER, CAFFE_SHAPES, REST, TORCHVISION_SHAPES, caffemodel_bytes, lrn_field

README = pathlib.Path(__file__).parents[2] / "alexnet_tf" / "weights" / "README.md"


def narrow(row):
    """The row with dense layers of 8 units and 3 classes."""
    row = architectures.with_num_classes(row, 3)
    return dataclasses.replace(
        row,
        stages=tuple(
            dataclasses.replace(stage, filters=8) if stage.name in ("fc6", "fc7") else stage for stage in row.stages
        ),
    )


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


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_to_file_then_from_file_is_the_identity(name):
    row = narrow(architectures.ARCHITECTURES[name])
    arrays = values_of(row)
    for file_format in formats.WRITTEN:
        layout = formats.FORMATS[file_format].layout
        entries = layouts.to_file(row, layout, arrays)
        assert {key: value.shape for key, value in entries.items()} == layouts.file_shapes(row, layout)
        again = layouts.from_file(row, layout, entries)
        assert again.keys() == arrays.keys() and all(np.array_equal(again[path], arrays[path]) for path in arrays)


@pytest.mark.parametrize(
    ("name", "file_format", "shapes"),
    [
        ("caffe", "caffemodel", CAFFE_SHAPES),
        ("paper", "caffemodel", CAFFE_SHAPES),
        ("torchvision", "torch", TORCHVISION_SHAPES),
        ("torchvision", "safetensors", TORCHVISION_SHAPES),
    ],
)
def test_file_shapes_are_the_sources(name, file_format, shapes):
    layout = formats.FORMATS[file_format].layout
    kernel, bias = ("{}[0]", "{}[1]") if file_format == "caffemodel" else ("{}.weight", "{}.bias")
    expected = {kernel.format(key): shape for key, shape in shapes.items()}
    expected |= {bias.format(key): shape[:1] for key, shape in shapes.items()}
    assert layouts.file_shapes(architectures.ARCHITECTURES[name], layout) == expected


def from_caffe(name, **changed):
    """Our arrays of a Caffe file that is zero but for `changed`."""
    row = narrow(architectures.ARCHITECTURES[name])
    layout = formats.FORMATS["caffemodel"].layout
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
    layout = formats.FORMATS["torch"].layout
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


def entries_of(name, file_format="caffemodel", seed=0):
    row = architectures.ARCHITECTURES[name]
    return {
        key: np.broadcast_to(np.float32(seed), shape)
        for key, shape in layouts.file_shapes(row, formats.FORMATS[file_format].layout).items()
    }


def layers_of(order, **arguments):
    some_weights = {"conv1": (np.zeros((1, 1, 1, 1)), np.zeros(1))}
    return caffemodel.read_caffemodel(caffemodel_bytes(order + REST, some_weights, **arguments))


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_recognise_tells_caffes_two_by_the_layers_order(name):
    row, how = layouts.detect_architecture("caffemodel", entries_of("caffe"), layers=layers_of(CAFFE_ORDER[name]))
    assert row.name == name and "order of its layers" in how


def test_recognise_refuses_another_lrn_and_says_which():
    layers = layers_of(CAFFE_ORDER["caffe"], lrn_parameters=lrn_field(5e-4, 2.0))
    with pytest.raises(
        containers.WeightFileError, match=r"(?s)file: conv1 ReLU LRN\(local_size=5, alpha=0.0005.*k=2\).*--arch"
    ):
        layouts.detect_architecture("caffemodel", entries_of("caffe"), layers=layers)
    row, how = layouts.detect_architecture("caffemodel", entries_of("caffe"), layers=layers, architecture="caffe")
    assert row.name == "caffe" and how.startswith("as requested, though the file's layers are in another order")


def test_recognise_takes_the_number_of_classes_from_the_file():
    entries = entries_of("caffe", "npy") | {"fc8[0]": np.zeros((4096, 12)), "fc8[1]": np.zeros(12)}
    row, how = layouts.detect_architecture("npy", entries)
    assert row.num_classes == 12 and row.name == "caffe" and "caffenet" in how


def test_recognise_lists_what_is_missing_left_over_and_differing():
    entries = entries_of("torchvision", "torch")
    del entries["features.3.bias"]
    entries |= {"bn.weight": np.zeros(3), "classifier.4.weight": np.zeros((2048, 4096))}
    with pytest.raises(containers.WeightFileError) as caught:
        layouts.detect_architecture("torch", entries)
    message = str(caught.value)
    assert "missing: features.3.bias" in message and "left over: bn.weight" in message
    assert "classifier.4.weight: (2048, 4096) in the file, (4096, 4096) in the network" in message
    with pytest.raises(containers.WeightFileError, match="(?s)does not fit paper.*conv2"):
        layouts.detect_architecture("npy", entries_of("ungrouped", "npy"), architecture="paper")


def test_check_finite_counts_what_is_not():
    with pytest.raises(containers.WeightFileError, match=r"2 in b, 1 in c\. .*--allow_nan"):
        layouts.check_finite({"a": np.ones(3), "b": np.array([np.nan, 1, np.inf]), "c": np.array([-np.inf])})
    layouts.check_finite({"a": np.ones(3)})


def test_refusals_name_row_format_and_reason():
    assert layouts.unsupported_reason(architectures.PAPER, "torch") == (
        "paper cannot be written as torch: its readers compute torchvision and nothing else"
    )
    assert "conv1 has 0 zeros before" in layouts.unsupported_reason(architectures.OWT, "caffemodel")
    assert layouts.unsupported_reason(architectures.PAPER, "caffemodel") is None


def test_readmes_matrix_is_what_the_code_says():
    section = README.read_text(encoding="utf-8").split("## Which network fits which format")[1].split("\n## ")[0]
    tables = [line for line in section.splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables]
    header = next(cells for cells in lines if cells[1:] == [f"`{name}`" for name in formats.WRITTEN])
    said = {cells[0].strip("`"): cells[1:] for cells in lines[lines.index(header) + 2 :] if len(cells) == len(header)}
    for name, row in architectures.ARCHITECTURES.items():
        fits = [not layouts.unsupported_reason(row, file_format) for file_format in formats.WRITTEN]
        assert [cell.startswith("yes") for cell in said[name]] == fits, name
