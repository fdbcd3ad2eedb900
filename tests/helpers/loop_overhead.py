"""What does the training loop cost beside the step and the input? Trains with a step and an input that only sleep.

    python tests/helpers/loop_overhead.py [steps]

A step on a GPU and the making of the next batch run beside Python and beside each other: a step of the loop should take
as long as the longer of the two, and little more.
"""

import concurrent.futures
import itertools
import logging
import pathlib
import sys
import tempfile
import time
from unittest import mock

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))


def milliseconds_a_step(directory: pathlib.Path, step_ms: float, input_ms: float, steps: int) -> float:
    """Returns the wall time of a step in the whole loop, in an epoch of so many steps."""
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops import testing

    from alexnet_tf.data import discovery
    from alexnet_tf.network import architectures, recipes
    from alexnet_tf.runs.config import TrainConfig
    from alexnet_tf.training import tensorboard, train_step, trainer
    from tests.helpers.files import write_folders
    from tests.helpers.networks import TINY

    starts: list[float] = []
    device = concurrent.futures.ThreadPoolExecutor(1)

    class Result:
        def __init__(self):
            self._done = device.submit(time.sleep, step_ms / 1000) if step_ms else None

        def numpy(self) -> np.ndarray:
            if self._done:
                self._done.result()
            return np.array([1.0, 0.0, 0.0], "float32")

    class SleepingStep(train_step.TrainStep):
        def __call__(self, batch, is_stop=False):
            starts.append(time.perf_counter())
            return Result()

        def images_of(self, batch):
            return None

    def make_batches(self, state, num_epochs, has_noise):
        batches = tf.data.Dataset.range(steps)
        if input_ms:  # In C++: a function in Python would wait for the loop to release the interpreter.
            batches = batches.apply(testing.sleep(int(1000 * input_ms)))
        return iter(batches.prefetch(2))

    data = discovery.find_dataset(str(write_folders(directory / "images", "ab", train=2, val=2)))
    data.splits["train"] = data.splits["train"].subset(np.resize(np.arange(4), steps))
    architectures.ARCHITECTURES["tiny"] = TINY
    config = TrainConfig(
        architecture="tiny", recipe=recipes.Recipe(batch_size=1, epochs=1, schedule="cosine"), precision="float32"
    )
    with (
        mock.patch.object(trainer, "TrainStep", SleepingStep),
        mock.patch.object(trainer._Feed, "batches", make_batches),
        mock.patch.object(tensorboard.Log, "input_pictures", lambda *_: None),
        device,
    ):
        trainer.train(config, data, directory / "run")
    gaps = [1000 * (after - before) for before, after in itertools.pairwise(starts[10:])]
    return float(np.median(gaps))


def main(steps: str = "200") -> None:
    """Prints the wall time of a step for steps and inputs of some lengths."""
    logging.getLogger("alexnet_tf").setLevel(logging.ERROR)
    for step_ms, input_ms in ((0, 0), (20, 0), (0, 20), (20, 10), (10, 20), (20, 20)):
        with tempfile.TemporaryDirectory() as directory:
            wall = milliseconds_a_step(pathlib.Path(directory), step_ms, input_ms, int(steps))
        overhead = wall - max(step_ms, input_ms)
        print(f"step {step_ms:3d} ms, input {input_ms:3d} ms: {wall:6.2f} ms, {overhead:5.2f} more")


if __name__ == "__main__":
    main(*sys.argv[1:])
