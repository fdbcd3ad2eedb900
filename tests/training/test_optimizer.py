"""Tests of `optimization`: the paper's update and the sources' schedules against written-out numbers."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import architectures, recipes
from alexnet_tf.training import optimizer, schedules


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


@pytest.mark.parametrize(("progress", "factor"), [(0, 1), (24.99 / 91, 1), (25 / 91, .1), (50.9 / 91, .1), (51 / 91, .01), (.9, .001)])
def test_rate_factor_of_the_authors_steps(progress, factor):
    assert schedules.rate_factor(architectures.ORIGINAL2012.recipe, progress) == pytest.approx(factor, rel=1e-12)


def test_rate_factor_of_caffe_falls_every_20_of_90_epochs():
    factors = [schedules.rate_factor(architectures.CAFFE.recipe, epoch / 90) for epoch in range(90)]
    assert [epoch for epoch in range(1, 90) if factors[epoch] != factors[epoch - 1]] == [20, 40, 60, 80]
    assert factors[-1] == pytest.approx(1e-4)


def test_rate_factor_of_cosine_and_plateau():
    cosine = recipes.Recipe(schedule="cosine")
    assert [schedules.rate_factor(cosine, p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [schedules.rate_factor(architectures.PAPER.recipe, 0.7, d) for d in range(4)] == pytest.approx([1, .1, .01, .001])


def test_plateau_divides_three_times_and_then_ends():
    plateau, patience, seen = schedules.Plateau(), 2, []
    for error in [.9, .8, .8, .81, .7, .7, .7, .7, .7, .7, .7]:
        over = plateau.update(error, patience)
        seen.append((plateau.divisions, over))
    assert seen == [(0, False), (0, False), (0, False), (1, False), (1, False), (1, False), (2, False), (2, False),
                    (3, False), (3, False), (4, True)]


@pytest.mark.parametrize(("loss", "steps", "stuck"), [(1.609, 100, True), (1.60, 500, True), (1.609, 99, False), (1.5, 500, False)])
def test_is_stuck_at_ln_classes(loss, steps, stuck):
    assert schedules.is_stuck(loss, math.log(5), steps) is stuck


def test_is_stuck_is_not_said_of_a_loss_above_chance():
    assert not schedules.is_stuck(2.5, math.log(5), 500)


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
