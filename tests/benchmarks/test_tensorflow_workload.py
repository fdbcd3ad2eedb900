"""Tests of `tensorflow_workload`: that what is timed is the real step, and its multiply-adds against arithmetic."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import rounds, tensorflow_workload
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.training import train_step
from tests.helpers.networks import TINY, narrow


def test_a_training_step_has_three_passes_but_no_gradient_of_the_image():
    counts, training = (tensorflow_workload.multiply_adds(architectures.PAPER, each) for each in (False, True))
    assert sum(counts.values()) == 724_406_816 and counts["conv1"] == 55 * 55 * 96 * 11 * 11 * 3
    assert training == {name: (2 if name == "conv1" else 3) * count for name, count in counts.items()}


def test_training_step_is_trainings_own():
    step, train = tensorflow_workload.make_step(dataclasses.replace(TINY, dropout_rate=0.0), 4, "mixed_bfloat16")
    assert type(step) is train_step.TrainStep and step.model.get_layer("conv1_a").compute_dtype == "bfloat16"
    before = [variable.numpy() for variable in step.model.trainable_variables]
    losses = [train(), train()]
    [iteration] = [variable for variable in step.variables if variable.path.endswith("sgd/iteration")]
    assert iteration.numpy() == 2 and losses[0] == pytest.approx(np.log(5), abs=0.1)
    # At rate 0 every step computes the same.
    assert all(np.array_equal(old, new) for old, new in zip(before, step.model.trainable_variables))


def test_matmul_peak_multiplies_in_the_policys_dtype_and_is_larger_on_a_gpu(monkeypatch):
    monkeypatch.setattr(tensorflow_workload, "PEAK_SIZE", 64)
    monkeypatch.setattr(tensorflow_workload, "GPU_PEAK_SIZE", 128)
    seen, waits, matmul = [], [], tf.matmul
    monkeypatch.setattr(tf, "matmul", lambda a, b: seen.append((a.dtype, a.shape)) or matmul(a, b))
    monkeypatch.setattr(tensorflow_workload, "wait", lambda: waits.append(1))
    assert 0 < tensorflow_workload.matmul_peak("float32")(0.0) < 1e14
    assert len(waits) == 2  # Each product is waited for, the warm-up's too.
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    tensorflow_workload.matmul_peak("mixed_bfloat16")(0.0)
    assert seen == [(tf.float32, (64, 64)), (tf.bfloat16, (128, 128))]


def test_profile_computes_each_stage_and_in_training_the_gradients_of_its_weights_and_inputs(monkeypatch):
    monkeypatch.setattr(tensorflow_workload.timing, "median_seconds", lambda call, **_: call())
    step, _ = tensorflow_workload.make_step(architectures.with_initialization(TINY, "he"), 2, "mixed_bfloat16")
    images = tf.constant(rounds.random_batch(TINY, 2)[0])
    found = tensorflow_workload.profile(step.model, TINY, images, lambda gradients: tf.add_n(gradients[:1]))
    assert np.count_nonzero(found.pop("update")) == 0
    # Kernels and biases of towers, and their inputs, but for the images.
    assert {name: len(gradients) for name, gradients in found.items()} == {"conv1": 4, "conv2": 6, "fc6": 6, "fc8": 4}
    assert all(np.count_nonzero(each) for gradients in found.values() for each in gradients)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_stages_together_are_the_network(name, monkeypatch):
    monkeypatch.setattr(tensorflow_workload.timing, "median_seconds", lambda call, **_: call())
    architecture = architectures.with_initialization(narrow(architectures.ARCHITECTURES[name]), "he")
    model = alexnet.build_model(architecture)
    images = tf.constant(rounds.random_batch(architecture, 1)[0])
    found = tensorflow_workload.profile(model, architecture, images)
    assert list(found) == [stage.name for stage in architecture.stages]
    np.testing.assert_allclose(found[architecture.stages[-1].name], model(images), rtol=1e-5, atol=1e-6)


def test_a_gpu_is_measured_as_one(monkeypatch):
    """On a machine without a GPU: that growth is set before anything else, and its own peak of memory is taken."""
    calls = []
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [types.SimpleNamespace(device_type="GPU", name="gpu")]
    )
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: calls.append("growth"))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "Some GPU"})
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda device: {"current": 5, "peak": 7 if device == "GPU:0" else 0}
    )
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: calls.append("wait"))
    monkeypatch.setattr(tensorflow_workload, "GPU_PEAK_SIZE", 64)
    monkeypatch.setattr(tensorflow_workload, "profile", lambda *_: {})
    trials, facts = tensorflow_workload.make_workload(
        TINY, None, batch_size=2, is_training=False, precision="float32", deterministic=False
    )
    assert "Some GPU" in facts["machine"] and facts["peak_bytes"] == 7 and calls == ["growth"]
    assert trials["alexnet_tf"](0.0) > 0 and calls[1:] == ["wait", "wait"]
