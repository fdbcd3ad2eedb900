"""The table of layers, against numbers worked out by hand and against the network that Keras builds."""

import dataclasses

import keras
import numpy as np
import pytest

from alexnet_tf.network import alexnet, architectures, model_summary
from tests.helpers.facts import FACTS
from tests.helpers.networks import TINY


def total(text, what):
    [line] = [line for line in text.splitlines() if line.startswith(f"Total {what}: ")]
    return int(line.split(": ")[1].replace(",", ""))


def test_layer_table_of_paper_ends_in_its_totals():
    text = model_summary.layer_table(architectures.PAPER)
    assert text.splitlines()[-1] == "Total parameters: 60,965,224"
    assert text.splitlines()[-2] == "Total multiply-adds: 724,406,816"
    assert text.splitlines()[0].startswith("paper: Krizhevsky")


@pytest.mark.parametrize("name", [name for name in FACTS if FACTS[name].multiply_adds])
def test_layer_table_counts_multiply_adds(name):
    text = model_summary.layer_table(architectures.ARCHITECTURES[name])
    assert total(text, "multiply-adds") == FACTS[name].multiply_adds


def test_layer_rows_of_conv_fc_count_its_convolutions_as_the_dense_layers():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.ARCHITECTURES["conv_fc"])}
    assert rows["fc6"].multiply_adds == 37_748_736
    assert rows["fc6"].shape == (1, 1, 4096)
    assert sum(row.parameters for row in rows.values()) == 62_071_144


def test_layer_rows_name_what_each_tower_reads():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.PAPER)}
    assert rows["conv1_a"].inputs == rows["conv1_b"].inputs == ("normalize",)
    assert rows["conv2_a"].inputs == ("conv1_a_pool",)
    assert rows["conv2_b"].inputs == ("conv1_b_pool",)
    assert rows["conv3_a"].inputs == rows["conv3_b"].inputs == ("conv2_a_pool", "conv2_b_pool")
    assert rows["conv4_b"].inputs == ("conv3_b_relu",)
    assert rows["conv5_a"].inputs == ("conv4_a_relu",)
    assert rows["fc6_a"].inputs == ("conv5_a_pool", "conv5_b_pool")
    assert rows["fc7_b"].inputs == ("fc6_a_dropout", "fc6_b_dropout")
    assert rows["fc8"].inputs == ("fc7_a_dropout", "fc7_b_dropout")


def test_layer_rows_of_caffe_name_the_half_that_a_group_reads():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.ARCHITECTURES["caffe"])}
    assert rows["conv2_a"].inputs == ("conv1_pool[a]",)
    assert rows["conv2_b"].inputs == ("conv1_pool[b]",)
    assert rows["conv2_lrn"].inputs == ("conv2_a_relu", "conv2_b_relu")
    assert rows["conv3"].inputs == ("conv2_pool",)
    assert rows["conv4_b"].inputs == ("conv3_relu[b]",)
    assert rows["conv5_a"].inputs == ("conv4_a_relu",)
    assert rows["fc6"].inputs == ("conv5_a_pool", "conv5_b_pool")


def inputs_of(tensor):
    """Returns the names of the layers that a tensor of a Keras model comes from; joins and halves are resolved."""
    operation, _, index = tensor._keras_history
    is_layer = isinstance(operation, keras.layers.Layer)
    if is_layer and not isinstance(
        operation, (keras.layers.Concatenate, keras.layers.Flatten, keras.layers.ZeroPadding2D)
    ):
        return (operation.name,)
    names = tuple(name for each in operation._inbound_nodes[0].input_tensors for name in inputs_of(each))
    return names if is_layer else tuple(f"{name}[{'ab'[index]}]" for name in names)


def keras_rows(architecture):
    """Returns (name, inputs, shape, parameters, multiply-adds) of the layers of the network that is built."""
    for layer in alexnet.build_model(architecture).layers:
        if not isinstance(layer, keras.layers.Layer) or isinstance(
            layer, (keras.layers.Concatenate, keras.layers.Flatten, keras.layers.ZeroPadding2D)
        ):
            continue
        shape, weights = layer.output.shape[1:], layer.trainable_weights
        multiply_adds = np.prod(shape[:-1]) * np.prod(weights[0].shape) if weights else 0
        inputs = tuple(name for tensor in layer._inbound_nodes[0].input_tensors for name in inputs_of(tensor))
        yield layer.name, inputs, tuple(shape), sum(np.prod(weight.shape) for weight in weights), multiply_adds


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_layer_rows_are_those_of_the_network_that_keras_builds(name):
    full = architectures.ARCHITECTURES[name]
    # An eighth as wide, which is built in a moment.
    thin = dataclasses.replace(
        full, stages=tuple(dataclasses.replace(stage, filters=stage.filters // 16 * 2) for stage in full.stages)
    )
    rows = [
        (row.name, row.inputs, row.shape, row.parameters, row.multiply_adds) for row in model_summary.layer_rows(thin)
    ]
    assert rows == list(keras_rows(thin))


def test_layer_table_shows_settings():
    text = model_summary.layer_table(architectures.ARCHITECTURES["original2012"])
    for setting in (
        "11 x 11, stride 4, padding 0 before, 3 after",
        "5 x 5, stride 1, padding 2, group 2 of 2",
        "n 5, k 2, alpha 2e-05, beta 0.75",
        "5 x 5 pixels, k 1, alpha 4e-05, beta 0.75",
        "rate 0.5",
        "max, 3 x 3, stride 2",
        "minus 122.7, 116.7, 104.0",
    ):
        assert setting in text
    assert "divided by 58.4, 57.12, 57.37" in model_summary.layer_table(architectures.ARCHITECTURES["torchvision"])


def test_layer_rows_give_shapes_kernels_and_counts():
    rows = {row.name: row for row in model_summary.layer_rows(TINY)}
    # 11 x 11 x 3 x 4 + 4 at 15 x 15 positions; 5 x 5 x 4 x 4 + 4 at 7 x 7; 72 x 4 + 4.
    assert rows["conv1_a"] == model_summary.LayerRow(
        "conv1_a", "convolution", "11 x 11, stride 4", ("normalize",), (15, 15, 4), 1456, 326_700
    )
    assert rows["conv2_b"] == model_summary.LayerRow(
        "conv2_b", "convolution", "5 x 5, stride 1, padding 2, group 2 of 2", ("conv1_b_pool",), (7, 7, 4), 404, 19_600
    )
    assert rows["conv1_b_pool"] == model_summary.LayerRow(
        "conv1_b_pool", "pool", "max, 3 x 3, stride 2", ("conv1_b_lrn",), (7, 7, 4), 0, 0
    )
    assert (rows["fc6_a"].parameters, rows["fc6_a"].multiply_adds) == (292, 288)
    assert (rows["fc8"].parameters, rows["fc8"].multiply_adds) == (45, 40)


def test_layer_table_has_a_line_for_every_layer():
    lines = model_summary.layer_table(TINY).splitlines()
    cells = {line.split()[0]: line for line in lines[4:-3]}
    assert set(TINY.layer_names) < set(cells)
    assert cells["conv2_a"].split("  ")[-1].strip() == "19,600"
    assert "conv2_a_pool + conv2_b_pool" in cells["fc6_a"]
    assert "15 x 15 x 4" in cells["conv1_a"]
