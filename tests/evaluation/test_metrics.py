"""Tests of `evaluation`: the counts against NumPy."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.evaluation import metrics
from alexnet_tf.network import alexnet, architectures, layers
from alexnet_tf.runs.directory import load_model
from tests.helpers.networks import SMALL


def identity(logits):
    """A predictor whose images are the log-probabilities already."""
    return tf.nn.log_softmax(logits)


def batches(logits, labels, batch_size):
    return tf.data.Dataset.from_tensor_slices((logits.astype("float32"), labels.astype("int32"))).batch(batch_size)


def numpy_log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_evaluate_equals_numpy_over_the_whole_split(batch_size):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (103, 12)), rng.integers(0, 12, 103)
    result = metrics.evaluate(identity, batches(logits, labels, batch_size), 12)
    place = (logits > logits[np.arange(103), labels][:, None]).sum(axis=1)
    assert result.examples == 103
    np.testing.assert_allclose(result.top1_error, (place > 0).mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.top5_error, (place > 4).mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        result.loss, -numpy_log_softmax(logits)[np.arange(103), labels].mean(), rtol=1e-5, atol=0
    )


def test_evaluate_confusion_has_labels_as_rows_and_predictions_as_columns():
    predictions, labels = np.array([1, 1, 1, 0, 2, 2]), np.array([0, 0, 0, 0, 1, 2])
    result = metrics.evaluate(identity, batches(np.eye(3)[predictions], labels, 4), 3)
    np.testing.assert_array_equal(result.confusion, [[1, 3, 0], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(result.top1_error, 4 / 6, rtol=1e-12, atol=0)


def test_evaluate_ties_go_to_the_lower_class():
    # A constant network is right once in ten and five times among five, not always.
    result = metrics.evaluate(identity, batches(np.zeros((30, 10)), np.arange(30) % 10, 7), 10)
    np.testing.assert_allclose([result.top1_error, result.top5_error], [0.9, 0.5], rtol=1e-12, atol=0)
    np.testing.assert_array_equal(result.confusion[:, 0], np.full(10, 3))


@pytest.mark.parametrize("rows", [slice(0, 2), slice(0, 10)])
def test_evaluate_outputs_that_are_not_numbers_are_wrong(rows):
    logits = np.eye(10) * 9
    logits[rows] = np.nan
    result = metrics.evaluate(identity, batches(logits, np.arange(10), 4), 10)
    wrong = len(range(10)[rows]) / 10
    assert result.examples == 10
    np.testing.assert_allclose([result.top1_error, result.top5_error], wrong, rtol=1e-12, atol=0)
    assert np.isnan(result.loss)
    np.testing.assert_array_equal(result.class_errors, np.isnan(logits[:, 0]))


def test_evaluate_one_nan_among_the_classes_makes_the_example_wrong():
    log_probabilities = np.log([[0.8, 0.1, 0.05, 0.05]])
    log_probabilities[0, 3] = np.nan
    result = metrics.evaluate(lambda images: images, batches(log_probabilities, np.array([0]), 1), 4)
    assert result.top1_error == 1


@pytest.mark.parametrize(("classes", "has_top5"), [(2, False), (5, False), (6, True)])
def test_evaluate_top5_needs_more_than_five_classes(classes, has_top5):
    result = metrics.evaluate(identity, batches(np.eye(classes), np.arange(classes), 2), classes)
    assert (result.top5_error is not None) == has_top5


def test_evaluate_refuses_an_empty_split():
    with pytest.raises(ValueError, match="no examples"):
        metrics.evaluate(identity, batches(np.zeros((0, 3)), np.zeros(0), 2), 3)


@pytest.fixture(scope="module")
def toy():
    """A linear network on 8 x 8 pixels, with weights by a formula."""
    inputs = keras.Input((8, 8, 3))
    normalized = layers.Normalize((0, 0, 0), (1, 1, 1), name="normalize")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(normalized)))
    model.set_weights([np.cos(np.arange(192 * 7)).reshape(192, 7) * 5e-3, np.arange(7) / 10])
    return model


def numpy_probabilities(model, images):
    kernel, bias = model.get_weights()
    logits = images.reshape(-1, 192).astype("float64") @ kernel + bias
    return np.exp(numpy_log_softmax(logits))


@pytest.mark.parametrize("crops", [1, 10])
def test_make_predictor_averages_the_softmax_outputs(toy, crops):
    images = np.random.default_rng(1).integers(0, 256, (4, crops, 8, 8, 3)).astype("uint8")
    probabilities = np.stack([numpy_probabilities(toy, example).mean(axis=0) for example in images])
    prediction = metrics.make_predictor(toy)(tf.constant(images)).numpy()
    assert prediction.dtype == "float32"
    np.testing.assert_allclose(np.exp(prediction), probabilities, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.exp(prediction).sum(axis=1), 1, rtol=1e-5, atol=0)


def test_predictors_of_many_networks_in_a_process_do_not_warn_of_retracing(toy, caplog, monkeypatch):
    logger = tf.get_logger()
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "level", logging.WARNING)
    for _ in range(8):
        metrics.make_predictor(toy)(tf.zeros([1, 1, 8, 8, 3], tf.uint8))
    assert "retracing" not in caplog.text


def test_load_model_computes_what_the_training_policy_does_from_smaller_weights(small_run, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    loaded, run_config, _ = load_model(small_run, precision="mixed_bfloat16")
    assert {v.dtype for v in loaded.trainable_variables} == {"bfloat16", "float32"}
    exact, _, _ = load_model(small_run, precision="float32")
    mixed = alexnet.build_model(run_config.architecture, precision="mixed_bfloat16")
    mixed.set_weights(exact.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, 67, 67, 3)).astype("uint8")
    np.testing.assert_array_equal(loaded(images), mixed(images))
