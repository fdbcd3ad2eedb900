"""Tests of `baselines`: what is refused before any work."""

import importlib.util

import pytest

from alexnet_tf.benchmarks import baselines
from alexnet_tf.support import errors


def test_impossible_options_are_refused(monkeypatch):
    with pytest.raises(errors.UserError, match="openvino cannot train.*\n.*benchmark --baseline=openvino infer"):
        baselines.check_options(True, "openvino", None)
    with pytest.raises(errors.UserError, match="for training: python -m alexnet_tf benchmark --sweep=workers train"):
        baselines.check_options(False, None, "workers")
    with pytest.raises(errors.UserError, match="leave out --baseline"):
        baselines.check_options(True, "torch", "batch_size")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="--baseline=torch is not installed.*\n  pip install torch"):
        baselines.check_options(True, "torch", None)
    baselines.check_options(True, None, None)


def test_every_baseline_is_a_module_of_the_package():
    for baseline in baselines.BASELINES.values():
        assert importlib.util.find_spec(f"alexnet_tf.benchmarks.{baseline.module}")
