"""Tests of `optimizer`: the paper's update against written-out numbers, Adam and AdamW against Keras' own."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network.recipes import Recipe
from alexnet_tf.network.schedules import Rates
from alexnet_tf.network.update_rules import UPDATE_RULES
from alexnet_tf.training import optimizer


def paper_update(weights, gradients, rates, decay, momentum):
    """Section 5, written out: v = .9 v - decay * rate * w - rate * g; w += v."""
    w, v = weights, 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        v = momentum * v - decay * rate * w - rate * gradient
        w = w + v
    return w


def make_layer_variables(first="conv1_a"):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="fc8")(keras.layers.Dense(2, name=first)(inputs)))
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 2.0, "float32"))
    return model.trainable_variables


PLAIN = Recipe(momentum=0.0, weight_decay=0.0)


def apply(recipe, variables, gradients, rates, **options):
    """Does some steps with equal gradients everywhere; returns the first value of each variable."""
    made = optimizer.Optimizer(recipe, **options)
    made.build(variables)
    for gradient, each in zip(gradients, rates, strict=True):
        made.set_rates(each)
        made.apply([tf.fill(variable.shape, np.float32(gradient)) for variable in variables], variables)
    return {variable.path: float(variable.numpy().flat[0]) for variable in variables}


@pytest.mark.parametrize("is_fused", [False, True])
def test_sgd_is_the_papers_update(is_fused, monkeypatch):
    if is_fused:
        monkeypatch.setattr(optimizer, "_WORTH_COMPILING", 0)
    gradients, rates = [1.0, -3.0, 0.5], [0.1, 0.1, 0.01]
    values = apply(
        Recipe(weight_decay=0.05), make_layer_variables(), gradients, [Rates(rate, 2.0, 1.0) for rate in rates]
    )
    kernel = paper_update(2.0, gradients, rates, decay=0.05, momentum=0.9)
    bias = paper_update(2.0, gradients, [2 * rate for rate in rates], decay=0.0, momentum=0.9)
    for layer in ("conv1_a", "fc8"):
        np.testing.assert_allclose(values[f"{layer}/kernel"], kernel, rtol=1e-6)
        np.testing.assert_allclose(values[f"{layer}/bias"], bias, rtol=1e-6)


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize(
    ("recipe", "reference"),
    [
        (Recipe(optimizer="adam", weight_decay=0.0), keras.optimizers.Adam(0.1)),
        (Recipe(optimizer="adamw", weight_decay=0.05), keras.optimizers.AdamW(0.1, weight_decay=0.05)),
    ],
)
def test_adam_and_adamw_are_keras_own(recipe, reference, is_fused, monkeypatch):
    if is_fused:
        monkeypatch.setattr(optimizer, "_WORTH_COMPILING", 0)
    values, gradients = [], [1.0, -3.0, 0.5, 1e-3]
    reference = type(reference).from_config(reference.get_config())
    reference.exclude_from_weight_decay(var_names=["bias"])
    for made in (optimizer.Optimizer(dataclasses.replace(recipe, learning_rate=0.1)), reference):
        variables = make_layer_variables("conv3_a")
        made.build(variables)
        for gradient in gradients:
            made.apply([tf.fill(variable.shape, np.float32(gradient)) for variable in variables], variables)
        values.append(np.concatenate([variable.numpy().ravel() for variable in variables]))
    np.testing.assert_allclose(*values, rtol=2e-6)
    assert not np.allclose(values[0], 2.0)


@pytest.mark.parametrize(("clip_norm", "factor"), [(0.0, 1.0), (100.0, 1.0), (13.0, 1.0), (6.5, 0.5)])
def test_the_norm_of_all_gradients_together_is_bounded(clip_norm, factor):
    variables = [keras.Variable(np.zeros(size, "float32"), name=name) for size, name in ((2, "kernel"), (1, "bias"))]
    sgd = optimizer.Optimizer(dataclasses.replace(PLAIN, clip_norm=clip_norm, learning_rate=1.0))
    sgd.build(variables)
    sgd.apply([tf.constant([3.0, -4.0]), tf.constant([12.0])], variables)  # The norm is 13.
    np.testing.assert_allclose(variables[0], [-3 * factor, 4 * factor], rtol=1e-6)
    np.testing.assert_allclose(variables[1], [-12 * factor], rtol=1e-6)


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_conv1_is_frozen_without_decay(name):
    rates, recipe = [Rates(0.1, 1.0, 1.0), Rates(0.1, 1.0, 0.0), Rates(0.1, 1.0, 0.0)], Recipe(optimizer=name)
    before = apply(recipe, make_layer_variables(), [1.0], rates[:1])
    after = apply(recipe, make_layer_variables(), [1.0] * 3, rates)
    assert after["conv1_a/kernel"] == before["conv1_a/kernel"] and after["conv1_a/bias"] == before["conv1_a/bias"]
    assert after["fc8/kernel"] != before["fc8/kernel"]


def test_kernels_of_conv1_alone_are_slowed():
    values = apply(PLAIN, make_layer_variables(), [1.0], [Rates(0.1, 1.0, 0.1)])
    expected = {"conv1_a/kernel": 1.99, "conv1_a/bias": 1.9, "fc8/kernel": 1.9, "fc8/bias": 1.9}
    assert values == pytest.approx(expected, rel=1e-6)


def test_the_rate_of_new_layers_is_a_multiple_and_their_decay_goes_with_it():
    recipe, options = Recipe(weight_decay=0.05), {"layer_multipliers": {"fc8": 10.0}}
    values = apply(recipe, make_layer_variables("fc7_a"), [1.0], [Rates(0.1, 2.0, 1.0)], **options)
    # Caffe: the rate of a weight is lr * lr_mult, and takes gradient and decay alike.
    expected = {
        "fc7_a/kernel": 2 - 0.1 * (1 + 0.05 * 2),
        "fc7_a/bias": 2 - 0.2,
        "fc8/kernel": 2 - 1.0 * (1 + 0.05 * 2),
        "fc8/bias": 0.0,
    }
    assert values == pytest.approx(expected, abs=1e-6)
