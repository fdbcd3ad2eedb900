"""Where a step's time goes: its arithmetic, counted, the machine's own speed at arithmetic, and the layers' shares."""

import dataclasses
import math
import statistics
import time

import keras
import tensorflow as tf

from alexnet_tf import architectures

# Side of the square matrices whose product is the floor: large enough to be no matter of memory.
PEAK_SIZE = 2048

# For so long at least a group of layers is timed, in each direction.
_ENOUGH_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Group:
    """What a group of layers takes, alone.

    Attributes:
        name: The stage's name, or "loss" or "update".
        multiply_adds: For an image, in all passes.
        forward_seconds: For a batch.
        backward_seconds: For a batch; None in inference.
    """

    name: str
    multiply_adds: int
    forward_seconds: float
    backward_seconds: float | None


def multiply_adds(model: "keras.Model | Part", training: bool = False) -> int:
    """Returns the multiply-adds of the convolutions and dense layers, for an image; all else is small beside them.

    A training step has three times the forward pass, for the outputs, the kernels' gradients and the inputs'
    gradients, but for the layers that read the image: nobody asks for its gradient.
    """
    total = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            passes = 3 - _reads_images(layer) if training else 1
            total += passes * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    return total


def _reads_images(layer) -> bool:
    """Says whether nothing that learns stands between the input and a layer."""
    sources = [tensor._keras_history.operation for tensor in layer._inbound_nodes[0].input_tensors]
    return all(not hasattr(source, "kernel") and _reads_images(source) for source in sources)


def matmul_peak(precision: str):
    """Returns the contestant that multiplies square matrices in a policy's compute dtype: seconds -> FLOP a second."""
    a = tf.random.stateless_uniform([PEAK_SIZE] * 2, [0, 0])
    a = tf.cast(a, keras.DTypePolicy(precision).compute_dtype)
    product = tf.function(lambda: tf.matmul(a, a))

    def run(seconds: float) -> float:
        product()
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < seconds or len(times) < 3:
            times.append(_seconds(product))
        return 2 * PEAK_SIZE ** 3 / statistics.median(times)

    return run


def layer_groups(model: keras.Model, row: architectures.Architecture, images, labels, update=None) -> list[Group]:
    """Times each stage's layers alone, and in training the loss and the optimizer's update.

    A group is a model of its own, in one graph, on the activations that the ones before gave; backward is what its
    gradients add to that, for a given gradient of its outputs. So it says what a group costs by itself. It does not
    say what runs side by side in the whole step, nor what stays in the cache there: the sum is only near the step's time.

    Args:
        model: From `alexnet.build_model`.
        row: What it was built from.
        images: uint8 [batch, size, size, 3].
        labels: int [batch].
        update: In training: the function that takes the gradients. Dropout drops then, and there is a backward pass.
    """
    values, groups, training = {id(model.inputs[0]): images}, [], update is not None
    for name, part in parts(model, row).items():
        inputs = [values[id(tensor)] for tensor in part.given]
        outputs, forward, backward = _time_part(part.model, inputs, training, wants_inputs=bool(groups))
        values |= dict(zip(map(id, part.made), outputs))
        groups.append(Group(name, multiply_adds(part, training), forward, backward))
    if training:
        groups += [_time_loss(outputs[0], labels), _time_update(model, update)]
    return groups


@dataclasses.dataclass(frozen=True)
class Part:
    """Some layers of a network as a model of their own.

    Attributes:
        layers: The layers, which are shared with the whole.
        given: The whole's tensors that go in.
        made: The whole's tensors that come out.
        model: From `given` to `made`.
    """

    layers: list
    given: list
    made: list
    model: keras.Model


def parts(model: keras.Model, row: architectures.Architecture) -> dict[str, Part]:
    """Returns the stages' parts by their names. What has no stage's name goes with its reader, the last with the last."""
    members, readers = {stage.name: [] for stage in row.stages}, {}
    for layer in reversed(model.operations[1:]):
        reader = readers.get(id(tf.nest.flatten(layer.output)[0]), row.stages[-1].name)
        name = layer.name.split("_")[0]
        name = name if name in members else reader
        members[name].append(layer)
        readers |= {id(tensor): name for tensor in layer._inbound_nodes[0].input_tensors}
    return {name: _part(layers, model.outputs) for name, layers in members.items()}


def _part(layers, last) -> Part:
    made = {id(tensor): tensor for layer in layers for tensor in tf.nest.flatten(layer.output)}
    read = {id(tensor): tensor for layer in layers for tensor in layer._inbound_nodes[0].input_tensors}
    given = [tensor for key, tensor in read.items() if key not in made]
    ends = {id(tensor) for tensor in last}
    leaving = [tensor for key, tensor in made.items() if key not in read or key in ends]
    return Part(layers, given, leaving, keras.Model(given, leaving))


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
        wanted = [variable.value for variable in part.trainable_variables] + (inputs if wants_inputs else [])
        return tape.gradient(results, wanted, upstream)

    return outputs, seconds, max(0.0, _median_seconds(both) - seconds)


def _time_loss(logits, labels):
    forward = tf.function(lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    both = tf.function(lambda: tf.gradients(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), logits))
    seconds = _median_seconds(forward)
    return Group("loss", 0, seconds, max(0.0, _median_seconds(both) - seconds))


def _time_update(model, update):
    gradients = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
    return Group("update", 0, 0.0, _median_seconds(tf.function(lambda: update(gradients))))


def _median_seconds(call) -> float:
    """Returns the median of at least five calls, after two that count not."""
    call(), call()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < _ENOUGH_SECONDS:
        times.append(_seconds(call))
    return statistics.median(times)


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
