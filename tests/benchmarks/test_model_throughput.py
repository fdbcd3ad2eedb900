"""Tests of `model_throughput`: who is compared, and that the tables show what was measured; not how fast it is."""

import dataclasses
import importlib.util

import pytest

from alexnet_tf.benchmarks import model_throughput, rounds, tensorflow_workload
from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from alexnet_tf.support import errors
from tests.helpers.networks import TINY
from tests.helpers.workloads import InThisProcess

OPTIONS = model_throughput.Options("tiny", 4, 2, 0.0, "float32", deterministic=False, compile=False)


@pytest.fixture
def quick(monkeypatch):
    """Leaves out what only the accuracy of the figures needs: pauses, long trials, large matrices, other processes."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", TINY)
    monkeypatch.setattr(rounds, "Process", InThisProcess)
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(tensorflow_workload, "PEAK_SIZE", 64)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("openvino", "openvino cannot train"),
        ("torch", "baseline=torch is not installed:\n  pip install torch"),
        ("caffe2", "baseline must be one of torch, openvino.*; got 'caffe2'"),
    ],
)
def test_impossible_options_are_refused(baseline, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match=message):
        model_throughput.measure(model_throughput.Options(baseline=baseline), is_training=True)


def test_measure_runs_every_case_in_each_round(quick):
    rates, facts = model_throughput.measure(OPTIONS, is_training=True)
    assert list(rates) == ["alexnet_tf", "matmul peak"]
    assert all(len(each) == 2 and min(each) > 0 for each in rates.values())
    assert list(facts["stages"]) == ["conv1", "conv2", "fc6", "fc8", "update"]
    assert facts["title"] == "Training steps of tiny, batches of 4, float32, not deterministic"


@pytest.mark.parametrize("baseline", model_throughput.BASELINES)
def test_measure_compares_inference_with_every_baseline(baseline, quick):
    package = pytest.importorskip(baseline)
    threads = package.get_num_threads() if baseline == "torch" else 0
    options = dataclasses.replace(OPTIONS, baseline=baseline, precision="mixed_bfloat16")
    rates, facts = model_throughput.measure(options, is_training=False)
    assert {len(each) for each in rates.values()} <= {1, 2} and len(rates) >= 6
    assert "mixed_bfloat16" in facts["title"] and "update" not in facts["stages"]
    text = model_throughput.table(options, rates, facts)
    [name] = {case.split()[0] for case in rates} - {"alexnet_tf", "matmul"}
    assert text.startswith("Inference of tiny") and f"| {name} float32: " in text and f"\n{name} " in text
    if threads:
        package.set_num_threads(threads)


def test_table_has_shares_ratios_and_facts():
    facts = {"title": "Training", "peak_bytes": 1500 * 2**20, "stages": {"conv1": 1.0, "update": 0.1}}
    facts |= {"multiply_adds": {"conv1": 500_000_000, "fc6": 1_500_000_000}, "machine": "Some CPU"}
    rates = {"alexnet_tf": (30.0, 20.0, 25.0), "matmul peak": (200e9, 150e9, 260e9), "PyTorch float32": (5.0,)}
    lines = model_throughput.table(model_throughput.Options(batch_size=50), rates, facts).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    # 200 GFLOP/s over 4 GFLOP an image; conv1's is one GFLOP an image, a second for 50.
    assert cells[2:4] == [
        ["alexnet_tf", "25.0", "20.0 to 30.0", "40.00", "0.50", "1.00"],
        ["PyTorch float32", "5.0", "one round", "200.00", "0.10", "5.00"],
    ]
    assert cells[6:] == [["conv1", "20.00", "0.25"], ["update", "2.00", ""]]
    assert lines[:2] == ["Training; 5 interleaved rounds of at least 2 s", "Some CPU"]
    assert "Matmul peak: 200 GFLOP/s. The network: 4.00 GFLOP an image. Peak memory of its process: 1,500 MiB." in lines


@pytest.mark.parametrize("arguments", [("speed",), ()])
def test_command_names_what_can_be_measured(arguments):
    command = cli.load_command("benchmark")
    with pytest.raises(errors.UserError, match="benchmark input, train or infer"):
        command.main(command.Options(arguments=arguments))
