"""Tests of `timing`, under a clock of our own."""

import pytest

from alexnet_tf.support import timing


@pytest.fixture
def calls(monkeypatch):
    """Returns a function: durations of the calls to come -> (the call, the durations not yet used)."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def make(*durations):
        left = list(durations)

        def call():
            now[0] += left.pop(0)

        return call, left

    return make


def test_median_leaves_out_the_warmup(calls):
    call, left = calls(100.0, 100.0, 3.0, 1.0, 2.0, 50.0)
    assert timing.median_seconds(call, calls=3) == 2.0
    assert left == [50.0]


def test_median_goes_on_until_the_least_time_has_passed(calls):
    call, left = calls(100.0, 100.0, 1.0, 4.0, 2.0, 3.0, 50.0)
    assert timing.median_seconds(call, calls=1, least_seconds=9.5) == 2.5
    assert left == [50.0]
