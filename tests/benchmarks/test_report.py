"""Tests of `speed_report`: that the tables say what the numbers are."""

import json

import pytest

from alexnet_tf.benchmarks import layer_profile, model_throughput, report, worker_process

FACTS = {
    "cpu": "Some CPU", "cores": 2, "accelerators": [], "versions": {"TensorFlow": "2.21.0", "Keras": "3.15.1"},
    "architecture": "paper", "is_training": True, "batch_sizes": [50], "precision": "float32", "deterministic": True,
    "rounds": 3, "seconds": 2.0}
FLOOR = worker_process.Speed("floor", (200e9, 150e9, 260e9))


def speed(name, *rounds):
    return worker_process.Speed(name, rounds)


def make_result(peers=(), groups=(), **facts):
    return model_throughput.NetworkSpeed(
        facts=FACTS | facts, ours=(
            speed("alexnet_tf, LRN builtin", 30.0, 20.0, 25.0), speed("alexnet_tf, LRN convolution", 41.0, 38.0, 40.0)),
        floor=FLOOR, flop=4_000_000_000, peers=peers, peer_facts=peers and {
            "name": "PyTorch", "version": "2.13.0", "threads": 2, "data": "uint8 images"} or {},
        groups=groups, state_bytes=466 * 2**20, peak_bytes=1500 * 2**20)


PEERS = (
    speed("float32, contiguous", 16.0, 14.0, 15.0), speed("float32, channels_last", 20.0, 19.0, 21.0),
    speed("bfloat16 autocast, contiguous", 25.0, 24.0, 32.0), speed("bfloat16 autocast, channels_last", 5.0))


def row_of(text, start):
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return line.removeprefix(start).split()


def test_report_has_medians_ranges_and_shares():
    text = report.report(make_result())
    assert text.splitlines()[:2] == [
        "Training steps of paper, batches of 50, float32, deterministic",
        "Some CPU, 2 cores; TensorFlow 2.21.0, Keras 3.15.1"]
    assert row_of(text, "alexnet_tf, LRN builtin") == ["25.0", "20.0", "-", "30.0", "40.00", "0.50"]
    assert row_of(text, "alexnet_tf, LRN convolution") == ["40.0", "38.0", "-", "41.0", "25.00", "0.80"]
    # 200 GFLOP/s over 4 GFLOP an image.
    assert row_of(text, "floor: a product of square matrices") == ["50.0", "37.5", "-", "65.0", "20.00", "1.00"]
    assert "The floor is 200 GFLOP/s; the network has 4.00 GFLOP an image." in text
    assert "Weights and momentum: 466 MiB. Memory at most in a step, beyond them: 1,500 MiB." in text
    assert "PyTorch" not in text and "times" not in text


def test_report_counts_the_best_of_the_peer_in_float32_and_in_any_precision():
    text = report.report(make_result(PEERS))
    assert "PyTorch 2.13.0, 2 threads; uint8 images" in text
    assert row_of(text, "PyTorch float32, channels_last") == ["20.0", "19.0", "-", "21.0", "50.00", "0.40"]
    assert row_of(text, "PyTorch bfloat16 autocast, channels_last") == ["5.0", "one", "turn", "200.00", "0.10"]
    assert ("alexnet_tf, LRN convolution is 2.00 times PyTorch's best in float32 (float32, channels_last), and 1.60 times "
            "PyTorch's best in any precision (bfloat16 autocast, contiguous).") in text
    assert "too slow in its first turn" in text
    assert "too slow" not in report.report(make_result(PEERS[:3]))


def test_report_has_the_layer_groups():
    # 50 images at 25 ms are 1.25 s; conv1's 1000 M multiply-adds an image take 10 ms at the floor.
    groups = (layer_profile.Group("conv1", 1_000_000_000, 0.2, 0.8), layer_profile.Group("update", 0, 0.0, 0.1))
    text = report.report(make_result(groups=groups))
    assert row_of(text, "conv1") == ["4.00", "16.00", "20.00", "80%", "0.50"]
    assert row_of(text, "update") == ["0.00", "2.00", "2.00", "8%"]
    assert row_of(text, "sum") == ["22.00", "88%"] and row_of(text, "whole") == ["25.00", "100%"]


def test_report_of_inference_has_no_backward_pass():
    text = report.report(make_result(groups=(layer_profile.Group("conv1", 500_000_000, 0.5, None),), is_training=False))
    assert text.startswith("Inference of paper") and "backward" not in text and "Weights: 466 MiB" in text
    assert row_of(text, "conv1") == ["10.00", "40%", "0.50"]


def test_growth_report_has_a_line_for_each_value():
    growth = model_throughput.Growth(
        FACTS | {"batch_sizes": [16, 512]}, "batch_size",
        ((16, speed("a", 10.0, 12.0, 11.0), 300 * 2**20), (512, speed("b", 25.0, 25.0, 20.0), None)), FLOOR, 4_000_000_000)
    text = report.growth_report(growth)
    assert row_of(text, "          16") == ["11.0", "10.0", "-", "12.0", "90.91", "0.22", "300"]
    assert row_of(text, "         512") == ["25.0", "20.0", "-", "25.0", "40.00", "0.50", "unknown"]


@pytest.mark.parametrize("peers", [(), PEERS])
def test_json_has_the_numbers_and_the_ratios(peers):
    read = json.loads(report.as_json(make_result(peers)))
    assert read["facts"]["cpu"] == "Some CPU" and read["best"] == "alexnet_tf, LRN convolution"
    assert read["ours"][0] == {"name": "alexnet_tf, LRN builtin", "rounds": [30.0, 20.0, 25.0], "median": 25.0}
    assert read["share_of_floor"] == 0.8
    assert read["ratios"] == ({} if not peers else {
        "float32": {"variant": "float32, channels_last", "ratio": 2.0},
        "any precision": {"variant": "bfloat16 autocast, contiguous", "ratio": 1.6}})
