"""Tests of `pixel_files`: the files of CIFAR-10, MNIST and EMNIST as their authors publish them."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery, input_pipeline, prepare
from alexnet_tf.support import errors

RNG = np.random.default_rng(0)
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
# Pixels as CIFAR has them: 1024 red ones, 1024 green ones, 1024 blue ones, row by row.
BATCHES = {name: (RNG.integers(0, 256, (6, 3072), "uint8"), RNG.integers(0, 10, 6)) for name in NAMES}


def python_batch(name):
    pixels, labels = BATCHES[name]
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)


def binary_batch(name):
    pixels, labels = BATCHES[name]
    return np.concatenate([labels[:, None].astype("uint8"), pixels], 1).tobytes()


def write_cifar(directory, kind):
    directory.mkdir(exist_ok=True)
    make, ending, folder = (
        (python_batch, "", "cifar-10-batches-py")
        if "python" in kind
        else (binary_batch, ".bin", "cifar-10-batches-bin")
    )
    files = {f"{folder}/{name}{ending}": make(name) for name in NAMES}
    if kind.endswith("tar.gz"):
        with tarfile.open(directory / kind, "w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            path = directory / name if "folder" in kind else directory / name.split("/")[1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    return str(directory)


@pytest.mark.parametrize(
    "kind", ["python", "binary", "python folder", "binary folder", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"]
)
def test_cifar_has_its_pixels_and_classes(tmp_path, kind):
    data = discovery.find_dataset(write_cifar(tmp_path / "cifar", kind))
    assert data.class_names[0] == "airplane" and data.class_names[9] == "truck" and data.validation == "test"
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 30, "test": 6}
    for index, name, row in ((0, "data_batch_1", 0), (13, "data_batch_3", 1), (29, "data_batch_5", 5)):
        pixels, labels = BATCHES[name]
        image = tf.io.decode_png(data.splits["train"].image_bytes(index)).numpy()
        assert image[3, 5].tolist() == [pixels[row, 1024 * channel + 32 * 3 + 5] for channel in range(3)]
        assert data.splits["train"].label(index) == labels[row]


def test_cifar_is_trained_on_and_prepared(tmp_path):
    data = discovery.find_dataset(write_cifar(tmp_path / "cifar", "python"))
    batches = list(input_pipeline.evaluation_batches(data.splits["test"], batch_size=4, image_size=224, resize="paper"))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert np.concatenate([labels for _, labels in batches]).tolist() == BATCHES["test_batch"][1].tolist()
    prepare.prepare(data, tmp_path / "out")
    assert len(discovery.find_dataset(str(tmp_path / "out")).splits["train"]) == 30


def test_a_pickle_that_would_call_something_is_refused_and_not_called(tmp_path):
    directory = write_cifar(tmp_path / "cifar", "python")
    (tmp_path / "cifar" / "data_batch_2").write_bytes(
        b"cos\nsystem\n(S'touch " + bytes(tmp_path / "called") + b"'\ntR."
    )
    with pytest.raises(errors.DataError, match=r"damaged \(os.system is no part of an array\)"):
        discovery.find_dataset(directory)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"", lambda content: b"abc"])
@pytest.mark.parametrize("kind", ["python", "binary"])
def test_a_damaged_batch_is_an_error(tmp_path, kind, damage):
    directory = write_cifar(tmp_path / "cifar", kind)
    [path] = (tmp_path / "cifar").glob("data_batch_4*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.DataError, match="damaged"):
        discovery.find_dataset(directory)
    path.unlink()
    with pytest.raises(errors.DataError, match="data_batch_4.* is missing"):
        discovery.find_dataset(directory)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize(("name", "compress"), [("{}-ubyte", bytes), ("{}-ubyte.gz", gzip.compress)])
@pytest.mark.parametrize("separator", ["-", "."])
def test_mnist_has_its_pixels_and_classes(tmp_path, name, compress, separator):
    arrays = {}
    for split, count in (("train", 30), ("t10k", 10)):
        arrays[split] = RNG.integers(0, 256, (count, 28, 28), "uint8"), np.arange(count, dtype="uint8") % 10
        for what, array in zip(("images-idx3", "labels-idx1"), arrays[split]):
            file = name.format(f"{split}-{what}").replace("-idx", f"{separator}idx")
            (tmp_path / file).write_bytes(compress(idx(array)))
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == tuple("0123456789") and {n: len(s) for n, s in data.splits.items()} == {
        "train": 30,
        "test": 10,
    }
    image = tf.io.decode_png(data.splits["train"].image_bytes(7)).numpy()
    np.testing.assert_array_equal(image[..., 0], arrays["train"][0][7])
    assert data.splits["train"].label(7) == 7 and len(data.fingerprint()) == 16


def write_emnist(directory, labels, name="letters"):
    images = np.arange(len(labels) * 28 * 28).reshape(len(labels), 28, 28) % 251
    for split in ("train", "test"):
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = directory / f"emnist-{name}-{split}-{what}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array.astype("uint8"))))
    return images


@pytest.mark.parametrize("mapping", [True, False])
def test_emnist_is_upright_and_begins_with_its_first_letter(tmp_path, mapping):
    labels = np.arange(52) % 26 + 1
    images = write_emnist(tmp_path, labels)
    if mapping:
        lines = (f"{number} {number + 64} {number + 96}\n" for number in range(1, 27))
        (tmp_path / "emnist-letters-mapping.txt").write_text("".join(lines))
    data = discovery.find_dataset(str(tmp_path))
    assert data.name == "emnist-letters" and {name: len(split) for name, split in data.splits.items()} == {
        "train": 52,
        "test": 52,
    }
    names = [chr(number + 64) for number in range(1, 27)] if mapping else list(map(str, range(1, 27)))
    assert list(data.class_names) == names
    train = data.splits["train"]
    assert [data.class_names[train.label(index)] for index in range(52)] == names * 2
    np.testing.assert_array_equal(tf.io.decode_png(train.image_bytes(3)).numpy()[..., 0], images[3].T)
    assert any("set upright" in note for note in data.notes)


def test_several_sets_of_emnist_are_an_error(tmp_path):
    for name in ("letters", "digits"):
        write_emnist(tmp_path, np.arange(52) % 26 + 1, name)
    with pytest.raises(errors.DataError, match="several sets of EMNIST: emnist-digits, emnist-letters. Put the files"):
        discovery.find_dataset(str(tmp_path))


def test_a_missing_file_of_emnist_is_named(tmp_path):
    write_emnist(tmp_path, np.arange(52) % 26 + 1)
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(errors.DataError, match="emnist-letters-test-labels-idx1-ubyte is missing"):
        discovery.find_dataset(str(tmp_path))
