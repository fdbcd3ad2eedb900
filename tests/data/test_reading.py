"""Tests of `reading`: only regular files of a bounded size, and reads that wait together."""

import os
import pickle
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import reading


def test_a_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="it is no regular file"):
        reading.read_file(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "/", "."])
def test_what_is_no_regular_file_is_refused(tmp_path, target):
    (tmp_path / "x.jpg").symlink_to(target)
    with pytest.raises(OSError, match="it is no regular file"):
        reading.read_file(str(tmp_path / "x.jpg"))


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(OSError, match="3,221,225,472 bytes; at most 256,000,000 are read"):
        reading.read_file(str(tmp_path / "x.jpg"))


def test_read_file_is_the_content(tmp_path):
    content = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    assert reading.read_file(str(tmp_path / "x")) == content and reading.read_file(str(tmp_path / "empty")) == b""


def test_open_files_read_ranges_and_keep_few_descriptors(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"%03d" % number)
    before = len(os.listdir("/proc/self/fd"))
    files = reading.OpenFiles()
    assert [files.read(str(tmp_path / str(number)), 1, 2) for number in range(300)] == [
        b"%02d" % (n % 100) for n in range(300)
    ]
    assert len(os.listdir("/proc/self/fd")) - before <= 128
    with pytest.raises(OSError, match="the file is cut"):
        files.read(str(tmp_path / "7"), 2, 2)
    assert pickle.loads(pickle.dumps(files)).read(str(tmp_path / "7"), 0, 3) == b"007"
    del files
    assert len(os.listdir("/proc/self/fd")) <= before


def test_slow_reads_wait_together_and_keep_their_order():
    waiting, most = [0], [0]
    lock = threading.Lock()

    def read(index):
        with lock:
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
        time.sleep(0.03)
        with lock:
            waiting[0] -= 1
        return b"%d" % index

    blocks = tf.data.Dataset.range(256).batch(32)
    found = list(
        reading.read_examples(blocks, read, np.arange(256, dtype="int32"), lambda content, label: (content, label))
    )
    assert [(content.numpy(), int(label)) for content, label in found] == [(b"%d" % i, i) for i in range(256)]
    assert most[0] > 16


def test_fast_reads_stay_in_one_thread():
    threads = set()

    def read(index):
        threads.add(threading.current_thread().name)
        return b""

    read_time = reading._ReadTime()
    for _ in range(10):
        reading.read_block(read, range(32), read_time)
    assert threads == {threading.current_thread().name}


@pytest.mark.parametrize(
    ("milliseconds", "cpus", "count"), [(0.01, 2, 1), (0.01, 64, 1), (1, 2, 1), (5, 2, 4), (5, 16, 13), (100, 4, 32)]
)
def test_slower_reads_and_more_cpus_need_more_reads_that_wait(milliseconds, cpus, count, monkeypatch):
    monkeypatch.setattr(reading.processors, "available_cpus", lambda: cpus)
    monkeypatch.setattr(reading, "PARALLEL_BLOCKS", max(8, cpus))
    assert reading._waiting_reads(milliseconds / 1000) == count


def test_simulated_latency_delays_every_read(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with reading.simulated_latency(0.02):
        start = time.perf_counter()
        reading.read_file(str(tmp_path / "x"))
        assert time.perf_counter() - start >= 0.02
    assert reading._simulated_latency == 0
