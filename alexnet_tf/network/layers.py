"""The layers that Keras lacks: input normalisation, a dropout that can be resumed and kernels that are not shared.

All of them compute as the primary sources state, under every precision policy. Nothing here knows the network.
"""

import functools
import typing
import zlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.network import xla


def on_device(layer: keras.layers.Layer, device: str | None) -> keras.layers.Layer:
    """Makes a layer that is not built yet keep its weights and compute on a device, and returns it.

    `tf.device` around the functional construction would place nothing: the layer computes when the model is called.
    Gradients follow where they are taken with `colocate_gradients_with_ops`, as in `training.train_step`.

    Args:
        layer: Any layer.
        device: As TensorFlow names it; None leaves the layer alone.
    """

    def under(function: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        @functools.wraps(function)
        def on_the_device(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
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
    """

    def __init__(self, mean: typing.Any, scale: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.mean = np.asarray(mean, "float32")
        self.scale = np.asarray(scale, "float32")
        self._fused = tf.function(self._normalize, jit_compile=True, autograph=False)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self._fused(images) if xla.is_fusing() else self._normalize(images)

    def _normalize(self, images: tf.Tensor) -> tf.Tensor:
        normalized = tf.cast(images, tf.float32) - self.mean
        if not np.all(self.scale == 1):
            normalized *= self.scale
        return tf.cast(normalized, self.compute_dtype)

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {"mean": self.mean.tolist(), "scale": self.scale.tolist()}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Dropout(keras.layers.Layer):
    """Zeroes a random part of the activations in training and scales up the rest (Section 4.2).

    The mask is a function of (seed, layer name, replica, iteration) alone; only XLA draws other numbers from the same
    seed. Keras' own layer draws the same mask on every replica and does not save its state, so that a resumed run
    differs; here the iteration is a variable that is saved. The paper halves the outputs at test time instead of
    doubling them in training: the same expectation.

    Args:
        rate: Fraction of activations dropped, in [0, 1).
        seed: Any integer. The same seed gives the same masks.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: typing.Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        # Each replica counts for itself ("on_read"): they need not meet here, which XLA could not compile.
        self.iteration = keras.Variable(
            name="iteration",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            synchronization="on_read",
        )

    @property
    def weights(self) -> list[keras.Variable]:
        """None: the counter of iterations is state, as a seed generator's, and not counted among the parameters."""
        return []

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.rate:
            return x
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant([self.seed, zlib.crc32(self.name.encode())], tf.int64)
        seed = tf.random.fold_in(seed, tf.convert_to_tensor(self.iteration.value))
        seed = tf.random.fold_in(seed, replica)
        self.iteration.assign_add(1)
        keep = tf.random.stateless_uniform(tf.shape(x), seed, alg="philox") >= self.rate
        return tf.where(keep, x / tf.cast(1 - self.rate, x.dtype), tf.zeros_like(x))

    def compute_output_spec(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocallyConnected2D(keras.layers.Layer):
    """A convolution whose kernels are not shared: each position has a kernel and a bias of its own.

    The "local" layers of cuda-convnet's CIFAR-10 networks, with a stride of one pixel. From [batch, height, width, in]
    to [batch, rows, columns, filters]. The kernel is [rows, columns, kernel_size**2 * in, filters], its third axis in
    the order of a convolution's kernel: row, column, channel.

    Args:
        filters: Output channels.
        kernel_size: Side of the kernels in pixels.
        padding: Zeros (before, after) in both directions, in pixels.
        use_bias: Whether a bias [rows, columns, filters] is added.
        kernel_initializer: As for `keras.layers.Conv2D`.
        bias_initializer: As for `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        padding: tuple[int, int] = (0, 0),
        use_bias: bool = True,
        kernel_initializer: typing.Any = "glorot_uniform",
        bias_initializer: typing.Any = "zeros",
        **kwargs: typing.Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.padding, self.use_bias = filters, kernel_size, tuple(padding), use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rows, columns = self.compute_output_shape(input_shape)[1:3]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(rows, columns, self.kernel_size**2 * int(input_shape[-1] or 0), self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = (
            self.add_weight(name="bias", shape=(rows, columns, self.filters), initializer=self.bias_initializer)
            if self.use_bias
            else None
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        rows, columns = self.kernel.shape[:2]
        # Positions first, as the matrix product needs them: what is transposed is the image and not its many patches.
        # `tf.slice`, because the gradient of `[...]` is a strided assignment, which is several times slower.
        padded = tf.pad(tf.transpose(x, (1, 2, 0, 3)), [self.padding, self.padding, (0, 0), (0, 0)])
        window = range(self.kernel_size)
        patches = tf.concat(
            [tf.slice(padded, (row, column, 0, 0), (rows, columns, -1, -1)) for row in window for column in window],
            axis=-1,
        )
        result = tf.transpose(tf.matmul(patches, tf.convert_to_tensor(self.kernel)), (2, 0, 1, 3))
        return result if self.bias is None else result + tf.convert_to_tensor(self.bias)

    def compute_output_shape(self, input_shape: typing.Any) -> tuple[int | None, ...]:
        shrinks = self.kernel_size - 1 - sum(self.padding)
        return (input_shape[0], input_shape[1] - shrinks, input_shape[2] - shrinks, self.filters)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
