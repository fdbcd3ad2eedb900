"""Keras' own `fit` of a small network, in a process of its own: its strategies leave collective operations behind."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import alexnet_tf
from alexnet_tf.network import architectures
from tests.helpers.networks import SMALL

IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 67, 67, 3)).astype("float32")


def plain(seed=0, **options):
    """Returns a network without dropout, so that training it twice is the same."""
    small = architectures.with_initialization(SMALL, "he")
    return alexnet_tf.build_model(dataclasses.replace(small, dropout_rate=0.0), seed=seed, **options)


def fit(is_mirrored):
    """Trains for an epoch of two steps; returns the weights before, the weights after, and the losses."""
    strategy = tf.distribute.get_strategy()
    if is_mirrored:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = plain(num_classes=5)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    before = [variable.numpy() for variable in model.trainable_variables]
    losses = model.fit(IMAGES, np.arange(8) % 5, batch_size=4, shuffle=False, verbose=0).history["loss"]
    return before, [variable.numpy() for variable in model.trainable_variables], losses
