"""Tests of `layer_profile`: the count of multiply-adds against arithmetic, and the network's stages."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import layer_profile, model_throughput, worker_process
from alexnet_tf.network import alexnet, architectures
from tests.helpers.networks import TINY, narrow

# Output positions times kernel, by hand from the paper's Section 3.5, in conv1 ... fc8; together 724.4 million.
PAPER = {
    "conv1": 55 * 55 * 96 * 11 * 11 * 3,
    "conv2": 27 * 27 * 256 * 5 * 5 * 48,
    "conv3": 13 * 13 * 384 * 3 * 3 * 256,
    "conv4": 13 * 13 * 384 * 3 * 3 * 192,
    "conv5": 13 * 13 * 256 * 3 * 3 * 192,
    "fc6": 6 * 6 * 256 * 4096,
    "fc7": 4096 * 4096,
    "fc8": 4096 * 1000,
}


def test_multiply_adds_of_the_paper():
    assert sum(PAPER.values()) == 724_406_816
    assert layer_profile.multiply_adds(architectures.PAPER) == PAPER


def test_a_training_step_has_no_gradient_of_the_image():
    counts = layer_profile.multiply_adds(architectures.PAPER, is_training=True)
    assert sum(counts.values()) == 3 * 724_406_816 - PAPER["conv1"] and counts["conv1"] == 2 * PAPER["conv1"]


def test_multiply_adds_of_towers_that_see_both_and_of_padded_input():
    # Input 67: conv1 15 x 15 x 8 of 11 x 11 x 3; conv2 7 x 7 x 8 of 5 x 5 x 4; fc6 of 3 x 3 x 8.
    assert layer_profile.multiply_adds(TINY) == {
        "conv1": 15 * 15 * 8 * 363,
        "conv2": 7 * 7 * 8 * 100,
        "fc6": 72 * 8,
        "fc8": 8 * 5,
    }
    assert layer_profile.multiply_adds(architectures.ARCHITECTURES["fc2048"])["conv1"] == PAPER["conv1"]


def test_matmul_peak_multiplies_in_the_policys_dtype_and_is_larger_on_a_gpu(monkeypatch):
    monkeypatch.setattr(layer_profile, "PEAK_SIZE", 64)
    monkeypatch.setattr(layer_profile, "GPU_PEAK_SIZE", 128)
    seen, waits, matmul = [], [], tf.matmul
    layer_profile.wait()  # On a CPU there is nothing to wait for.
    monkeypatch.setattr(tf, "matmul", lambda a, b: seen.append((a.dtype, a.shape)) or matmul(a, b))
    monkeypatch.setattr(layer_profile, "wait", lambda: waits.append(1))
    assert 0 < layer_profile.matmul_peak("float32")(0.0) < 1e14
    assert len(waits) == 2 + 3  # Each product is waited for, the warm-up's two too.
    assert 0 < layer_profile.matmul_peak("mixed_bfloat16")(0.0) < 1e14
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    layer_profile.matmul_peak("float32")(0.0)
    assert seen == [(tf.float32, (64, 64)), (tf.bfloat16, (64, 64)), (tf.float32, (128, 128))]


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_stages_together_are_the_network(name):
    architecture = architectures.with_initialization(narrow(architectures.ARCHITECTURES[name]), "he")
    model = alexnet.build_model(architecture)
    stages = layer_profile.split_stages(model, architecture)
    assert list(stages) == [stage.name for stage in architecture.stages]
    for stage in architecture.stages:  # A stage has its own weights and no others.
        weights = [v.path.split("/")[0] for v in stages[stage.name][0].trainable_variables]
        assert set(weights) == set(stage.layer_names)
    images = worker_process.random_batch(architecture, 1)[0].astype("float32")
    values = {id(model.inputs[0]): images}
    for part, begin, end in stages.values():
        outputs = tf.nest.flatten(part([values[id(tensor)] for tensor in begin]))
        values |= zip(map(id, end), outputs)
    np.testing.assert_allclose(values[id(model.outputs[0])], model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("is_training", [True, False])
def test_profile_times_every_stage_forward_and_backward(is_training, precision, monkeypatch):
    monkeypatch.setattr(layer_profile, "_LEAST_SECONDS", 0.0)
    step = model_throughput.make_step(TINY, 2, precision)
    images, labels = map(tf.constant, worker_process.random_batch(TINY, 2))
    stages = layer_profile.profile(step.model, TINY, images, labels, step.update if is_training else None)
    assert [stage.name for stage in stages] == ["conv1", "conv2", "fc6", "fc8"] + ["loss", "update"] * is_training
    counts = layer_profile.multiply_adds(TINY, is_training)
    assert all(stage.multiply_adds == counts.get(stage.name, 0) for stage in stages)
    for stage in stages:
        assert 0 <= stage.forward_seconds < 10
        assert (stage.backward_seconds is None) == (not is_training)
