"""Tests of `xla`: where it fails, the same network trains without it."""

import subprocess
import types

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network import xla
from tests.helpers.networks import TINY
from tests.helpers.training_steps import assert_same, make_batches, make_step, train


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    monkeypatch.setenv(xla.VARIABLE, "")
    monkeypatch.delenv(xla.VARIABLE)
    xla.is_usable.cache_clear()
    yield
    xla.is_usable.cache_clear()


def test_xla_works_on_a_cpu():
    assert xla.is_usable()


@pytest.mark.parametrize(("value", "is_usable"), [("0", False), ("1", True)])
def test_the_variable_decides_without_a_trial(monkeypatch, value, is_usable):
    monkeypatch.setattr(xla, "failure", None)
    monkeypatch.setenv(xla.VARIABLE, value)
    assert xla.is_usable() is is_usable


def test_a_trial_that_ends_the_process_is_survived_and_reported(monkeypatch, caplog):
    real = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"] if kind == "GPU" else real(kind))
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **kwargs: types.SimpleNamespace(returncode=-6, stderr="F0000 Check failed")
    )
    monkeypatch.setattr(xla._LOGGER, "propagate", True)
    assert not xla.is_usable()
    assert xla.failure() == "its trial ended with status -6"


def test_a_network_trains_to_the_same_numbers_without_xla(monkeypatch):
    def run():
        return train(make_step(TINY, clip_norm=0.5), make_batches(TINY, 3))

    expected = run()
    monkeypatch.setenv(xla.VARIABLE, "0")
    xla.is_usable.cache_clear()
    step = make_step(TINY, clip_norm=0.5)
    assert_same(train(step, make_batches(TINY, 3)), expected, rtol=1e-4, atol=1e-6)
    [batch] = step.batches(make_batches(TINY, 1))
    graph = step._step.get_concrete_function(batch, tf.constant(0.0)).graph.as_graph_def()
    compiled = [function for function in graph.library.function if function.attr["_XlaMustCompile"].b]
    assert not compiled and np.isfinite(expected[0][0][0])
