"""Tests of `report`: that the tables show what was measured."""

import dataclasses
import json

import pytest

from alexnet_tf.benchmarks import input_throughput, layer_profile, model_throughput, report, rounds

FACTS = {
    "cpu": "Some CPU",
    "cores": 2,
    "accelerators": [],
    "versions": {"TensorFlow": "2.21.0", "Keras": "3.15.1"},
    "architecture": "paper",
    "is_training": True,
    "batch_size": 50,
    "sweep": None,
    "precision": "float32",
    "deterministic": True,
    "rounds": 3,
    "seconds": 2.0,
    "flop": 4_000_000_000,
    "state_bytes": 466 * 2**20,
}
PEAK = rounds.Speed("matmul peak", (200e9, 150e9, 260e9))


def speed(name, *rates, mebibytes=None):
    return rounds.Speed(name, rates, mebibytes and mebibytes * 2**20)


def make_result(baselines=(), stages=(), **facts):
    return model_throughput.Throughput(
        facts=FACTS | facts,
        ours=(
            speed("alexnet_tf, LRN builtin", 30.0, 20.0, 25.0, mebibytes=1500),
            speed("alexnet_tf, LRN convolution", 41.0, 38.0, 40.0),
        ),
        matmul_peak=PEAK,
        baselines=baselines,
        stages=stages,
        baseline_facts=baselines
        and {"name": "PyTorch", "version": "2.13.0", "threads": 2, "device": "cpu", "data": "uint8 images"}
        or {},
    )


BASELINES = (
    speed("float32, contiguous", 16.0, 14.0, 15.0),
    speed("float32, channels_last", 20.0, 19.0, 21.0),
    speed("bfloat16 autocast, contiguous", 25.0, 24.0, 32.0),
    speed("bfloat16 autocast, channels_last", 5.0),
)


def words_after(text, start):
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return line.removeprefix(start).split()


def test_report_has_medians_ranges_and_shares():
    text = report.report(make_result())
    assert text.splitlines()[:2] == [
        "Training steps of paper, batches of 50, float32, deterministic",
        "Some CPU, 2 cores; TensorFlow 2.21.0, Keras 3.15.1",
    ]
    assert words_after(text, "alexnet_tf, LRN builtin") == ["25.0", "20.0", "-", "30.0", "40.00", "50%", "1,500"]
    assert words_after(text, "alexnet_tf, LRN convolution") == ["40.0", "38.0", "-", "41.0", "25.00", "80%"]
    # 200 GFLOP/s over 4 GFLOP an image.
    assert words_after(text, "matmul peak: a product of square matrices") == [
        "50.0",
        "37.5",
        "-",
        "65.0",
        "20.00",
        "100%",
    ]
    assert "Matmul peak: 200 GFLOP/s. The network: 4.00 GFLOP an image." in text
    assert "peak memory of a step beyond 466 MiB of weights and momentum." in text
    assert "PyTorch" not in text and "times" not in text


def test_report_compares_with_the_baselines_best_in_float32_and_in_any_precision():
    text = report.report(make_result(BASELINES))
    assert "PyTorch 2.13.0 on cpu, 2 threads; uint8 images" in text
    assert words_after(text, "PyTorch float32, channels_last") == ["20.0", "19.0", "-", "21.0", "50.00", "40%"]
    assert words_after(text, "PyTorch bfloat16 autocast, channels_last") == ["5.0", "one", "round", "200.00", "10%"]
    assert (
        "alexnet_tf, LRN convolution is 2.00 times PyTorch's best in float32 (float32, channels_last), and "
        "1.60 times "
        "PyTorch's best in any precision (bfloat16 autocast, contiguous)."
    ) in text
    assert "too slow in the warm-up" in text
    assert "too slow" not in report.report(make_result(BASELINES[:3]))


def test_report_has_the_stages():
    # 50 images at 25 ms are 1.25 s; conv1's 1000 M multiply-adds an image take 10 ms at the peak.
    stages = (layer_profile.StageTime("conv1", 1_000_000_000, 0.2, 0.8), layer_profile.StageTime("update", 0, 0.0, 0.1))
    text = report.report(make_result(stages=stages))
    assert words_after(text, "conv1") == ["4.00", "16.00", "20.00", "80%", "50%"]
    assert words_after(text, "update") == ["0.00", "2.00", "2.00", "8%"]
    assert words_after(text, "sum") == ["22.00", "88%"] and words_after(text, "whole") == ["25.00", "100%"]


def test_report_of_inference_has_no_backward_pass():
    stages = (layer_profile.StageTime("conv1", 500_000_000, 0.5, None),)
    text = report.report(make_result(stages=stages, is_training=False))
    assert text.startswith("Inference of paper") and "backward" not in text and "466 MiB of weights." in text
    assert words_after(text, "conv1") == ["10.00", "40%", "50%"]


def test_report_of_a_sweep_has_a_line_for_each_value():
    result = dataclasses.replace(
        make_result(sweep="batch_size"),
        ours=(speed("batch size 16", 10.0, 12.0, 11.0, mebibytes=300), speed("batch size 512", 25.0, 25.0, 20.0)),
    )
    text = report.report(result)
    assert text.startswith("Training steps of paper, by batch size, float32")
    assert words_after(text, "batch size 16") == ["11.0", "10.0", "-", "12.0", "90.91", "22%", "300"]
    assert words_after(text, "batch size 512") == ["25.0", "20.0", "-", "25.0", "40.00", "50%"]
    assert "Each stage" not in text


@pytest.mark.parametrize("baselines", [(), BASELINES])
def test_json_has_the_numbers_and_the_ratios(baselines):
    read = json.loads(report.as_json(make_result(baselines)))
    assert read["facts"]["cpu"] == "Some CPU" and read["best"] == "alexnet_tf, LRN convolution"
    assert read["ours"][0] == {
        "name": "alexnet_tf, LRN builtin",
        "rounds": [30.0, 20.0, 25.0],
        "peak_bytes": 1500 * 2**20,
        "median": 25.0,
    }
    assert read["share_of_peak"] == 0.8
    assert read["ratios"] == (
        {}
        if not baselines
        else {
            "float32": {"variant": "float32, channels_last", "ratio": 2.0},
            "any precision": {"variant": "bfloat16 autocast, contiguous", "ratio": 1.6},
        }
    )


def test_input_report_has_the_ratios():
    speeds = {
        name: speed(name, rate, rate * 3, rate * 2)
        for name, rate in (("pipeline", 900.0), ("decode", 1000.0), ("baseline", 300.0))
    }
    lines = report.input_report(
        input_throughput.InputThroughput(
            **speeds, peak_bytes=50 * 2**20, first_batch_seconds=(0.5, 0.25), images=1_281_167
        )
    ).splitlines()
    assert lines[1].split()[-6:] == ["2,000", "1,000", "-", "3,000", "1.00", "3.33"]
    assert lines[2].split()[-6:] == ["1,800", "900", "-", "2,700", "0.90", "3.00"]
    assert lines[3].split()[-6:] == ["600", "300", "-", "900", "0.30", "1.00"]
    assert "1,281,167 images: first batch after 0.50 s at its first step, 0.25 s at its last" in lines[-1]
    assert "50 MiB" in lines[-1]
    assert "slow storage" not in "".join(lines) and "Amdahl" not in "".join(lines)


def test_input_report_has_slow_storage_and_the_stages():
    speeds = [speed(name, rate) for name, rate in (("pipeline", 900.0), ("decode", 1000.0), ("baseline", 300.0))]
    text = report.input_report(
        input_throughput.InputThroughput(
            *speeds,
            0,
            (0.5, 0.25),
            100,
            delayed=speed("delayed", 800.0),
            stages=(
                input_throughput.InputStage("reading", 20.0, is_serial=True),
                input_throughput.InputStage("decoding", 480.0, is_serial=False),
            ),
        )
    )
    assert words_after(text, "the training input, from slow storage") == ["800", "800", "-", "800", "0.80", "2.67"]
    assert words_after(text, "reading") == ["20.0", "one", "thread"]
    assert words_after(text, "decoding") == ["480.0", "all", "cores"]
    assert words_after(text, "on  8 such cores") == ["12,500", "16,000"]
    assert words_after(text, "on 64 such cores") == ["36,364", "50,000"]
