"""Where a step's time goes: its arithmetic, counted, the machine's own speed at arithmetic, and the layers' shares."""

import dataclasses
import math
import statistics
import time

import keras
import tensorflow as tf

from alexnet_tf import config

# Side of the square matrices whose product is the floor: large enough to be no matter of memory.
FLOOR_SIZE = 2048


@dataclasses.dataclass(frozen=True)
class Group:
    """What a group of layers takes, alone.

    Attributes:
        name: The stage's name, or "loss" or "update".
        multiply_adds: Of the forward pass, for an image.
        forward_seconds: For a batch.
        backward_seconds: For a batch; None in inference.
    """

    name: str
    multiply_adds: int
    forward_seconds: float
    backward_seconds: float | None


def multiply_adds(model: keras.Model, training: bool = False) -> int:
    """Returns the multiply-adds of the convolutions and dense layers, for an image; all else is small beside them.

    A training step has three times the forward pass, for the outputs, the kernels' gradients and the inputs'
    gradients, but for the layers that read the image: nobody asks for its gradient.
    """
    total = 0
    for layer in _weighing_layers(model):
        passes = 3 - _reads_images(layer) if training else 1
        total += passes * _multiply_adds(layer)
    return total


def _weighing_layers(model):
    return [layer for layer in model.layers if hasattr(layer, "kernel")]


def _multiply_adds(layer) -> int:
    return math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])


def _reads_images(layer) -> bool:
    """Says whether nothing that learns stands between the input and a layer."""
    sources = [tensor._keras_history.operation for tensor in layer._inbound_nodes[0].input_tensors]
    return all(not hasattr(source, "kernel") and _reads_images(source) for source in sources)


def floor(precision: str):
    """Returns the contestant that multiplies square matrices in a policy's compute dtype: seconds -> FLOP a second."""
    a = tf.random.stateless_uniform([FLOOR_SIZE] * 2, [0, 0])
    a = tf.cast(a, keras.DTypePolicy(precision).compute_dtype)
    product = tf.function(lambda: tf.matmul(a, tf.stop_gradient(a)))

    def run(seconds: float) -> float:
        product()
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < seconds or len(times) < 3:
            times.append(_seconds(product))
        return 2 * FLOOR_SIZE ** 3 / statistics.median(times)

    return run


def layer_groups(model: keras.Model, row: config.Architecture, images, labels, *, training: bool) -> list[Group]:
    """Times each stage's layers alone, and in training the loss and the optimizer's update.

    A group is a model of its own, in one graph, on the activations that the ones before gave; backward is what its
    gradients add to that, for a given gradient of its outputs. So it says what a group costs by itself. It does not
    say what runs side by side in the whole step, nor what stays in the cache there: the sum is only near the step's time.

    Args:
        model: Compiled, if for training.
        row: What it was built from.
        images: uint8 [batch, size, size, 3].
        labels: int [batch].
        training: Whether dropout drops and there is a backward pass.
    """
    stages = [stage.name for stage in row.stages]
    members = {name: [] for name in stages}
    for layer in model.layers[1:]:
        name = layer.name.split("_")[0]
        members[name if name in members else stages[-1] if layer.name == "logits" else stages[0]].append(layer)
    groups, values = [], {id(model.inputs[0]): images}
    for name, layers in members.items():
        part = _part(layers, model.outputs)
        inputs = [values[id(tensor)] for tensor in part.given]
        outputs, forward, backward = _time_part(part.model, inputs, training, name != stages[0])
        values |= dict(zip(map(id, part.made), outputs))
        groups.append(Group(name, sum(_multiply_adds(layer) for layer in layers if hasattr(layer, "kernel")), forward, backward))
    if training:
        groups += [_time_loss(model, outputs[0], labels), _time_update(model)]
    return groups


@dataclasses.dataclass(frozen=True)
class _Part:
    """A model of some layers, the tensors of the whole that go in, and those that come out."""

    model: keras.Model
    given: list
    made: list


def _part(layers, last) -> _Part:
    made = {id(tensor): tensor for layer in layers for tensor in tf.nest.flatten(layer.output)}
    read = [tensor for layer in layers for tensor in layer._inbound_nodes[0].input_tensors]
    given = list({id(tensor): tensor for tensor in read if id(tensor) not in made}.values())
    inside = {id(tensor) for tensor in read}
    outgoing = [tensor for key, tensor in made.items() if key not in inside or any(tensor is each for each in last)]
    return _Part(keras.Model(given, outgoing), given, outgoing)


def _time_part(part, inputs, training, wants_inputs):
    """Returns (outputs, seconds forward, seconds backward)."""
    forward = tf.function(lambda: tf.nest.flatten(part(inputs, training=training)))
    outputs = forward()
    seconds = _median_seconds(forward)
    if not training:
        return outputs, seconds, None
    upstream = [tf.random.stateless_normal(tf.shape(y), [0, 1], dtype=y.dtype) for y in outputs]

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            if wants_inputs:
                tape.watch(inputs)
            results = tf.nest.flatten(part(inputs, training=True))
        wanted = part.trainable_variables + (inputs if wants_inputs else [])
        return tape.gradient(results, [v.value if hasattr(v, "value") and not tf.is_tensor(v) else v for v in wanted], upstream)

    return outputs, seconds, max(0.0, _median_seconds(both) - seconds)


def _time_loss(model, logits, labels):
    forward = tf.function(lambda: model.compute_loss(None, labels, logits))

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = model.compute_loss(None, labels, logits)
        return tape.gradient(loss, logits)

    seconds = _median_seconds(forward)
    return Group("loss", 0, seconds, max(0.0, _median_seconds(both) - seconds))


def _time_update(model):
    gradients = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
    update = tf.function(lambda: model.optimizer.apply_gradients(zip(gradients, model.trainable_variables)))
    return Group("update", 0, 0.0, _median_seconds(update))


def _median_seconds(call) -> float:
    """Returns the median of at least five calls over a third of a second, after two that count not."""
    call(), call()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 0.33:
        times.append(_seconds(call))
    return statistics.median(times)


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
