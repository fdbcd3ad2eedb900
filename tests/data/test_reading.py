"""Tests of `reading`: only regular files of a bounded size, and reads that wait together."""

import concurrent.futures
import errno
import os
import pickle
import resource
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import datasets, input_pipeline, plain_images, prepare_images, reading
from alexnet_tf.evaluation import predictions
from alexnet_tf.support import errors


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


def test_few_descriptors_are_kept_where_few_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (40, 40))
    before, files = len(os.listdir("/proc/self/fd")), reading.OpenFiles()
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"x")
        files.read(str(tmp_path / str(number)), 0, 1)
    assert len(os.listdir("/proc/self/fd")) - before == 10


FILES = datasets.ImageFiles(("x.jpg",) * 30, np.zeros(30, "int32"))

READERS = {
    "training and evaluation": lambda: input_pipeline.bad_images(FILES, range(9), OSError(), "skip", {}),
    "prepare": lambda: prepare_images.prepare_images((FILES, "paper", True)),
    "predict": lambda: predictions.read("x.jpg"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "advice"),
    [("EMFILE", "ulimit -n 4096"), ("ENFILE", "end other"), ("ENOMEM", "Memory"), ("ESTALE", "mount it again")],
)
def test_what_fails_of_the_machine_is_no_bad_image(monkeypatch, reader, name, advice):
    def fail(path, *arguments):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), path)

    monkeypatch.setattr(os, "open", fail)
    told = f"Images can no longer be read: {os.strerror(getattr(errno, name))}. .*{advice}.* the same command again"
    with pytest.raises(errors.DataError, match=told):
        READERS[reader]()


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
