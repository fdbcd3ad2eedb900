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


def _power(s: tf.Tensor, beta: float) -> tf.Tensor:
    """Returns s ** -beta; for .75, the value of every source, without the slow general power."""
    if beta == 0.75:
        r = tf.math.rsqrt(s)
        return r * tf.sqrt(r)
    return s ** -beta


def _fused_normalization(depth_radius: int, bias: float, alpha: float, beta: float):
    """Returns the functions (pad, forward, backward) of LRN, float32 inside, on [batch, height, width, channels].

    pad: x -> x with zeros before and after its channels; forward: that -> y; backward: that and dy -> dx.

    Each pass over the memory is a function that XLA fuses. What is added up over a window is whole and padded before:
    in the same pass that costs more than a pass of its own. To compute the powers again backwards is faster than to
    read them, and to divide by square roots is faster than to multiply by reciprocal ones.
    """
    def pad(x):
        return tf.pad(x, [[0, 0]] * 3 + [[depth_radius, depth_radius]])

    def windows(padded):
        channels = padded.shape[-1] - 2 * depth_radius
        return [tf.cast(padded[..., shift:shift + channels], tf.float32) for shift in range(2 * depth_radius + 1)]

    def parts(padded):
        """Returns x and the sum s, by whose power of beta it is divided."""
        neighbours = windows(padded)
        return neighbours[depth_radius], bias + alpha * tf.add_n([tf.square(x) for x in neighbours])

    def power(s):
        return tf.sqrt(s) * tf.sqrt(tf.sqrt(s)) if beta == 0.75 else s ** beta

    @tf.function(jit_compile=True, autograph=False)
    def forward(padded):
        x, s = parts(padded)
        return tf.cast(x / power(s), padded.dtype)

    @tf.function(jit_compile=True, autograph=False)
    def summands(padded, dy):
        x, s = parts(padded)
        return tf.cast(dy, tf.float32) * x / (s * power(s))

    @tf.function(jit_compile=True, autograph=False)
    def combine(padded, dy, padded_summands):
        x, s = parts(padded)
        dx = tf.cast(dy, tf.float32) / power(s) - (2 * alpha * beta) * x * tf.add_n(windows(padded_summands))
        return tf.cast(dx, padded.dtype)

    return pad, forward, lambda padded, dy: combine(padded, dy, pad(summands(padded, dy)))


def _normalize_fused(*constants):
    pad, forward, backward = _fused_normalization(*constants)

    @tf.custom_gradient
    def normalize(x):
        padded = pad(x)
        return forward(padded), lambda dy: backward(padded, dy)

    return normalize


def _normalize_for_training(*constants):
    """TensorFlow's own op; its own gradient takes three to four times as long as this one."""
    forward = _normalize_builtin(*constants)
    pad, _, backward = _fused_normalization(*constants)

    @tf.custom_gradient
    def normalize(x):
        return forward(x), lambda dy: backward(pad(x), dy)

    return normalize


def _normalize_builtin(depth_radius: int, bias: float, alpha: float, beta: float):
    return lambda x: tf.cast(tf.nn.local_response_normalization(
        tf.cast(x, tf.float32), depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta), x.dtype)


def _normalize_by_convolution(depth_radius: int, bias: float, alpha: float, beta: float):
    def normalize(x):
        channels = np.arange(x.shape[-1])
        band = np.abs(np.subtract.outer(channels, channels)) <= depth_radius
        kernel = tf.constant((alpha * band).astype("float32")[None, None])
        x32 = tf.cast(x, tf.float32)
        s = bias + tf.nn.conv2d(tf.square(x32), kernel, strides=1, padding="VALID")
        return tf.cast(x32 * _power(s, beta), x.dtype)

    return normalize


# How LRN can be computed. All agree to 1e-6; they differ in speed and in what takes them.
_LRN_FORMS = {
    "training": _normalize_for_training, "fused": _normalize_fused, "builtin": _normalize_builtin,
    "convolution": _normalize_by_convolution}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Normalises each activation by its neighbours in the channels: x / (bias + alpha * sum of squares)^beta.

    Section 3.3. Computed in float32 under every policy: TensorFlow's op has no bfloat16 kernel, and its float16 one
    fails under XLA. Zeros are assumed outside the channels.

    Args:
        depth_radius: Half width of the window: n = 2 * depth_radius + 1.
        bias: The paper's k.
        alpha: As in the paper's formula: not divided by n (Caffe and PyTorch divide).
        beta: Exponent.
        form: "training": TensorFlow's op with a fast gradient. "fused": forward too in one pass by XLA; what `train.py`
            and `evaluation` take. For exported graphs, which carry no gradient of ours:
            "builtin": the op alone; "convolution": a banded 1 x 1 convolution, for hardware that knows no LRN.
    """

    def __init__(self, depth_radius, bias, alpha, beta, form="training", **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta, self.form = depth_radius, bias, alpha, beta, form
        self._normalize = _LRN_FORMS[form](depth_radius, bias, alpha, beta)

    def call(self, x):
        return self._normalize(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def get_config(self):
        return super().get_config() | {
            "depth_radius": self.depth_radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta,
            "form": self.form}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class SameMapNormalization(keras.layers.Layer):
    """Normalises each activation by its neighbours in the same map: cuda-convnet's `rnorm`, Caffe's WITHIN_CHANNEL.

    The window is a square of 2 * radius + 1 pixels with zeros outside the map; float32 under every policy.

    Args:
        radius: Half width of the window in pixels.
        bias: Constant term.
        alpha: Multiplies the sum of squares as it is: cuda-convnet's `scale` divided by the window's area.
        beta: Exponent.
    """

    def __init__(self, radius, bias, alpha, beta, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.radius, self.bias, self.alpha, self.beta = radius, bias, alpha, beta

    def call(self, x):
        size, pad = 2 * self.radius + 1, [self.radius, self.radius]
        x32 = tf.cast(x, tf.float32)
        # Padded by hand: average pooling with padding="SAME" would divide by the clipped area at the border.
        squares = tf.pad(tf.square(x32), [[0, 0], pad, pad, [0, 0]])
        s = self.bias + self.alpha * size ** 2 * tf.nn.avg_pool2d(squares, size, 1, "VALID")
        return tf.cast(x32 * _power(s, self.beta), x.dtype)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def get_config(self):
        return super().get_config() | {
            "radius": self.radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}


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
