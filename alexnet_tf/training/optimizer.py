"""What a step does to the weights, in pieces: bound the gradient, decay, multiply the rates, and the update rule.

The rules are in `network.update_rules`. Knows neither data nor files.
"""

import contextlib
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from alexnet_tf.network import recipes, update_rules, xla
from alexnet_tf.network.schedules import Rates

# A weight of more elements gains more by a fused update than the second or so of compiling it costs at the start.
_WORTH_COMPILING = 100_000


class Optimizer(keras.optimizers.Optimizer):
    """An update rule with the paper's decay, before it, and the rates of layers and biases.

    Keras' `weight_decay=` is applied outside of the velocity, and an L2 regulariser would be in every printed loss.
    Biases have no decay, as in cuda-convnet and Caffe. Each weight, and what the rule remembers of it, is where the
    weight is. Replicas hand in the sum of their gradients.

    Args:
        recipe: The rule, its momentum, the decay, and the largest norm of the gradient over all weights.
        layer_multipliers: Factors on the rate of single layers, by name, for kernels and biases.
        layer_decays: Decay of single layers' kernels, by name, instead of the recipe's.
    """

    def __init__(
        self,
        recipe: recipes.Recipe,
        layer_multipliers: Mapping[str, float] | None = None,
        layer_decays: Mapping[str, float] | None = None,
    ):
        super().__init__(recipe.learning_rate, name=recipe.optimizer)
        self._recipe, self._rule = recipe, update_rules.UPDATE_RULES[recipe.optimizer]
        self._multipliers, self._decays = dict(layer_multipliers or {}), dict(layer_decays or {})
        self._rates: Rates | None = None
        self._bias_multiplier = tf.Variable(1.0, trainable=False)
        self._conv1_multiplier = tf.Variable(1.0, trainable=False)  # At 0 conv1 gets no update and no decay at all.
        # XLA makes an update one pass over the memory instead of seven.
        self._fused_update = tf.function(self._update, jit_compile=True, autograph=False)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes what the rule remembers of each variable."""
        super().build(variables)
        self._names = [variable.path.rpartition("/")[::2] for variable in variables]
        self._slots = [self.add_optimizer_variables(variables, name) for name in self._rule.slots]

    def set_rates(self, rates: Rates) -> None:
        """Sets the learning rates of the next step; costs nothing where they stay as they are."""
        before, self._rates = self._rates, rates
        if before is None or before.bias_multiplier != rates.bias_multiplier:
            self._bias_multiplier.assign(rates.bias_multiplier)
        if before is None or before.conv1_multiplier != rates.conv1_multiplier:
            self._conv1_multiplier.assign(rates.conv1_multiplier)
        if before is None or before.kernels != rates.kernels:
            self.learning_rate = rates.kernels

    def apply(
        self, gradients: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Bounds the norm of the gradients and updates all variables."""
        trainable_variables = trainable_variables or self._trainable_variables
        self._factor = _clip_factor(gradients, trainable_variables, self._recipe.clip_norm)
        super().apply(gradients, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)  # They are summed up already: Keras would do it after their norm was bounded.

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable and what is remembered of it."""
        index = self._get_variable_index(variable)
        layer, kind = self._names[index]
        slots = [each[index] for each in self._slots]
        rate = tf.cast(learning_rate, variable.dtype) * self._multipliers.get(layer, 1.0)
        decay, keep = 0.0, tf.constant(1.0)
        if kind == "bias":
            rate *= self._bias_multiplier
        else:
            decay = self._decays.get(layer, self._recipe.weight_decay)
        if layer.startswith("conv1"):
            rate *= self._conv1_multiplier if kind != "bias" else 1.0
            keep = tf.cast(self._conv1_multiplier != 0, variable.dtype)
        is_large = variable.shape.num_elements() > _WORTH_COMPILING and xla.is_usable()
        step = tf.cast(self.iterations, tf.float32) + 1
        with tf.device(variable.device):
            values = (self._fused_update if is_large else self._update)(
                [variable.read_value(), *map(tf.convert_to_tensor, slots)],
                gradient,
                self._factor,
                rate,
                keep,
                step,
                decay,
            )
            for target, value in zip([*slots, variable], [*values[1:], values[0]], strict=True):
                self.assign(target, value)

    def _update(self, values, gradient, factor, rate, keep, step, decay):
        """Returns the new weight and the new slots; `values` are the old ones. All but the decay are tensors."""
        weight, *slots = values
        gradient = factor * gradient
        if not self._rule.is_decoupled:
            gradient += decay * weight
        change, slots = self._rule.change(gradient, slots, rate, step, self._recipe.momentum)
        if self._rule.is_decoupled:
            change -= rate * decay * weight
        return [weight + keep * change, *(keep * slot for slot in slots)]


def _clip_factor(gradients, variables, largest_norm):
    """Returns what bounds the norm of all gradients together; 1 where it is small enough, or nothing bounds it."""
    if not largest_norm:
        return tf.constant(1.0)
    squares = []
    for gradient, variable in zip(gradients, variables, strict=True):
        # A strategy places by itself.
        with contextlib.nullcontext() if tf.distribute.has_strategy() else tf.device(variable.value.device):
            squares.append(2 * tf.nn.l2_loss(gradient))
    return largest_norm / tf.maximum(tf.sqrt(tf.add_n(squares)), largest_norm)
