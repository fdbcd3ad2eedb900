"""Training steps on narrow networks and random batches."""

import dataclasses

import numpy as np
import tensorflow as tf

from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.training import distribution, train_step
from alexnet_tf.training.configure import PlacementOptions

# Every published architecture with few filters and five classes: all their operations, in a hundredth of the time.
NARROW = {
    name: dataclasses.replace(
        architecture,
        stages=tuple(
            dataclasses.replace(stage, filters=5 if stage is architecture.stages[-1] else 8)
            for stage in architecture.stages
        ),
    )
    for name, architecture in architectures.ARCHITECTURES.items()
}


def make_step(
    architecture, strategy="auto", devices=(), *, precision="float32", jit=False, frozen=(), batch_size=8, **recipe
):
    """Returns the step of a network that starts as `he` does, at a rate of .01."""
    return train_step.TrainStep(
        architectures.with_initialization(architecture, "he"),
        TrainConfig(
            recipe=recipes.Recipe(batch_size=batch_size, **({"learning_rate": 0.01} | recipe)),
            seed=1,
            precision=precision,
            jit=jit,
            freeze=frozen,
        ),
        distribution.make_placement(PlacementOptions(strategy, devices)),
    )


def make_batches(architecture, count, batch_size=8, has_noise=False):
    """Returns what `TrainStep.batches` takes: the batches of a worker, one part of each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, batch_size, architecture.image_size, architecture.image_size, 3), "uint8")
    labels = rng.integers(0, 5, (count, batch_size)).astype("int32")
    noise = rng.normal(0, 10, (count, batch_size, 3)).astype("float32")
    return lambda worker, num_workers: tf.data.Dataset.from_tensor_slices(
        ((images, noise) if has_noise else images, labels)
    )


def train(step, dataset):
    """Does a step for each batch; returns the results (loss, wrong, stop) and all variables."""
    results = [step(batch).numpy() for batch in step.batches(dataset)]
    return results, {variable.path: variable.numpy() for variable in step.variables}


def assert_same(got, expected, rtol=1e-5, atol=1e-7):
    (got_results, got_arrays), (results, arrays) = got, expected
    np.testing.assert_allclose([loss for loss, *_ in got_results], [loss for loss, *_ in results], rtol=1e-6)
    assert [wrong for _, wrong, _ in got_results] == [wrong for _, wrong, _ in results]
    assert got_arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(got_arrays[name], array, rtol=rtol, atol=atol, err_msg=name)
