"""Tests of `processors`: how many CPUs a process may use, and that helper processes take no GPU."""

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from alexnet_tf.data import prepare_images
from alexnet_tf.support import processors
from tests.helpers import processes


@pytest.fixture
def affinity(monkeypatch):
    """Returns the set of CPUs that the process may run on, five at first."""
    cpus = set(range(5))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cpus, raising=False)
    processors.available_cpus.cache_clear()
    yield cpus
    processors.available_cpus.cache_clear()


@pytest.mark.parametrize(("quota", "count"), [(None, 5), (2, 2), (64, 5)])
def test_available_cpus_are_those_of_the_affinity_mask_and_the_containers_quota(affinity, monkeypatch, quota, count):
    monkeypatch.setattr(processors, "cgroup_cpus", lambda: quota)
    assert processors.available_cpus() == count


OPEN_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
from alexnet_tf.commands import cli
assert cli.run_command("train", ["--version"]) == 0
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "expected"), [(512, "512"), (10_000, "8192")])
def test_every_command_may_open_many_files(hard, expected):
    printed = subprocess.run([sys.executable, "-c", OPEN_FILES, str(hard)], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[-1] == expected


def test_available_cpus_without_an_affinity_mask(affinity, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(processors, "cgroup_cpus", lambda: None)
    assert processors.available_cpus() == 7


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
        ({"cpu.max": "?"}, None),
    ],
)
def test_cgroup_cpus_of_both_versions(tmp_path, files, count):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors.cgroup_cpus(tmp_path) == count


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "2147483648\n"}, 2**31),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "1000"}, 1000),
        ({}, None),
    ],
)
def test_cgroup_memory_of_both_versions(tmp_path, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors.cgroup_memory(tmp_path) == limit


@pytest.fixture
def gpus_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def test_a_helper_process_sees_the_gpus_unless_it_hides_them(gpus_are_visible):
    spawn = multiprocessing.get_context("spawn")
    for initializer, seen in (None, "0,1"), (processors.hide_gpus, "-1"):
        with concurrent.futures.ProcessPoolExecutor(1, spawn, initializer) as pool:
            assert pool.submit(processes.visible_gpus).result() == seen
    with processors.pool() as pool:
        assert pool.submit(processes.visible_gpus).result() == "-1"
    assert processes.visible_gpus() == "0,1"


def test_workers_of_prepare_see_no_gpu(gpus_are_visible, monkeypatch):
    """In this process, because another one would import TensorFlow."""
    for module, name in (
        (processors, "end_with_parent"),
        (signal, "signal"),
        (tf.config.threading, "set_intra_op_parallelism_threads"),
        (tf.config.threading, "set_inter_op_parallelism_threads"),
    ):
        monkeypatch.setattr(module, name, lambda *arguments: None)
    prepare_images.set_up_process()
    assert processes.visible_gpus() == "-1"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "model name\t: Some CPU\nflags\t\t: fpu avx2\n\nmodel name\t: Some CPU\nflags\t\t: fpu avx2\n",
            ("Some CPU", {"fpu", "avx2"}),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd\n", ("aarch64", {"fp", "asimd"})),
        (None, ("aarch64", set())),
    ],
)
def test_processor_is_what_linux_says_or_the_machines_kind(content, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processors.platform, "processor", lambda: "")
    monkeypatch.setattr(processors.platform, "machine", lambda: "aarch64")
    if content:
        (tmp_path / "cpuinfo").write_text(content)
    assert processors.processor() == expected
