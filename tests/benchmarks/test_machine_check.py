"""Tests of `machine_check`: what is checked, and that a part which fails or crashes is a line like any other."""

import os
import signal

import pytest

from alexnet_tf.benchmarks import machine_check, rounds
from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from tests.helpers.networks import TINY
from tests.helpers.workloads import InThisProcess

OPTIONS = machine_check.Options("tiny", 2, 0.02)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", TINY)


def crash(*_):
    """Ends its process, as XLA may."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_check_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "Process", InThisProcess)
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    lines = "\n".join(machine_check.check(OPTIONS)).splitlines()
    words = ["Python", "Packages", "Machine", "TensorFlow", "no", "XLA", "float32", "mixed_bfloat16", "mixed_float16"]
    assert [line.split()[0] for line in lines] == [*words, "Input"]
    assert "tensorflow 2.21" in lines[1] and lines[5].endswith("works") and "FAILED" not in "".join(lines)
    for line in lines[6:8]:
        assert "images/s, the same bits twice, logits within" in line and "WRONG" not in line
    assert "bare decode" in lines[9]


def test_a_difference_beyond_rounding_is_wrong(monkeypatch):
    rough = machine_check.training(OPTIONS, "mixed_bfloat16")
    assert 1e-4 < float(rough.split(" of float32")[0].split()[-1]) < 0.05
    monkeypatch.setitem(machine_check._TOLERANCES, "mixed_bfloat16", 1e-4)
    assert machine_check.training(OPTIONS, "mixed_bfloat16").endswith("WRONG, do not use it and report this output")


def test_a_crash_or_an_error_is_a_line(monkeypatch):
    monkeypatch.setattr(machine_check, "machine", crash)
    monkeypatch.setattr(machine_check, "compiler", sorted)
    monkeypatch.setattr(machine_check, "training", max)
    monkeypatch.setattr(machine_check, "reading", crash)
    lines = list(machine_check.check(OPTIONS))[2:]
    assert lines[0].startswith("Machine         FAILED: BrokenProcessPool: A process") and len(lines) == 6
    assert lines[1].startswith("XLA             FAILED: TypeError: sorted expected") and "BrokenProcess" in lines[5]


def test_xla_that_fails_is_reported(monkeypatch):
    monkeypatch.setattr(machine_check.xla, "failure", lambda: "no ptxas")
    assert machine_check.compiler().startswith("FAILED: no ptxas. Training computes the same numbers without it")


def test_command_prints_what_is_checked(monkeypatch, capsys):
    monkeypatch.setattr(machine_check, "check", lambda options: iter([f"{options.batch_size}"]))
    assert cli.run_command("check", ["--batch_size=3"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["3"]
