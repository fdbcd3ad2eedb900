"""Tests of `reading`: only regular files of a bounded size, and reads that wait together."""

import concurrent.futures
import os
import pickle
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import datasets, plain_images, reading


def test_a_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="it is not a regular file"):
        reading.read_file(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "/", "."])
def test_what_is_not_a_regular_file_is_refused(tmp_path, target):
    (tmp_path / "x.jpg").symlink_to(target)
    with pytest.raises(OSError, match="it is not a regular file"):
        reading.read_file(str(tmp_path / "x.jpg"))


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(OSError, match="3,221,225,472 bytes; at most 256,000,000 are read"):
        reading.read_file(str(tmp_path / "x.jpg"))


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


class Slow(datasets.ImageSource):
    """256 examples, each of which takes 30 ms to read; counts how many are read at a time."""

    labels, files = None, ()

    def __init__(self):
        self.waiting, self.most, self.lock = 0, 0, threading.Lock()

    def read(self, index):
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        time.sleep(0.03)
        with self.lock:
            self.waiting -= 1
        return plain_images.as_png(np.full((1, 1, 1), index, "uint8")), 1000 + index


def test_slow_reads_wait_together_and_keep_their_order():
    source, options = Slow(), tf.data.Options()
    options.threading.private_threadpool_size = 16
    blocks = tf.data.Dataset.range(256).batch(32)
    found = list(reading.read_examples(source, blocks, lambda *example: example).with_options(options))
    assert [(content.numpy(), int(label)) for content, label in found] == [source.read(index) for index in range(256)]
    assert source.most > 16


def test_many_threads_open_a_file_at_once(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for _ in range(200):
            files = reading.OpenFiles()
            assert set(pool.map(lambda _, files=files: files.read(str(tmp_path / "file"), 2, 3), range(32))) == {b"234"}
