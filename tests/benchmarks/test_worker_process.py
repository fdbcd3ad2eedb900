"""Tests of `worker_process`: what goes on between two processes, without TensorFlow in the second one."""

import dataclasses
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest

from alexnet_tf.benchmarks import worker_process
from alexnet_tf.network import architectures
from alexnet_tf.support import errors


def make_workload(rate=2.0, fault=None):
    """A workload for the tests, made in another process."""
    if fault:
        raise fault
    sys.stderr.write("a greeting that nobody wants to see")
    multiprocessing.get_context("spawn").Process(target=_ignore_sigterm, daemon=True).start()

    def large(seconds):
        array = np.ones(60 * 2**20, "uint8")
        time.sleep(0.1)
        return len(array)

    return worker_process.Workload(
        {
            "half": lambda seconds: rate / 2,
            "process": lambda: os.getpid(),
            "large": large,
            "bad": lambda: 1 / 0,
            "helpers": lambda: [each.pid for each in multiprocessing.active_children()],
            "vast": lambda: np.ones(1 << 50),
            "end": lambda: os.kill(os.getpid(), signal.SIGKILL),
        },
        {"rate": rate},
    )


def _ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def start(**arguments):
    return worker_process.WorkerProcess("tests.benchmarks.test_worker_process:make_workload", **arguments)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workload_is_called_in_a_process_of_its_own(capfd):
    with start(rate=6.0) as process:
        assert process.names == ["half", "process", "large", "bad", "helpers", "vast", "end"] and process.facts == {
            "rate": 6.0
        }
        assert process.call("half", 1.0) == 3.0
        assert process.call("process") != os.getpid()
        assert 59 * 2**20 < process.peak_memory("large") < 90 * 2**20
        with pytest.raises(ZeroDivisionError):
            process.call("bad")
        with pytest.raises(errors.UserError, match="use a smaller --batch_size. Unable to allocate"):
            process.call("vast")
        assert process.call("half", 1.0) == 3.0
        [helper] = process.call("helpers")
    assert capfd.readouterr().err == ""
    assert not _is_running(helper) and not multiprocessing.active_children()


def test_process_that_dies_ends_in_one_line():
    with (
        start() as process,
        pytest.raises(errors.UserError, match="A process of the benchmark failed. If memory ran out"),
    ):
        process.call("end")


@pytest.mark.parametrize("fault", [errors.UserError("no such architecture"), KeyError("x")])
def test_errors_of_the_workload_come_through(fault):
    with pytest.raises(type(fault), match=str(fault)):
        start(fault=fault)
    assert not multiprocessing.active_children()


def test_peak_host_memory_returns_the_result_and_sees_what_was_freed():
    def call():
        array = np.ones(60 * 2**20, "uint8")
        time.sleep(0.1)
        return int(array[0])

    _, before = worker_process.peak_host_memory(lambda: None)
    result, peak = worker_process.peak_host_memory(call)
    assert result == 1 and 55 * 2**20 < peak - before < 90 * 2**20


def test_random_batch_is_the_same_for_all():
    architecture = dataclasses.replace(architectures.PAPER, image_size=67)
    images, labels = worker_process.random_batch(architecture, 3)
    assert images.shape == (3, 67, 67, 3) and images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    assert labels.shape == (3,) and all(0 <= label < 1000 for label in labels)
    assert np.array_equal(images, worker_process.random_batch(architecture, 3)[0])
