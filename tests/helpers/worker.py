"""Trains the tests' small network in processes of their own, which are workers of one job or alone.

Reads a line of JSON for each start: a list of workers' jobs. Forks one process for each, which spares them the seconds
that TensorFlow takes to import, waits for all, and writes a line of JSON: [[exit status, seconds], ...]. A job is
    TF_CONFIG    as in the environment
    data, workdir, seed, batch_size
    out          file for what the process says
    record       file that gets a line for each step: the step's number in the run, and the red of each image in this
                 worker's batch, which says which image it is
    die          [how many steps this process does, the signal that it then sends itself]; at 0 before it does anything
"""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from alexnet_tf.commands import cli  # noqa: E402
from alexnet_tf.runs.config import TrainConfig  # noqa: E402

cli.import_tensorflow()

from alexnet_tf.data import discovery  # noqa: E402
from alexnet_tf.network import architectures, recipes  # noqa: E402
from alexnet_tf.runs.directory import RunDirectory  # noqa: E402
from alexnet_tf.training import distribution, train_step, trainer  # noqa: E402
from alexnet_tf.training.configure import PlacementOptions, RunOptions  # noqa: E402
from tests.helpers.networks import TINY  # noqa: E402
from tests.helpers.stopping import signal_after  # noqa: E402

STEPS = 5  # In an epoch of the tests' forty images.

QUIET = dataclasses.replace(TINY, name="quiet", dropout_rate=0.0)


def make_config(seed=3, batch_size=8):
    """Returns a decided run: two epochs, the colour noise, and a norm that is bounded."""
    recipe = recipes.Recipe(batch_size=batch_size, epochs=2, schedule="cosine", learning_rate=0.01, clip_norm=0.5)
    return TrainConfig(architecture="quiet", recipe=recipe, initialization="he", seed=seed, precision="float32")


def work(job):
    """Trains as train.py does, and writes down what is in the batches."""
    architectures.ARCHITECTURES["quiet"] = QUIET
    placement = distribution.make_placement(PlacementOptions("multi_worker"))
    steps, number = job.get("die", (-1, None))
    if steps == 0:
        os.kill(os.getpid(), number)
    step = train_step.TrainStep.__call__

    def recording_step(self, batch, is_stop=False):
        (images, _), _ = batch  # With the colour noise beside them.
        [images] = self.placement.strategy.experimental_local_results(images)
        with open(job["record"], "a") as record:
            print(self._optimizer.iterations.numpy(), *images[:, 0, 0, 0].numpy(), file=record)
        return step(self, batch, is_stop)

    train_step.TrainStep.__call__ = recording_step
    end, run = signal_after(steps, number), RunDirectory(job["workdir"])

    def end_when_saved(state, step):
        """Lets a test state which checkpoint a worker leaves that kills itself: a thread writes it."""
        done = state.epoch * STEPS + state.step
        while state.step < STEPS and run.steps()[:1] < [done]:
            time.sleep(0.01)
        end(state, step)

    is_complete = trainer.train(
        make_config(job.get("seed", 3), job.get("batch_size", 8)),
        discovery.find_dataset(job["data"]),
        job["workdir"],
        placement=placement,
        options=RunOptions(checkpoint_minutes=0),
        on_step_end=end_when_saved,
    )
    return 0 if is_complete else 1


def start(job):
    """Returns the number of a new process that does a job."""
    if pid := os.fork():
        return pid
    with open(job["out"], "ab", 0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ["TF_CONFIG"] = job["TF_CONFIG"]
    sys.exit(cli.report_mistakes(lambda: work(job)))


def main():
    for line in sys.stdin:
        pids, ends, started = [start(job) for job in json.loads(line)], {}, time.monotonic()
        while len(ends) < len(pids):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                ends[pid] = os.waitstatus_to_exitcode(status), time.monotonic() - started
            elif time.monotonic() - started > 100:
                os.kill(next(pid for pid in pids if pid not in ends), signal.SIGKILL)
            time.sleep(0.02)
        print(json.dumps([ends[pid] for pid in pids]), flush=True)


if __name__ == "__main__":
    main()
