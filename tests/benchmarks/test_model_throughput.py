"""Tests of `model_throughput`: that what is timed is the real step, and who is compared; not how fast it is."""

import dataclasses
import multiprocessing
import types

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import baselines, layer_profile, model_throughput, report, rounds, worker_process
from alexnet_tf.commands import cli
from alexnet_tf.network import recipes
from alexnet_tf.support import errors
from tests.helpers.networks import TINY
from tests.helpers.workloads import InThisProcess

PLAIN = {"precision": "float32", "deterministic": False, "num_rounds": 2, "seconds": 0.0}


@pytest.fixture
def quick(monkeypatch):
    """Leaves out what only the accuracy of the figures needs: pauses, long trials, large matrices, other processes."""
    monkeypatch.setattr(worker_process, "WorkerProcess", InThisProcess)
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(layer_profile, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(layer_profile, "PEAK_SIZE", 64)
    monkeypatch.setattr(model_throughput.cpuinfo, "get_cpu_info", lambda: {"brand_raw": "Some CPU"})


def test_training_step_is_trainings_own():
    architecture = dataclasses.replace(
        TINY, dropout_rate=0.0, recipe=recipes.Recipe(clip_norm=3.0, bias_learning_rate_multiplier=2.0)
    )
    step = model_throughput.make_step(architecture, 4, "mixed_bfloat16")
    assert (step.sgd.momentum, step.sgd.kernel_decay, step.sgd.largest_norm) == (0.9, 5e-4, 3.0)
    assert step.model.get_layer("conv1_a").compute_dtype == "bfloat16"
    before = [variable.numpy() for variable in step.model.trainable_variables]
    train = model_throughput.train_call(step, architecture, 4)
    losses = [train(), train()]
    assert step.sgd.iterations == 2 and losses[0] == pytest.approx(np.log(5), abs=0.1)
    # At rate 0 every step computes the same.
    assert all(np.array_equal(old, new) for old, new in zip(before, step.model.trainable_variables))


def test_measure_runs_every_case_in_each_round(quick):
    result = model_throughput.measure(TINY, is_training=True, batch_size=4, **PLAIN)
    assert [speed.name for speed in result.ours] == ["alexnet_tf"] and result.baselines == ()
    assert all(len(speed.rounds) == 2 and min(speed.rounds) > 0 for speed in (*result.ours, result.matmul_peak))
    assert [stage.name for stage in result.stages] == ["conv1", "conv2", "fc6", "fc8", "loss", "update"]
    # 2,912 weights in conv1, 808, 584 and 45, as many momenta, the optimizer's rate and counter, two towers' dropouts'.
    assert result.facts["state_bytes"] == 8 * 4349 + 4 + 8 + 2 * 8
    assert result.share_of_peak(result.best) == result.best.median * result.facts["flop"] / result.matmul_peak.median
    assert result.best.peak_bytes > 0 and result.facts["cpu"] == "Some CPU"
    assert report.report(result).startswith("Training steps of tiny, batches of 4, float32, not deterministic")


@pytest.mark.parametrize("baseline", baselines.BASELINES)
def test_measure_compares_inference_with_every_baseline(baseline, quick):
    package = pytest.importorskip(baseline)
    threads = package.get_num_threads() if baseline == "torch" else 0
    result = model_throughput.measure(
        TINY,
        is_training=False,
        batch_size=2,
        baseline=baseline,
        is_compiled=False,
        **PLAIN | {"precision": "mixed_bfloat16"},
    )
    assert [speed.name for speed in result.ours] == [
        "alexnet_tf, LRN xla",
        "alexnet_tf, LRN builtin",
        "alexnet_tf, LRN convolution",
    ]
    assert result.baselines and {len(speed.rounds) for speed in result.baselines} <= {1, 2}
    assert set(result.ratios()) == {"float32", "any precision"}
    assert result.ratios()["float32"][0].name.startswith("float32, ")
    assert all(stage.backward_seconds is None for stage in result.stages)
    assert f"{result.baseline_facts['name']} {result.baseline_facts['version']} on cpu" in report.report(result)
    if threads:
        package.set_num_threads(threads)


def test_sweep_over_batch_sizes_and_devices_has_a_line_for_each_value(quick):
    result = model_throughput.measure(TINY, is_training=False, sweep="batch_size", values=(2, 4), **PLAIN)
    assert [speed.name for speed in result.ours] == ["batch size 2", "batch size 4"] and result.stages == ()
    assert all(speed.peak_bytes is not None for speed in result.ours)
    result = model_throughput.measure(TINY, is_training=True, sweep="devices", values=(1, 2), batch_size=8, **PLAIN)
    assert [speed.name for speed in result.ours] == ["devices 1", "devices 2"]
    assert "\ndevices 2  " in report.report(result)


def test_sweep_over_workers_in_their_processes():
    result = model_throughput.measure(
        TINY, is_training=True, sweep="workers", values=(2,), batch_size=8, **PLAIN | {"num_rounds": 1}
    )
    [speed] = result.ours
    assert speed.name == "workers 2" and len(speed.rounds) == 1 and speed.median > 0
    assert not multiprocessing.active_children()


def test_a_gpu_is_measured_as_one(monkeypatch):
    """On a machine without a GPU: that growth is set before anything else, and its own peak of memory is taken."""
    calls = []
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [types.SimpleNamespace(device_type="GPU", name="gpu")]
    )
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: calls.append("growth"))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "Some GPU"})
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", lambda device: calls.append(f"reset {device}"))
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda device: {"current": 5, "peak": 7 if device == "GPU:0" else 0}
    )
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: calls.append("wait"))
    monkeypatch.setattr(layer_profile, "GPU_PEAK_SIZE", 64)
    monkeypatch.setattr(model_throughput.cpuinfo, "get_cpu_info", lambda: {})
    workload = model_throughput.make_workload(
        TINY, batch_sizes={"alexnet_tf": 2}, is_training=False, precision="float32", deterministic=False
    )
    assert workload.facts["accelerators"] == ["Some GPU"] and calls == ["growth"]
    assert workload.peak_memory(lambda: calls.append("call") or 3) == (3, 7)
    assert calls[1:] == ["reset GPU:0", "call"]
    calls.clear()
    assert workload.calls["alexnet_tf, LRN xla"](0.0) > 0 and calls == ["wait", "wait"]
    assert workload.calls["matmul peak"](0.0) > 0 and calls == ["wait"] * (2 + 2 + 3)


def test_a_baselines_case_is_pruned_by_its_own_precision():
    rates = {
        "alexnet_tf, LRN xla": 100.0,
        "alexnet_tf, LRN builtin": 1.0,
        "matmul peak": 1e9,
        "float32, a": 10.0,
        "float32, b": 6.5,
        "bfloat16, a": 50.0,
        "bfloat16, b": 100.0,
    }
    assert {name for name in rates if model_throughput._is_pruned(name, rates)} == {"bfloat16, a"}


@pytest.mark.parametrize("arguments", [["speed"], []])
def test_command_names_what_can_be_measured(arguments):
    with pytest.raises(errors.UserError, match="benchmark input, train or infer"):
        cli.load_command("benchmark").main(cli.parse_command("benchmark", arguments))
