"""Tests of `profiling`: the count of multiply-adds against arithmetic, and that groups are the network in parts."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import alexnet, architectures
from alexnet_tf.benchmarks import layer_profile, model_throughput, worker_process
from tests.helpers.networks import TINY

# Output positions times kernel, by hand from the paper's Section 3.5, in conv1 ... fc8; together 724.4 million.
PAPER = {
    "conv1": 55 * 55 * 96 * 11 * 11 * 3, "conv2": 27 * 27 * 256 * 5 * 5 * 48, "conv3": 13 * 13 * 384 * 3 * 3 * 256,
    "conv4": 13 * 13 * 384 * 3 * 3 * 192, "conv5": 13 * 13 * 256 * 3 * 3 * 192, "fc6": 6 * 6 * 256 * 4096,
    "fc7": 4096 * 4096, "fc8": 4096 * 1000}


@pytest.fixture(scope="module")
def paper():
    return alexnet.build_model(architectures.PAPER)


def test_multiply_adds_of_the_paper(paper):
    assert sum(PAPER.values()) == 724_406_816
    assert layer_profile.multiply_adds(paper) == 724_406_816


def test_a_training_step_has_no_gradient_of_the_image(paper):
    assert layer_profile.multiply_adds(paper, training=True) == 3 * 724_406_816 - PAPER["conv1"]


def test_multiply_adds_of_towers_that_see_both_and_of_padded_input():
    # Input 67: conv1 15 x 15 x 8 of 11 x 11 x 3; conv2 7 x 7 x 8 of 5 x 5 x 4; fc6 of 3 x 3 x 8.
    forward = 15 * 15 * 8 * 363 + 7 * 7 * 8 * 100 + 72 * 8 + 8 * 5
    model = alexnet.build_model(TINY)
    assert layer_profile.multiply_adds(model) == forward
    assert layer_profile.multiply_adds(model, training=True) == 3 * forward - 15 * 15 * 8 * 363
    padded = alexnet.build_model(architectures.ARCHITECTURES["fc2048"])
    assert layer_profile.multiply_adds(padded, True) == 3 * layer_profile.multiply_adds(padded) - PAPER["conv1"]


def test_floor_multiplies_in_the_policys_dtype(monkeypatch):
    monkeypatch.setattr(layer_profile, "PEAK_SIZE", 64)
    seen, matmul = [], tf.matmul
    monkeypatch.setattr(tf, "matmul", lambda a, b: seen.append((a.dtype, a.shape)) or matmul(a, b))
    assert 0 < layer_profile.matmul_peak("float32")(0.0) < 1e14
    assert 0 < layer_profile.matmul_peak("mixed_bfloat16")(0.0) < 1e14
    assert seen == [(tf.float32, (64, 64)), (tf.bfloat16, (64, 64))]


@pytest.mark.parametrize("name", ["paper", "original2012", "caffe", "conv_fc"])
def test_parts_together_are_the_network(name):
    row = architectures.ARCHITECTURES[name]
    model = alexnet.build_model(row)
    parts = layer_profile.parts(model, row)
    assert list(parts) == [stage.name for stage in row.stages]
    layers = [layer.name for part in parts.values() for layer in part.layers]
    assert sorted(layers) == sorted(layer.name for layer in model.operations[1:])
    images = worker_process.random_batch(row, 1)[0].astype("float32")
    values = {id(model.inputs[0]): images}
    for part in parts.values():
        outputs = tf.nest.flatten(part.model([values[id(tensor)] for tensor in part.given]))
        values |= dict(zip(map(id, part.made), outputs))
    np.testing.assert_allclose(values[id(model.outputs[0])], model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("is_training", [True, False])
def test_layer_groups_time_every_stage_forward_and_backward(is_training, precision, monkeypatch):
    monkeypatch.setattr(layer_profile, "_ENOUGH_SECONDS", 0.0)
    step = model_throughput.make_step(TINY, 2, precision)
    network = step.model
    images, labels = map(tf.constant, worker_process.random_batch(TINY, 2))
    groups = layer_profile.layer_groups(network, TINY, images, labels, step.update if is_training else None)
    names = ["conv1", "conv2", "fc6", "fc8"]
    assert [group.name for group in groups] == names + ["loss", "update"] * is_training
    assert sum(group.multiply_adds for group in groups) == layer_profile.multiply_adds(network, is_training)
    for group in groups:
        assert 0 <= group.forward_seconds < 10
        assert (group.backward_seconds is None) == (not is_training)
