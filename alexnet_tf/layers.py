"""The layers that Keras lacks: input normalisation, local response normalisation and a dropout that can be resumed.

All of them compute as the primary sources state, under every precision policy. Nothing here knows the network.
"""

import functools
import zlib

import keras
import numpy as np
import tensorflow as tf


def on_device(layer: keras.layers.Layer, device: str | None) -> keras.layers.Layer:
    """Makes a layer that is not built yet keep its weights and compute on a device, and returns it.

    `tf.device` around the functional construction would place nothing: the layer computes when the model is called.
    Gradients follow where they are taken with `colocate_gradients_with_ops`, as in `steps`.

    Args:
        layer: Any.
        device: As TensorFlow names it; None leaves the layer alone.
    """
    def under(function):
        @functools.wraps(function)
        def on_the_device(*args, **kwargs):
            with tf.device(device):
                return function(*args, **kwargs)
        return on_the_device

    if device:
        layer.build, layer.call = under(layer.build), under(layer.call)
    return layer


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Normalize(keras.layers.Layer):
    """Computes (images - mean) * scale in float32 and hands it on in the policy's compute dtype.

    The constants are part of the graph and not weights, so that a checkpoint depends on the architecture only.

    Args:
        mean: RGB in [0, 255]: shape [3], or [height, width, 3] for a mean image.
        scale: Factor for each channel, shape [3].
        fused: Whether XLA makes one pass of it. Exported graphs do without.
    """

    def __init__(self, mean, scale, fused=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.mean = np.asarray(mean, "float32")
        self.scale = np.asarray(scale, "float32")
        self.fused = fused
        self._compute = tf.function(self._normalize, jit_compile=True, autograph=False) if fused else self._normalize

    def call(self, images):
        return self._compute(images)

    def _normalize(self, images):
        normalized = tf.cast(images, tf.float32) - self.mean
        if not np.all(self.scale == 1):
            normalized *= self.scale
        return tf.cast(normalized, self.compute_dtype)

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "fused": self.fused}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Dropout(keras.layers.Layer):
    """Zeroes a random part of the activations in training and scales up the rest (Section 4.2).

    The mask is a function of (seed, layer name, replica, iteration) alone; only XLA draws other numbers from the same
    seed. Keras' own draws the same mask on every
    replica and keeps its state outside the weights, so that a resumed run differs; here the iteration is a weight.
    The paper halves the outputs at test time instead of doubling them in training: the same expectation.

    Args:
        rate: Fraction of activations dropped, in [0, 1).
        seed: Any integer. The same seed gives the same masks.
    """

    def __init__(self, rate, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed

    def build(self, input_shape):
        # Each replica counts for itself ("on_read"): they need not meet here, which XLA could not compile.
        self.iteration = keras.Variable(
            name="iteration", shape=(), dtype="int64", initializer="zeros", trainable=False, autocast=False,
            aggregation="only_first_replica", synchronization="on_read")

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant([self.seed, zlib.crc32(self.name.encode())], tf.int64)
        seed = tf.random.fold_in(seed, tf.convert_to_tensor(self.iteration.value))
        seed = tf.random.fold_in(seed, replica)
        self.iteration.assign_add(1)
        keep = tf.random.stateless_uniform(tf.shape(x), seed, alg="philox") >= self.rate
        return tf.where(keep, x / tf.cast(1 - self.rate, x.dtype), tf.zeros_like(x))

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
