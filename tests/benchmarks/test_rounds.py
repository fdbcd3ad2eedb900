"""Tests of `rounds`, under a clock of our own."""

import pytest

from alexnet_tf.benchmarks import rounds


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

    cases = {"a": make("a", 100.0), "b": make("b", 200.0), "c": make("c", 10.0)}
    speeds = rounds.interleave(cases, 2, 3.0, lambda name, rates: rates[name] < max(rates.values()) / 4)
    assert trials == [("a", 0.0), ("b", 0.0), ("c", 0.0), ("a", 3.0), ("b", 3.0), ("a", 3.0), ("b", 3.0)]
    assert {name: speed.rounds for name, speed in speeds.items()} == {"a": (104, 106), "b": (205, 207), "c": (13,)}
    assert list(speeds) == ["a", "b", "c"] and speeds["a"].median == 105 and speeds["a"].name == "a"
    assert max(speeds.values(), key=lambda speed: speed.median).name == "b"


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
