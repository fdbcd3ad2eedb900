"""What a step does to a weight, and a run to the learning rate: the paper's SGD and the schedules.

Knows neither data nor files.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.network import xla

# A weight of more elements gains more by a fused update than the second or so of compiling it costs at the start.
_WORTH_COMPILING = 100_000


class MomentumSGD(keras.optimizers.SGD):
    """SGD with the paper's update (Section 5; Caffe's is the same).

    velocity = momentum * velocity - rate * (gradient + kernel_decay * kernel), weight += velocity. Keras'
    `weight_decay=` is applied outside the velocity, and an L2 regulariser would be in every printed loss.
    Each weight, and its velocity, is where the weight is. Replicas hand in the sum of their gradients.

    Args:
        kernel_decay: Decay of kernels; biases have none, as in cuda-convnet and Caffe.
        clip_norm: Largest norm of the gradient over all weights; 0 leaves it alone.
        layer_multipliers: Factors on the rate of single layers, by name, for kernels and biases.
        layer_decays: Decay of single layers' kernels, by name, instead of `kernel_decay`.
        **kwargs: As for `keras.optimizers.SGD`.

    Attributes:
        bias_multiplier: Rate of the biases over the kernels'; a variable.
        conv1_multiplier: A further factor on conv1's kernels; at 0 conv1 gets no update and no decay at all.
    """

    def __init__(
        self,
        *args: Any,
        kernel_decay: float,
        clip_norm: float = 0.0,
        layer_multipliers: Mapping[str, float] | None = None,
        layer_decays: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.kernel_decay, self.largest_norm, self.layer_multipliers = kernel_decay, clip_norm, layer_multipliers or {}
        self.layer_decays = layer_decays or {}
        self.bias_multiplier = tf.Variable(1.0, trainable=False)
        self.conv1_multiplier = tf.Variable(1.0, trainable=False)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes a velocity for each variable."""
        super().build(variables)
        if not self.momentum:  # Keras makes none then.
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def apply(
        self, gradients: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Bounds the norm of the gradients and updates all variables."""
        trainable_variables = trainable_variables or self._trainable_variables
        self._factor = tf.constant(1.0)
        if self.largest_norm:
            squares = []
            for gradient, variable in zip(gradients, trainable_variables, strict=True):
                with _beside(variable):
                    squares.append(2 * tf.nn.l2_loss(gradient))
            self._factor = self.largest_norm / tf.maximum(tf.sqrt(tf.add_n(squares)), self.largest_norm)
        super().apply(gradients, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)  # They are summed up already: Keras would do it after their norm was bounded.

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable and its velocity."""
        velocity = self.momentums[self._get_variable_index(variable)]
        path = velocity.path.removesuffix("_momentum").rpartition("/")[2]
        rate = tf.cast(learning_rate, variable.dtype) * self.layer_multipliers.get(path.rpartition("_")[0], 1.0)
        decay, is_conv1 = 0.0, path.startswith("conv1")
        if path.endswith("bias"):
            rate *= self.bias_multiplier
        else:
            decay = self.layer_decays.get(path.rpartition("_")[0], self.kernel_decay)
            rate *= self.conv1_multiplier if is_conv1 else 1.0
        keep = tf.cast(self.conv1_multiplier != 0, variable.dtype) if is_conv1 else tf.constant(1.0)
        update = _fused_update if variable.shape.num_elements() > _WORTH_COMPILING and xla.is_usable() else _update
        with tf.device(variable.device):
            new_velocity, new_variable = update(
                variable.read_value(),
                tf.convert_to_tensor(velocity),
                gradient,
                self._factor,
                rate,
                decay,
                self.momentum,
                keep,
            )
            self.assign(velocity, new_velocity)
            self.assign(variable, new_variable)


def _beside(variable: keras.Variable):
    """Returns the scope of a variable's device; a strategy places by itself."""
    return contextlib.nullcontext() if tf.distribute.has_strategy() else tf.device(variable.value.device)


def _update(variable, velocity, gradient, factor, rate, decay, momentum, keep):
    """Returns the new velocity and the new weight."""
    velocity = keep * (momentum * velocity - rate * (factor * gradient + decay * variable))
    return velocity, variable + velocity


# XLA makes it one pass over the memory instead of seven.
_fused_update = tf.function(_update, jit_compile=True, autograph=False)
