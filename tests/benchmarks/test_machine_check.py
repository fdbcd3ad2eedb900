"""Tests of `machine_check`: what is checked, and that a part which fails or crashes is a line like any other."""

import os
import signal

import pytest

from alexnet_tf.benchmarks import input_throughput, machine_check, rounds, worker_process
from alexnet_tf.commands import cli
from alexnet_tf.network import xla
from tests.helpers.networks import TINY
from tests.helpers.workloads import InThisProcess

FACTS = {"unusable_gpu": None, "free_bytes": 2**34, "default_precision": "float32"}


def crash():
    """A workload whose call kills its process, as XLA may."""
    return worker_process.Workload({"xla": lambda: os.kill(os.getpid(), signal.SIGKILL)}, {"gpus": []})


def result(precision="float32", rate=100.0, is_deterministic=True, difference=0.0):
    return machine_check.PrecisionCheck(precision, rate, is_deterministic, difference)


def test_check_of_this_machine(monkeypatch):
    monkeypatch.setattr(worker_process, "WorkerProcess", InThisProcess)
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(input_throughput, "_STAGE_IMAGES", 16)
    monkeypatch.setenv(xla.VARIABLE, "")
    monkeypatch.delenv(xla.VARIABLE)
    lines = "\n".join(machine_check.check(TINY, batch_size=2, seconds=0.02)).splitlines()
    words = [line.split()[0] for line in lines[:9]]
    assert words == [
        "Python",
        "Packages",
        "Built",
        "Processor",
        "Driver",
        "Accelerator",
        "XLA",
        "float32",
        "mixed_bfloat16",
    ]
    assert "tensorflow 2.21" in lines[1] and lines[6].endswith("works") and "FAILED" not in "".join(lines)
    for line in lines[7:9]:
        assert "images/s, same bits twice, logits within" in line
    assert lines[9].startswith("Input") and "bare decode" in lines[9] and lines[11] == "What to change:"


def test_difference_is_that_of_the_precision():
    exact, rough = (
        machine_check.make_precision_workload(TINY, 2, precision).calls["check"](0.0)
        for precision in ("float32", "mixed_bfloat16")
    )
    assert exact.is_right and exact.difference < 1e-5 and exact.images_per_second > 0
    assert rough.is_right and 1e-4 < rough.difference < 0.05
    assert not result(difference=1e-3).is_right and result("mixed_bfloat16", difference=1e-3).is_right
    assert "NOT the same bits twice" in str(result(is_deterministic=False))


def test_a_crash_or_an_error_is_a_line(monkeypatch):
    monkeypatch.setattr(machine_check, "__name__", "tests.benchmarks.test_machine_check")
    facts, answer, failure = machine_check._run("crash", "xla")
    assert facts == {"gpus": []} and answer is None and failure.startswith("BrokenProcessPool: A process")
    facts, answer, failure = machine_check._run("result", "xla", rate={})
    assert (facts, answer) == ({}, None) and failure.startswith("AttributeError")


def test_check_ends_where_tensorflow_does_not_start(monkeypatch):
    monkeypatch.setattr(machine_check, "_run", lambda *arguments, **options: ({}, None, "ImportError: no libcudart"))
    assert list(machine_check.check(TINY))[-1] == "TensorFlow  FAILED: ImportError: no libcudart"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ((FACTS, "", [result()], 1000.0), []),
        ((FACTS | {"unusable_gpu": "pip install it"}, "", [result()], 1000.0), ["pip install it"]),
        ((FACTS, "crashed", [result()], 1000.0), ["XLA does not work here"]),
        ((FACTS, "", [result(is_deterministic=False)], 1000.0), ["float32 is not reproducible here"]),
        (
            (FACTS, "", [result(), result("mixed_float16", 900.0, difference=0.5)], 1000.0),
            ["do not use --precision=mixed_float16"],
        ),
        (
            (FACTS, "", [result(), result("mixed_bfloat16", 250.0)], 1000.0),
            ["--precision=mixed_bfloat16 trains 2.5 times as fast as float32, the default here"],
        ),
        ((FACTS, "", [result()], 90.0), ["python -m alexnet_tf prepare"]),
        ((FACTS | {"free_bytes": 2**30}, "", [result()], 1000.0), ["use a smaller --batch_size"]),
        ((FACTS, "", [], None), []),
    ],
)
def test_advice(arguments, advice):
    got = machine_check._advice(*arguments)
    assert len(got) == len(advice) and all(part in line for part, line in zip(advice, got, strict=True))


def test_command_prints_what_is_checked(monkeypatch, capsys):
    monkeypatch.setattr(machine_check, "check", lambda *arguments: iter([f"{arguments[1:]}"]))
    assert cli.run_command("check", ["--batch_size=3"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["(3, 1.0)"]
