"""Tests of `devices`: what is decided from a machine's processors, which are made up here."""

import pathlib

import pytest
import tensorflow as tf

from alexnet_tf.support import devices


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that makes TensorFlow see GPUs of some compute capabilities."""

    def make(*capabilities, cpuinfo="flags : fpu avx2"):
        real = tf.config.list_physical_devices
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind: list(capabilities) if kind == "GPU" else real(kind)
        )
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu} if gpu else {}
        )
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: cpuinfo)

    return make


@pytest.mark.parametrize(
    ("cpuinfo", "precision"),
    [
        ("flags : fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags : amx_bf16", "mixed_bfloat16"),
        ("flags : fpu avx2 avx512f", "float32"),
    ],
)
def test_default_precision_is_bfloat16_where_the_cpu_computes_in_it(machine, cpuinfo, precision):
    machine(cpuinfo=cpuinfo)
    assert devices.default_precision() == precision
    machine((9, 0), cpuinfo=cpuinfo)
    assert devices.default_precision(["CPU:0", "CPU:1"]) == precision  # The GPU is not used.


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (8, 6)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(7, 0), (8, 0)], "float32"),
        ([(6, 1)], "float32"),
        ([()], "float32"),
    ],
)
def test_default_precision_on_gpus_follows_their_compute_capability(machine, capabilities, precision):
    machine(*capabilities)
    assert devices.default_precision() == precision
    assert devices.default_precision([f"GPU:{i}" for i in range(len(capabilities))]) == precision


def test_a_gpu_that_cannot_be_used_is_reported(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.unusable_gpu() is None
    monkeypatch.setattr(devices, "_DRIVER_FILES", (str(tmp_path),))
    assert "pip install 'tensorflow[and-cuda]'" in devices.unusable_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # Hidden on purpose.
    assert devices.unusable_gpu() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    machine((9, 0))
    assert devices.unusable_gpu() is None


def test_tf32_is_on_where_there_is_a_gpu_and_it_is_wanted(machine):
    is_on = tf.config.experimental.tensor_float_32_execution_enabled
    before = is_on()
    try:
        devices.set_numerics(tf32=True)
        assert not is_on() and devices.numerics() is None
        machine((9, 0))
        devices.set_numerics(tf32=True)
        assert is_on() and devices.numerics().startswith("TF32 is on")
        devices.set_numerics(tf32=False)
        assert not is_on() and devices.numerics() == "TF32 is off."
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
