"""Tests of `turns`: engines in processes of their own, and who gets a turn when."""

import dataclasses
import os
import signal
import sys

import numpy as np
import pytest

from alexnet_tf import architectures, errors
from alexnet_tf.benchmarks import worker_process


def make_team(rate=2.0, fault=None):
    """A team for the tests; it is made in another process."""
    if fault:
        raise fault
    sys.stderr.write("a greeting that nobody wants to see")
    return worker_process.Workload({
        "half": lambda seconds: rate / 2, "process": lambda: os.getpid(),
        "large": lambda: len(np.ones(40 * 2**20, "uint8")), "bad": lambda: 1 / 0,
        "vast": lambda: np.ones(1 << 50), "end": lambda: os.kill(os.getpid(), signal.SIGKILL)}, {"rate": rate})


def engine(**arguments):
    return worker_process.WorkerProcess("test_turns:make_team", **arguments)


def test_engine_asks_a_team_in_another_process(capfd):
    with engine(rate=6.0) as started:
        assert (started.names, started.facts) == (["half", "process", "large", "bad", "vast", "end"], {"rate": 6.0})
        assert started.call("half", 1.0)[0] == 3.0
        assert started.call("process")[0] != os.getpid()
        count, peak = started.call("large")
        assert count == 40 * 2**20 and (peak is None or 39 * 2**20 < peak < 60 * 2**20)
        with pytest.raises(RuntimeError, match="(?s)process of the benchmark.*ZeroDivisionError"):
            started.call("bad")
        with pytest.raises(errors.UserError, match="^Memory ran out: take a smaller --batch_size. Unable to allocate"):
            started.call("vast")
        assert started.call("half", 1.0)[0] == 3.0
        process = started._process
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""


def test_engine_that_is_killed_is_told_in_a_line():
    with engine() as started, pytest.raises(errors.UserError, match="died with status -9. If that is -9, memory"):
        started.call("end")


def test_engine_tells_why_there_is_no_team():
    with pytest.raises(errors.UserError, match="^no such row$"):
        engine(fault=errors.UserError("no such row"))
    with pytest.raises(RuntimeError, match="(?s)Traceback.*KeyError: 'x'"):
        engine(fault=KeyError("x"))


class Recorder:
    """Stands for an engine."""

    def __init__(self, rates):
        self.rates, self.turns = rates, []

    def call(self, name, seconds):
        self.turns.append((name, seconds))
        return self.rates[name] + len(self.turns), None


def test_alternate_gives_everyone_a_turn_in_each_round(monkeypatch):
    monkeypatch.setattr(worker_process.time, "sleep", lambda seconds: None)
    recorder = Recorder({"a": 100.0, "b": 200.0, "c": 10.0})
    contestants = [worker_process.Case(name, recorder, name) for name in "abc"]
    speeds = worker_process.interleave(contestants, 2, 3.0, lambda label, first: first[label] < max(first.values()) / 4)
    assert recorder.turns == [("a", 0.0), ("b", 0.0), ("c", 0.0), ("a", 3.0), ("b", 3.0), ("a", 3.0), ("b", 3.0)]
    assert speeds == [worker_process.Speed("a", (104, 106)), worker_process.Speed("b", (205, 207)), worker_process.Speed("c", (13,))]
    assert speeds[0].median == 105


def test_repeated_counts_steps_after_a_first_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(worker_process.time, "perf_counter", lambda: now[0])
    durations = iter([100.0, 2.0, 2.0, 2.0, 4.0])

    def step():
        now[0] += next(durations)

    run = worker_process.repeated(step, 8)
    assert run(5.0) == 4.0  # Three steps of 8 images in 6 seconds.
    assert run(0.0) == 2.0  # One step at least.


def test_random_batch_is_the_same_for_all():
    row = dataclasses.replace(architectures.PAPER, image_size=67)
    images, labels = worker_process.random_batch(row, 3)
    assert images.shape == (3, 67, 67, 3) and images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    assert labels.shape == (3,) and all(0 <= label < 1000 for label in labels)
    assert np.array_equal(images, worker_process.random_batch(row, 3)[0])
