"""Tests of `--strategy=multi_worker`: real processes that meet on the loopback address, are stopped, and are killed."""

import json
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from alexnet_tf.data import discovery, input_pipeline
from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from alexnet_tf.training import trainer
from tests.helpers import worker
from tests.helpers.files import write_folders

STEPS = worker.STEPS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty training and ten validation images, whose red says which image it is."""

    def paint(pixels, label, number):
        pixels[..., 0] = 6 * (8 * label + number)

    return write_folders(tmp_path_factory.mktemp("reds"), "abcde", paint, train=8, val=2)


class Job:
    """A two-worker job, which can be started again and again.

    Attributes:
        outs: What each worker said in the last start.
    """

    def __init__(self, nursery, data, path):
        self.nursery, self.data, self.path, self.outs = nursery, data, path, []

    def start(self, *changes):
        """Starts both workers and waits for them; returns [(exit status, seconds)] of each."""
        sockets = [socket.socket() for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        jobs = [
            {
                "TF_CONFIG": json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}),
                "data": str(self.data),
                "workdir": str(self.path / "run"),
                "record": str(self.record(index)),
                "out": str(self.path / f"{index}.out"),
            }
            for index in range(2)
        ]
        for job, change in zip(jobs, changes):
            job.update(change)
        for job in jobs:
            pathlib.Path(job["out"]).unlink(missing_ok=True)
        print(json.dumps(jobs), file=self.nursery.stdin, flush=True)
        ends = json.loads(self.nursery.stdout.readline())
        self.outs = [pathlib.Path(job["out"]).read_text() for job in jobs]
        return ends

    def record(self, index):
        return self.path / f"{index}.record"

    def steps(self, index):
        """Returns [(step, which images)] of the batches that a worker computed."""
        lines = [list(map(int, line.split())) for line in self.record(index).read_text().splitlines()]
        return [(step, [red // 6 for red in reds]) for step, *reds in lines]

    def checkpoint(self):
        return RunDirectory(self.path / "run").read_checkpoint()


@pytest.fixture(scope="module")
def nursery():
    with subprocess.Popen(
        [sys.executable, worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


@pytest.fixture(scope="module")
def make_job(nursery, data, tmp_path_factory):
    return lambda: Job(nursery, data, tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def whole(make_job):
    """A job that was never stopped."""
    job = make_job()
    ends = job.start()
    assert [status for status, _ in ends] == [0, 0], job.outs
    return job


def test_two_workers_end_as_one_process_does_with_the_same_batch(whole, data, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "quiet", worker.QUIET)
    assert trainer.train(worker.make_config(), discovery.find_dataset(str(data)), tmp_path / "run")
    expected, state = RunDirectory(tmp_path / "run").read_checkpoint()
    arrays, got_state = whole.checkpoint()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0, atol=1e-6, err_msg=name)
    for row, got in zip(state["history"], got_state["history"], strict=True):
        for key in set(row) - {"images_per_second", "val_top5_error"}:
            assert got[key] == pytest.approx(row[key], rel=1e-5), key


def test_each_worker_reads_its_own_half_of_every_batch(whole, data):
    train, recipe = discovery.find_dataset(str(data)).splits["train"], worker.make_config().recipe
    first, second = whole.steps(0), whole.steps(1)
    assert [step for step, _ in first] == [step for step, _ in second] == list(range(2 * STEPS))
    for (step, mine), (_, others) in zip(first, second):
        batch = input_pipeline.batch_indices(train, recipe, seed=3, epoch=step // STEPS, step=step % STEPS)
        assert mine + others == batch and len(mine) == len(others) == 4


def test_only_the_first_worker_writes_and_tells_of_the_run(whole):
    first, second = whole.outs
    assert "Devices: CPU:0 keeps" in first and "Worker 1 of 2; worker 1 writes the run." in first
    assert "A batch of 8 is 4 for each of 2 replicas" in first and "Done: 2 epochs" in first
    lines = [line for line in second.splitlines() if "oneDNN" not in line]  # TensorFlow's, on some processors.
    assert lines == ["Waiting until all 2 workers are there."]


def test_a_job_that_is_stopped_and_killed_ends_with_the_same_bits(make_job, whole):
    job = make_job()
    # A signal to the second worker stops both, at the step after it.
    ends = job.start({}, {"die": [2, signal.SIGTERM]})
    assert [status for status, _ in ends] == [1, 1], job.outs
    assert "Stopped by another worker; a checkpoint is written." in job.outs[0]
    assert "Stopped by SIGTERM; worker 1 writes a checkpoint." in job.outs[1]
    assert [step for step, _ in job.steps(0)] == [step for step, _ in job.steps(1)] == [0, 1, 2]
    assert job.checkpoint()[1]["step"] == 3

    # When the first is killed, the second says so in a line, and soon.
    ends = job.start({"die": [1, signal.SIGKILL]}, {})
    assert ends[0][0] == -signal.SIGKILL and ends[1][0] == 1
    assert ends[1][1] - ends[0][1] < 60
    assert "Error: The other workers cannot be reached any more: one has ended" in job.outs[1]
    assert "Traceback" not in job.outs[1]
    assert job.checkpoint()[1]["step"] == 4

    # Both killed, in the second epoch, after the same step.
    ends = job.start({"die": [3, signal.SIGKILL]}, {"die": [3, signal.SIGKILL]})
    assert [status for status, _ in ends] == [-signal.SIGKILL] * 2, job.outs
    assert "Resuming" in job.outs[0] and (job.checkpoint()[1]["epoch"], job.checkpoint()[1]["step"]) == (1, 2)

    assert [status for status, _ in job.start()] == [0, 0], job.outs
    assert job.steps(0) == whole.steps(0)
    assert dict(job.steps(1)) == dict(
        whole.steps(1)
    )  # It may have begun a step that the other one did not live to see.
    (arrays, state), (expected, expected_state) = job.checkpoint(), whole.checkpoint()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].tobytes() == array.tobytes(), name
    for row in state["history"] + expected_state["history"]:
        del row["images_per_second"]
    assert state == expected_state


def test_workers_that_were_not_started_alike_are_refused(make_job):
    job = make_job()
    assert [status for status, _ in job.start({}, {"seed": 4})] == [1, 1]
    for index, out in enumerate(job.outs):
        assert "Error: The workers were not started alike. All need the same flags" in out
        assert f"this one is worker {index + 1}, with the run {job.path / 'run'}." in out
        assert "Traceback" not in out
    assert not (job.path / "run" / "config.json").exists()


def test_a_worker_that_is_lost_before_the_first_step_is_told_in_a_line(make_job):
    job = make_job()
    ends = job.start({}, {"die": [0, signal.SIGKILL]})
    assert ends[0][0] == 1 and ends[1][0] == -signal.SIGKILL and ends[0][1] - ends[1][1] < 60
    assert "Error: The other workers cannot be reached any more" in job.outs[0] and "Traceback" not in job.outs[0]


def test_a_batch_that_two_workers_cannot_divide_is_refused(data):
    with pytest.raises(errors.UserError, match="multiple of the number of workers; got 7 and 2"):
        input_pipeline.make_train_dataset(
            discovery.find_dataset(str(data)).splits["train"],
            recipes.Recipe(batch_size=7),
            image_size=67,
            seed=0,
            epoch=0,
            num_workers=2,
        )
