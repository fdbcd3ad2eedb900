"""Tests of `optimizer`: the paper's update and the sources' schedules against written-out numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.training import optimizer


def paper_update(weights, gradients, rates, decay, momentum):
    """Section 5, written out: v = .9 v - decay * rate * w - rate * g; w += v."""
    w, v = weights, 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        v = momentum * v - decay * rate * w - rate * gradient
        w = w + v
    return w


def make_layer_variables():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="fc8")(keras.layers.Dense(2, name="conv1_a")(inputs)))
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 2.0, "float32"))
    return model.trainable_variables


def apply(sgd, variables, gradients, rates):
    for gradient, rate in zip(gradients, rates, strict=True):
        sgd.learning_rate = rate
        sgd.apply([tf.fill(variable.shape, np.float32(gradient)) for variable in variables], variables)
    return {variable.path: float(variable.numpy().flat[0]) for variable in variables}


@pytest.mark.parametrize("is_fused", [False, True])
def test_momentum_sgd_is_the_papers_update(is_fused, monkeypatch):
    if is_fused:
        monkeypatch.setattr(optimizer, "_WORTH_COMPILING", 0)
    variables, gradients, rates = make_layer_variables(), [1.0, -3.0, 0.5], [0.1, 0.1, 0.01]
    sgd = optimizer.MomentumSGD(0.1, momentum=0.9, kernel_decay=0.05)
    sgd.build(variables)
    sgd.bias_multiplier.assign(2.0)
    values = apply(sgd, variables, gradients, rates)
    kernel = paper_update(2.0, gradients, rates, decay=0.05, momentum=0.9)
    bias = paper_update(2.0, gradients, [2 * rate for rate in rates], decay=0.0, momentum=0.9)
    for layer in ("conv1_a", "fc8"):
        np.testing.assert_allclose(values[f"{layer}/kernel"], kernel, rtol=1e-6)
        np.testing.assert_allclose(values[f"{layer}/bias"], bias, rtol=1e-6)


@pytest.mark.parametrize(("clip_norm", "factor"), [(0.0, 1.0), (100.0, 1.0), (13.0, 1.0), (6.5, 0.5)])
def test_momentum_sgd_bounds_the_norm_of_all_gradients_together(clip_norm, factor):
    variables = [keras.Variable(np.zeros(size, "float32"), name=name) for size, name in ((2, "kernel"), (1, "bias"))]
    sgd = optimizer.MomentumSGD(1.0, momentum=0.0, kernel_decay=0.0, clip_norm=clip_norm)
    sgd.build(variables)
    sgd.apply([tf.constant([3.0, -4.0]), tf.constant([12.0])], variables)  # The norm is 13.
    np.testing.assert_allclose(variables[0], [-3 * factor, 4 * factor], rtol=1e-6)
    np.testing.assert_allclose(variables[1], [-12 * factor], rtol=1e-6)


def test_momentum_sgd_freezes_conv1_without_decay():
    variables = make_layer_variables()
    sgd = optimizer.MomentumSGD(0.1, momentum=0.9, kernel_decay=0.05)
    sgd.build(variables)
    before = apply(sgd, variables, [1.0], [0.1])
    sgd.conv1_multiplier.assign(0.0)
    after = apply(sgd, variables, [1.0, 1.0], [0.1, 0.1])
    assert after["conv1_a/kernel"] == before["conv1_a/kernel"] and after["conv1_a/bias"] == before["conv1_a/bias"]
    assert after["fc8/kernel"] != before["fc8/kernel"]


def test_momentum_sgd_without_momentum_is_plain_sgd():
    variables = make_layer_variables()
    sgd = optimizer.MomentumSGD(0.1, momentum=0.0, kernel_decay=0.0)
    sgd.build(variables)
    values = apply(sgd, variables, [1.0, 1.0], [0.1, 0.1])
    assert values["fc8/kernel"] == pytest.approx(1.8, rel=1e-6)


def test_momentum_sgd_slows_kernels_of_conv1_only():
    variables = make_layer_variables()
    sgd = optimizer.MomentumSGD(0.1, momentum=0.0, kernel_decay=0.0)
    sgd.build(variables)
    sgd.conv1_multiplier.assign(0.1)
    values = apply(sgd, variables, [1.0], [0.1])
    expected = {"conv1_a/kernel": 1.99, "conv1_a/bias": 1.9, "fc8/kernel": 1.9, "fc8/bias": 1.9}
    assert values == pytest.approx(expected, rel=1e-6)
