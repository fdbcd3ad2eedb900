"""Tests of `network_speed`: that what is timed is the real step, and who is compared; not how fast it is."""

import dataclasses
import importlib.util
import multiprocessing

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import errors, recipes
from alexnet_tf.benchmarks import model_throughput, report, worker_process
from alexnet_tf.commands import benchmark
from tests.helpers.networks import TINY

PLAIN = {"precision": "float32", "deterministic": False, "rounds": 2, "seconds": 0.0}


def test_training_step_is_trainings_own():
    row = dataclasses.replace(TINY, dropout_rate=0.0, recipe=recipes.Recipe(clip_norm=3.0, bias_learning_rate_multiplier=2.0))
    step = model_throughput.make_step(row, 4, "mixed_bfloat16")
    assert (step.sgd.momentum, step.sgd.kernel_decay, step.sgd.largest_norm) == (0.9, 5e-4, 3.0)
    assert step.model.get_layer("conv1_a").compute_dtype == "bfloat16"
    before = [variable.numpy() for variable in step.model.trainable_variables]
    images, labels = map(tf.constant, worker_process.random_batch(row, 4))
    run = model_throughput.training_step(step, images, labels)
    losses = [run(), run()]
    assert step.sgd.iterations == 2 and losses[0] == pytest.approx(np.log(5), abs=0.1)
    # At rate 0 every step computes the same.
    assert all(np.array_equal(old, new) for old, new in zip(before, step.model.trainable_variables))


def test_measure_gives_everyone_the_same_turns():
    result = model_throughput.measure(TINY, is_training=True, batch_size=4, **PLAIN)
    assert [speed.name for speed in result.ours] == ["alexnet_tf"] and result.peers == ()
    assert all(len(speed.rounds) == 2 and min(speed.rounds) > 0 for speed in (*result.ours, result.floor))
    assert [group.name for group in result.groups] == ["conv1", "conv2", "fc6", "fc8", "loss", "update"]
    # 2,912 weights in conv1, 808, 584 and 45, as many momenta, the optimizer's rate and counter, two towers' dropouts'.
    assert result.state_bytes == 8 * 4349 + 4 + 8 + 2 * 8
    assert result.share(result.best) == result.best.median * result.flop / result.floor.median
    assert report.report(result).startswith("Training steps of tiny, batches of 4, float32, not deterministic")


@pytest.mark.parametrize("peer", model_throughput.BASELINES)
def test_measure_compares_inference_with_a_peer(peer):
    pytest.importorskip(peer)
    result = model_throughput.measure(TINY, is_training=False, batch_size=2, peer=peer, is_compiled=False, **PLAIN)
    assert [speed.name for speed in result.ours] == [
        "alexnet_tf, LRN xla", "alexnet_tf, LRN builtin", "alexnet_tf, LRN convolution"]
    assert {len(speed.rounds) for speed in result.peers} <= {1, 2} and len(result.peers) >= 8
    assert set(result.peer_bests()) == {"float32", "any precision"}
    assert result.peer_bests()["float32"].name.startswith("float32, ")
    assert all(group.backward_seconds is None for group in result.groups)
    assert f"{result.peer_facts['name']} {result.peer_facts['version']}" in report.report(result)


def test_sweep_has_a_point_for_each_batch_size():
    result = model_throughput.sweep(TINY, is_training=False, values=[2, 4], **PLAIN)
    assert [value for value, *_ in result.points] == [2, 4]
    assert [speed.name.rpartition(" ")[2] for _, speed, _ in result.points] == ["2", "4"]
    assert len(report.growth_report(result).splitlines()) == 9


def test_sweep_over_devices_and_workers_has_a_point_for_each():
    arguments = {"values": [1, 2], "batch_size": 8, **PLAIN, "rounds": 1}
    for what in ("devices", "workers"):
        result = model_throughput.sweep(TINY, what, is_training=True, **arguments)
        assert [(value, speed.name) for value, speed, _ in result.points] == [(1, f"1 {what}"), (2, f"2 {what}")]
        assert all(len(speed.rounds) == 1 and speed.median > 0 for _, speed, _ in result.points)
        assert len(report.growth_report(result).splitlines()) == 9
        assert not multiprocessing.active_children()
        with pytest.raises(errors.UserError, match=f"of training: python -m alexnet_tf benchmark train --sweep={what}"):
            model_throughput.sweep(TINY, what, is_training=False, **arguments)


def test_a_peers_variant_is_hopeless_by_its_own_precision():
    first = {"alexnet_tf": 1.0, "floor": 1e9, "float32, a": 10.0, "float32, b": 6.5, "bfloat16, a": 50.0, "bfloat16, b": 100.0}
    out = {name for name in first if model_throughput._is_pruned(name, first)}
    assert out == {"bfloat16, a"}


def test_peers_that_cannot_are_refused(monkeypatch):
    with pytest.raises(errors.UserError, match="OpenVINO cannot train.*\n.*benchmark infer --peer=openvino"):
        model_throughput.check_baseline("openvino", True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="--peer=torch needs a package.*\n  pip install torch"):
        model_throughput.check_baseline("torch", True)
    model_throughput.check_baseline(None, True)


def test_command_says_what_can_be_measured():
    with pytest.raises(errors.UserError, match="benchmark input, train or infer"):
        benchmark.main(["benchmark", "speed"])
    with pytest.raises(errors.UserError, match="benchmark input, train or infer"):
        benchmark.main(["benchmark"])
