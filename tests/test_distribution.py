"""Tests of `distribution`."""

import pathlib

import pytest

from alexnet_tf import distribution


@pytest.mark.parametrize(("cpuinfo", "precision"), [
    ("flags : fpu avx512f avx512_bf16", "mixed_bfloat16"), ("flags : amx_bf16", "mixed_bfloat16"),
    ("flags : fpu avx2 avx512f", "float32"), (None, "float32")])
def test_default_precision_is_bfloat16_where_the_cpu_computes_in_it(monkeypatch, cpuinfo, precision):
    def read_text(path):
        if cpuinfo is None:
            raise OSError
        return cpuinfo

    monkeypatch.setattr(distribution.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(pathlib.Path, "read_text", read_text)
    assert distribution.default_precision() == precision


def test_default_precision_on_a_gpu_is_float32(monkeypatch):
    monkeypatch.setattr(distribution.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert distribution.default_precision() == "float32"
