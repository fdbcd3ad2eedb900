"""Where does a step's time go? Its multiply-adds, the machine's matmul peak, and the time of each stage alone."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures
from alexnet_tf.support import devices, timing

# Side of the square matrices whose product gives the peak: too large to be bound by memory, or by a GPU's launches.
PEAK_SIZE, GPU_PEAK_SIZE = 2048, 8192

# Shortest time for which each pass of a stage is repeated.
_LEAST_SECONDS = 0.3


def wait() -> None:
    """Returns when GPUs, which compute asynchronously, have finished all steps so far."""
    if devices.gpus():
        tf.test.experimental.sync_devices()


@dataclass(frozen=True)
class StageTime:
    """The time of a stage alone."""

    name: str  # The stage's, or "loss" or "update".
    multiply_adds: int  # Per image, in all passes.
    forward_seconds: float  # Per batch.
    backward_seconds: float | None  # Per batch; None in inference.


def multiply_adds(architecture: architectures.Architecture, is_training: bool = False) -> dict[str, int]:
    """Returns the multiply-adds of each stage's convolutions or dense layers per image.

    A training step has three passes, for outputs, gradients of the kernels and gradients of the inputs; the first
    stage needs no gradient of the image.
    """
    shapes = architecture.tower_shapes()
    return {
        stage.name: stage.towers * shapes[stage.name].multiply_adds * (3 - (index == 0) if is_training else 1)
        for index, stage in enumerate(architecture.stages)
    }


def matmul_peak(precision: str) -> rounds.Trial:
    """Returns the trial that multiplies square matrices in a dtype policy's compute dtype: FLOP a second."""
    size = GPU_PEAK_SIZE if devices.gpus() else PEAK_SIZE
    a = tf.cast(tf.random.stateless_uniform([size] * 2, [0, 0]), keras.DTypePolicy(precision).compute_dtype)
    product = tf.function(lambda: tf.matmul(a, a))
    return lambda seconds: 2 * size**3 / _median_seconds(product, seconds)


def profile(
    model: keras.Model,
    architecture: architectures.Architecture,
    images: tf.Tensor,
    labels: tf.Tensor,
    update: Callable | None = None,
) -> list[StageTime]:
    """Times each stage alone, and in training the loss and the optimizer's update.

    Each stage runs as a model in one graph, on the activations of the stages before it. The backward time is what its
    gradients add to the forward time, for a given gradient of its outputs. In the whole step stages may overlap and
    find their inputs in the cache, so the sum is only near the step's time.

    Args:
        model: From `alexnet.build_model`.
        architecture: The model's architecture.
        images: uint8 [batch, size, size, 3].
        labels: int [batch].
        update: In training, the function that applies gradients; None for inference, without dropout and backward
            passes.
    """
    values, is_training = {id(model.inputs[0]): images}, update is not None
    stages: list[StageTime] = []
    counts = multiply_adds(architecture, is_training)
    for name, (part, begin, end) in split_stages(model, architecture).items():
        inputs = [values[id(tensor)] for tensor in begin]
        outputs, *seconds = _time_passes(
            lambda inputs, part=part: part(inputs, training=is_training),
            inputs,
            part.trainable_variables,
            is_training,
            wants_inputs=bool(stages),
        )
        values |= zip(map(id, end), outputs, strict=True)
        stages.append(StageTime(name, counts[name], *seconds))
    if update is not None:
        _, *seconds = _time_passes(
            lambda inputs: tf.nn.sparse_softmax_cross_entropy_with_logits(labels, inputs[0]), outputs, [], True, True
        )
        gradients = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
        stages += [
            StageTime("loss", 0, *seconds),
            StageTime("update", 0, 0.0, _median_seconds(tf.function(lambda: update(gradients)), _LEAST_SECONDS)),
        ]
    return stages


def split_stages(
    model: keras.Model, architecture: architectures.Architecture
) -> dict[str, tuple[keras.Model, list, list]]:
    """Returns each stage as (model of the network's layers, the network's tensors at its start, those at its end)."""

    def last(name):
        return [layer for layer in model.layers if layer.name == name or layer.name.startswith(f"{name}_")][-1]

    parts, begin = {}, model.inputs
    for stage in architecture.stages:
        are_joined = not last(stage.name).name.startswith(stage.layer_names)
        end = [last(name).output for name in ([stage.name] if are_joined else stage.layer_names)]
        end = model.outputs if stage is architecture.stages[-1] else end
        parts[stage.name] = keras.Model(begin, end), begin, end
        begin = end
    return parts


def _time_passes(function, inputs, variables, is_training, wants_inputs):
    """Returns (outputs of a function, its seconds forward, its seconds backward or None for inference)."""
    forward = tf.function(lambda: tf.nest.flatten(function(inputs)))
    outputs, seconds = forward(), _median_seconds(forward, _LEAST_SECONDS)
    if not is_training:
        return outputs, seconds, None
    upstream = [tf.random.stateless_normal(tf.shape(y), [0, 1], dtype=y.dtype) for y in outputs]

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            if wants_inputs:
                tape.watch(inputs)
            results = tf.nest.flatten(function(inputs))
        wanted = [variable.value for variable in variables] + (inputs if wants_inputs else [])
        return tape.gradient(results, wanted, upstream)

    return outputs, seconds, max(0.0, _median_seconds(both, _LEAST_SECONDS) - seconds)


def _median_seconds(call, least_seconds):
    return timing.median_seconds(lambda: (call(), wait()), calls=3, least_seconds=least_seconds)
