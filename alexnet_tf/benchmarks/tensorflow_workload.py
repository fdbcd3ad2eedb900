"""The network as `training` trains it and `evaluation` predicts with it, stage by stage too, and the matmul peak."""

import dataclasses
import functools
import os
import platform
import resource
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks import rounds
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import alexnet, architectures, xla
from alexnet_tf.network.model import AlexNet
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.support import devices, processors, timing
from alexnet_tf.training import distribution, train_step

# Side of the square matrices whose product gives the peak: too large to be bound by memory, or by a GPU's launches.
PEAK_SIZE, GPU_PEAK_SIZE = 2048, 8192


def make_workload(
    architecture: architectures.Architecture,
    directory: str | None,
    *,
    batch_size: int,
    is_training: bool,
    precision: str,
    deterministic: bool,
) -> rounds.Workload:
    """Returns the trials of the network and of the matmul peak.

    Args:
        architecture: The network.
        directory: Where to write what baselines read: weights.npz, arrays by the paths of our variables, and
            saved_model, which computes float32 logits from uint8 images [batch, size, size, 3]. None without one.
        batch_size: Images a step.
        is_training: Whether to train or to predict.
        precision: Keras dtype policy, or "auto".
        deterministic: As in training.
    """
    devices.share_memory()  # The baseline needs memory there too.
    precision = devices.chosen_precision(precision)
    devices.set_numerics(tf32=is_training, deterministic=deterministic)
    images = tf.constant(rounds.random_batch(architecture, batch_size)[0])
    call: Callable[[], object]
    if is_training:
        step, call = make_step(architecture, batch_size, precision)
        model, network, update = step.model, step.model, step.update
    else:
        model = alexnet.build_model(architecture, precision=precision)
        network, update = alexnet.for_export(model, "builtin"), None
        predict = metrics.make_predictor(network)
        call = lambda: predict(images[:, None]).numpy()  # noqa: E731
    call()
    peak_bytes = _peak_bytes()
    if directory:
        np.savez(os.path.join(directory, "weights.npz"), **{v.path: v.numpy() for v in model.variables})
        twin = alexnet.build_model(architecture, precision="float32")
        twin.set_weights(model.get_weights())
        signature, path = keras.InputSpec("uint8", model.input_shape), os.path.join(directory, "saved_model")
        alexnet.for_export(twin, "builtin").export(path, verbose=False, input_signature=[signature])
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    machine = [processors.processor()[0], f"{processors.available_cpus()} cores", *devices.describe_gpus(), versions]
    trials = {"alexnet_tf": rounds.repeat(call, batch_size, wait), "matmul peak": matmul_peak(precision)}
    return trials, {
        "title": f"{'Training steps' if is_training else 'Inference'} of {architecture.name}, batches of {batch_size}, "
        f"{precision}, {'' if deterministic else 'not '}deterministic",
        "machine": ", ".join(machine),
        "multiply_adds": multiply_adds(architecture, is_training),
        "peak_bytes": peak_bytes,
        "stages": profile(network, architecture, images, update),
    }


def make_step(
    architecture: architectures.Architecture, batch_size: int, precision: str
) -> tuple[train_step.TrainStep, Callable[[], float]]:
    """Returns the step of `training`, and the function that trains on the same batch again and returns the loss.

    The rate is 0, so that every step computes the same.
    """
    keras.utils.set_random_seed(0)
    recipe = dataclasses.replace(architecture.recipe, batch_size=batch_size, learning_rate=0.0)
    placement = distribution.Placement(tf.distribute.get_strategy())
    step = train_step.TrainStep(architecture, TrainConfig(recipe=recipe, precision=precision), placement)
    batch = tuple(map(tf.constant, rounds.random_batch(architecture, batch_size)))
    return step, lambda: float(step(batch)[0])


def wait() -> None:
    """Returns when GPUs, which compute asynchronously, have finished all steps so far."""
    if devices.gpus():
        tf.test.experimental.sync_devices()


def finish(call: Callable[[], Any]) -> Any:
    """Returns what a call returns, when the device has finished."""
    result = call()
    wait()
    return result


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
    return rounds.repeat(functools.partial(finish, product), 2 * size**3)


def profile(
    model: AlexNet, architecture: architectures.Architecture, images: tf.Tensor, update: Callable | None = None
) -> dict[str, float]:
    """Times each stage alone, and in training the optimizer's update.

    Each stage runs as a model in one graph, on the activations of the stages before it; in training its gradients are
    computed too, for a gradient of ones of its outputs. In the whole step stages may overlap and find their inputs in
    the cache, so the sum is only near the step's time.

    Args:
        model: From `alexnet.build_model`.
        architecture: The model's architecture.
        images: uint8 [batch, size, size, 3].
        update: In training, the function that applies gradients; None for inference, without dropout and gradients.

    Returns:
        Seconds of a batch by stage.
    """
    calls: dict[str, Callable[[], object]] = {}
    begin, inputs = model.inputs, [images]
    for stage in architecture.stages:
        end = [layer.output for layer in model.stage("_".join([stage.name, *stage.ops[-1:]])).layers]
        end = model.outputs if stage is architecture.stages[-1] else end
        part = keras.Model(begin, end)
        calls[stage.name] = _stage_call(part, inputs, update is not None)
        begin, inputs = end, tf.nest.flatten(part(inputs))
    if update is not None:
        gradients = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
        calls["update"] = tf.function(lambda: update(gradients))
    return {
        name: timing.median_seconds(functools.partial(finish, call), calls=3, least_seconds=0.3)
        for name, call in calls.items()
    }


def _stage_call(part: keras.Model, inputs: list, is_training: bool) -> Callable[[], object]:
    """Returns the function that computes a stage, in training the gradients of its weights and inputs too."""
    sources = [each for each in inputs if each.dtype != tf.uint8]  # Nobody needs the gradient of the images.

    @tf.function
    def compute():
        with tf.GradientTape() as tape, xla.fused_kernels():
            tape.watch(sources)
            outputs = part(inputs, training=is_training)
        return tape.gradient(outputs, [v.value for v in part.trainable_variables] + sources) if is_training else outputs

    return compute


def _peak_bytes():
    """Returns the most memory that this process has held: on the first GPU, or of the host."""
    if gpus := devices.gpus():
        return tf.config.experimental.get_memory_info(gpus[0])["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
