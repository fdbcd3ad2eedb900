"""Tests of `pixel_files`: the files of CIFAR-10 and MNIST as their authors publish them."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import prepare
from tests.helpers.files import touch
from tests.helpers.layouts import error_of, find, sizes

RNG = np.random.default_rng(0)
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
# Pixels as CIFAR has them: 1024 red ones, 1024 green ones, 1024 blue ones, row by row.
BATCHES = {name: (RNG.integers(0, 256, (6, 3072), "uint8"), RNG.integers(0, 10, 6)) for name in NAMES}


def python_batch(name):
    pixels, labels = BATCHES[name]
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)


def write_cifar(directory, kind):
    directory.mkdir(exist_ok=True)
    files = {f"cifar-10-batches-py/{name}": python_batch(name) for name in NAMES}
    if kind == "archive":
        with tarfile.open(directory / "cifar-10-python.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for name, content in files.items() if kind != "archive" else ():
        touch(directory, name if kind == "folder" else name.split("/")[1], content=content)
    return directory


@pytest.mark.parametrize("kind", ["files", "folder", "archive"])
def test_cifar_has_its_pixels_and_classes(tmp_path, kind):
    data = find(write_cifar(tmp_path / "cifar", kind))
    assert data.class_names[0] == "airplane" and data.class_names[9] == "truck" and data.validation == "test"
    assert sizes(data) == {"train": 30, "test": 6} and "chosen on test" in data.notes[0]
    for index, name, row in ((0, "data_batch_1", 0), (13, "data_batch_3", 1), (29, "data_batch_5", 5)):
        pixels, labels = BATCHES[name]
        image = tf.io.decode_png(data.splits["train"].image_bytes(index)).numpy()
        assert image[3, 5].tolist() == [pixels[row, 1024 * channel + 32 * 3 + 5] for channel in range(3)]
        assert data.splits["train"].label(index) == labels[row]


def test_cifar_is_prepared(tmp_path):
    prepare.prepare(find(write_cifar(tmp_path / "cifar", "files")), tmp_path / "out")
    assert sizes(find(tmp_path / "out")) == {"train": 30, "test": 6}


def test_a_pickle_that_would_call_something_is_refused_and_not_called(tmp_path):
    directory = write_cifar(tmp_path / "cifar", "files")
    hostile = b"cos\nsystem\n(S'touch " + bytes(tmp_path / "called") + b"'\ntR."
    touch(directory, "data_batch_2", content=hostile)
    assert "damaged or incomplete (os.system is not part of an array)" in error_of(directory)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: b"abc",
        lambda content: pickle.dumps({b"data": np.zeros((2, 9), "uint8"), b"labels": [0, 1]}),
    ],
)
def test_a_damaged_or_missing_batch_is_an_error(tmp_path, damage):
    directory = write_cifar(tmp_path / "cifar", "files")
    path = directory / "data_batch_4"
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in error_of(directory)
    path.unlink()
    assert "incomplete ('data_batch_4')" in error_of(directory)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(directory, name="{}-ubyte", compress=bytes):
    arrays = {}
    for split, count in (("train", 30), ("t10k", 10)):
        arrays[split] = RNG.integers(0, 256, (count, 28, 28), "uint8"), np.arange(count, dtype="uint8") % 10
        for what, array in zip(("images-idx3", "labels-idx1"), arrays[split]):
            touch(directory, name.format(f"{split}-{what}"), content=compress(idx(array)))
    return arrays


@pytest.mark.parametrize(("name", "compress"), [("{}-ubyte", bytes), ("{}-ubyte.gz", gzip.compress)])
@pytest.mark.parametrize("separator", ["-", "."])
def test_mnist_has_its_pixels_and_classes(tmp_path, name, compress, separator):
    arrays = write_mnist(tmp_path, name, compress)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("-idx", f"{separator}idx"))
    data = find(tmp_path)
    assert data.class_names == tuple("0123456789") and sizes(data) == {"train": 30, "test": 10}
    image = tf.io.decode_png(data.splits["train"].image_bytes(7)).numpy()
    np.testing.assert_array_equal(image[..., 0], arrays["train"][0][7])
    assert data.splits["train"].label(7) == 7 and len(data.fingerprint()) == 16


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "t10k-labels-idx1-ubyte"), (idx(np.zeros(3, "uint8")), "3 labels"), (b"", "damaged")],
)
def test_a_damaged_or_missing_file_of_mnist_is_an_error(tmp_path, content, message):
    write_mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.unlink() if content is None else path.write_bytes(content)
    assert message in error_of(tmp_path)
