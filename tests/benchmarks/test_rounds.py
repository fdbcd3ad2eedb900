"""Tests of `rounds`: who is measured when, under a clock of our own, and what goes on between two processes."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from alexnet_tf.benchmarks import rounds
from alexnet_tf.support import errors
from tests.helpers.networks import TINY


@pytest.fixture
def now(monkeypatch):
    """Returns the clock, a list of one number."""
    now = [0.0]
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: None)
    return now


def test_interleave_runs_every_case_in_each_round_and_skips_pruned_ones(now):
    trials = []

    def make(name, rate):
        def trial(seconds):
            trials.append((name, seconds))
            return rate + len(trials)

        return trial

    cases = {"a": make("a", 10.0), "b: x": make("b: x", 200.0), "b: y": make("b: y", 100.0)}
    rates = rounds.interleave(cases, 2, 3.0)
    assert trials == [("a", 0.0), ("b: x", 0.0), ("b: y", 0.0), ("a", 3.0), ("b: x", 3.0), ("a", 3.0), ("b: x", 3.0)]
    assert list(rates.items()) == [("a", [14, 16]), ("b: x", [205, 207]), ("b: y", [103])]


def test_table_has_medians_ranges_and_what_is_made_of_them():
    rates = {"input": (900.0, 2700.0, 1800.0), "decode": (10_000.0,)}
    lines = rounds.table(rates, ",.0f", {"of the decode": lambda rate: rate / 10_000}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["", "images/s", "range", "of the decode"]
    assert cells[2:] == [["input", "1,800", "900 to 2,700", "0.18"], ["decode", "10,000", "one round", "1.00"]]


def test_repeat_counts_steps_after_a_first_one_and_the_wait_for_the_last(now):
    durations = iter([100.0, 2.0, 2.0, 2.0, 4.0])
    waits = iter([0.0, 2.0, 0.0, 0.0])

    def step():
        now[0] += next(durations)

    def wait():
        now[0] += next(waits)

    run = rounds.repeat(step, 8, wait)
    assert run(5.0) == 3.0  # Three steps of 8 images in 6 seconds, and 2 seconds until the device had finished.
    assert run(0.0) == 2.0  # One step at least.


def make_workload(rate):
    """A workload for the tests, made in another process."""
    os.write(2, b"a greeting that nobody wants to see")
    multiprocessing.get_context("spawn").Process(target=_ignore_sigterm, daemon=True).start()
    trials = {
        "half": lambda seconds: rate / 2,
        "process": lambda seconds: (os.getpid(), [each.pid for each in multiprocessing.active_children()]),
        "vast": lambda seconds: np.ones(1 << 50),
        "end": lambda seconds: os.kill(os.getpid(), signal.SIGKILL),
    }
    return trials, {"rate": rate}


def _ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def test_workload_is_made_and_called_in_a_process_of_its_own(capfd):
    with rounds.Process() as process:
        names, facts = process.ask(rounds.make_workload, __name__, {"rate": 6.0})
        assert names == ["half", "process", "vast", "end"] and facts == {"rate": 6.0}
        assert process.ask(rounds.run_trial, "half", 1.0) == 3.0
        with pytest.raises(errors.UserError, match="use a smaller batch_size. Unable to allocate"):
            process.ask(rounds.run_trial, "vast", 1.0)
        other, [helper] = process.ask(rounds.run_trial, "process", 1.0)
        assert other != os.getpid()
    assert capfd.readouterr().err == "" and not multiprocessing.active_children()
    with pytest.raises(ProcessLookupError):
        os.kill(helper, 0)


def test_process_that_dies_ends_in_one_error():
    with rounds.Process() as process, pytest.raises(errors.UserError, match="process of the benchmark failed. If mem"):
        process.ask(rounds.make_workload, __name__, {"rate": 2.0})
        process.ask(rounds.run_trial, "end", 1.0)


def test_random_batch_is_the_same_for_all():
    (images, labels), (again, _) = (rounds.random_batch(TINY, 3) for _ in range(2))
    assert images.shape == (3, 67, 67, 3) and images.dtype == np.uint8 and np.array_equal(images, again)
    assert labels.shape == (3,) and all(0 <= label < 5 for label in labels)
