"""Local response normalization: the layers and the implementations that compute them."""

import functools
import typing

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.network import xla


def _power(s: tf.Tensor, beta: float) -> tf.Tensor:
    """Returns s ** -beta; for .75, the value of every source, without the slow general power."""
    if beta == 0.75:
        r = tf.math.rsqrt(s)
        return r * tf.sqrt(r)
    return s**-beta


@functools.cache  # So that layers of equal constants and shapes share what XLA compiles.
def _fused(depth_radius: int, bias: float, alpha: float, beta: float):
    """Returns LRN with its gradient, float32 inside, on [batch, height, width, channels].

    Each pass over the memory is a function that XLA fuses. What is added up over a window is whole and padded before:
    in the same pass that costs more than a pass of its own. To compute the powers again backwards is faster than to
    read them, and to divide by square roots is faster than to multiply by reciprocal ones.
    """

    def pad(x):
        """Returns x with zeros before and after its channels."""
        return tf.pad(x, [[0, 0]] * 3 + [[depth_radius, depth_radius]])

    def windows(padded):
        channels = padded.shape[-1] - 2 * depth_radius
        return [tf.cast(padded[..., shift : shift + channels], tf.float32) for shift in range(2 * depth_radius + 1)]

    def parts(padded):
        """Returns x and the sum s, by whose power of beta it is divided."""
        neighbours = windows(padded)
        return neighbours[depth_radius], bias + alpha * tf.add_n([tf.square(x) for x in neighbours])

    def power(s):
        return tf.sqrt(s) * tf.sqrt(tf.sqrt(s)) if beta == 0.75 else s**beta

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

    @tf.custom_gradient
    def normalize(x):
        padded = pad(x)
        return forward(padded), lambda dy: combine(padded, dy, pad(summands(padded, dy)))

    return normalize


def _builtin(depth_radius: int, bias: float, alpha: float, beta: float):
    return lambda x: tf.cast(
        tf.nn.local_response_normalization(
            tf.cast(x, tf.float32), depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta
        ),
        x.dtype,
    )


def _convolution(depth_radius: int, bias: float, alpha: float, beta: float):
    def normalize(x):
        channels = np.arange(x.shape[-1])
        band = np.abs(np.subtract.outer(channels, channels)) <= depth_radius
        kernel = tf.constant((alpha * band).astype("float32")[None, None])
        x32 = tf.cast(x, tf.float32)
        s = bias + tf.nn.conv2d(tf.square(x32), kernel, strides=1, padding="VALID")
        return tf.cast(x32 * _power(s, beta), x.dtype)

    return normalize


# All agree to 1e-6; they differ in speed and in what can run them.
IMPLEMENTATIONS = {"builtin": _builtin, "convolution": _convolution}


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
        implementation: "builtin": `tf.nn.local_response_normalization`; within `xla.fused_kernels`, as training,
            evaluation and prediction are, one fused pass forward and a fast gradient. "convolution": a banded 1 x 1
            convolution, for hardware without LRN.

    Raises:
        ValueError: If the implementation is not known.
    """

    def __init__(
        self,
        depth_radius: int,
        bias: float,
        alpha: float,
        beta: float,
        implementation: str = "builtin",
        **kwargs: typing.Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {list(IMPLEMENTATIONS)}; got {implementation!r}.")
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta
        self.implementation = implementation
        self._normalize = IMPLEMENTATIONS[implementation](depth_radius, bias, alpha, beta)
        self._fused = _fused(depth_radius, bias, alpha, beta)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        is_fused = self.implementation == "builtin" and xla.is_fusing()
        return self._fused(x) if is_fused else self._normalize(x)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
            "implementation": self.implementation,
        }


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

    def __init__(self, radius: int, bias: float, alpha: float, beta: float, **kwargs: typing.Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.radius, self.bias, self.alpha, self.beta = radius, bias, alpha, beta

    def call(self, x: tf.Tensor) -> tf.Tensor:
        size, pad = 2 * self.radius + 1, [self.radius, self.radius]
        x32 = tf.cast(x, tf.float32)
        # Padded by hand: average pooling with padding="SAME" would divide by the clipped area at the border.
        squares = tf.pad(tf.square(x32), [[0, 0], pad, pad, [0, 0]])
        s = self.bias + self.alpha * size**2 * tf.nn.avg_pool2d(squares, size, 1, "VALID")
        return tf.cast(x32 * _power(s, self.beta), x.dtype)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {"radius": self.radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
