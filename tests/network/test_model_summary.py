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


def test_layer_table_has_a_line_for_every_layer():
    lines = model_summary.layer_table(TINY).splitlines()
    cells = {line.split()[0]: line for line in lines[4:-3]}
    assert set(TINY.layer_names) < set(cells)
    assert cells["conv2_a"].split("  ")[-1].strip() == "19,600"
    assert "conv2_a_pool + conv2_b_pool" in cells["fc6_a"]
    assert "15 x 15 x 4" in cells["conv1_a"]
