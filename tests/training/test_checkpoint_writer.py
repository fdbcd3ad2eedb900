"""Tests of `checkpoint_writer`."""

import threading

import pytest

from alexnet_tf.training import checkpoint_writer


def test_a_write_goes_on_beside_its_caller_and_ends_before_the_next_begins():
    events, may_end = [], threading.Event()
    writer = checkpoint_writer.CheckpointWriter()

    def first():
        may_end.wait()
        events.append("first")

    writer.start(first)
    events.append("caller")
    may_end.set()
    writer.start(lambda: events.append("second"))
    writer.wait()
    assert events == ["caller", "first", "second"]


def test_a_write_that_fails_is_raised_once():
    def fail():
        raise OSError("full")

    writer = checkpoint_writer.CheckpointWriter()
    writer.start(fail)
    with pytest.raises(OSError, match="full"):
        writer.wait()
    writer.wait()
    writer.start(fail)
    with pytest.raises(OSError, match="full"):
        writer.start(lambda: None)
