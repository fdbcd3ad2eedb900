"""Tests of `tfrecords`: examples by offset, in order, with what goes along; files that are cut or damaged."""

import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery, prepare, tfrecords
from alexnet_tf.support import errors

# With zero bytes, and bytes that are no text.
CONTENTS = [bytes([10 * i]) * (3 + i * 5 % 17) for i in range(26)]
LABELS = np.arange(26, dtype="int32") * 7 % 11


@pytest.fixture
def split(tmp_path):
    """26 examples in three files, not in the order in which they lie there, with rubbish between them."""
    files, offsets, lengths = [b"", b"", b""], [0] * 26, [0] * 26
    for index in np.random.default_rng(5).permutation(26).tolist():
        number = index % 3
        files[number] += b"#" * (index % 4)
        offsets[index], lengths[index] = len(files[number]), len(CONTENTS[index])
        files[number] += CONTENTS[index]
    for number, content in enumerate(files):
        (tmp_path / f"{number}.bin").write_bytes(content + b"#")
    return tfrecords.Records(
        tuple(str(tmp_path / f"{number}.bin") for number in range(3)),
        np.arange(26, dtype="int32") % 3,
        np.array(offsets, "int64"),
        np.array(lengths, "int64"),
        LABELS,
        is_square=True,  # So that the bytes are handed on whatever they are.
    )


def read(split, indices, block_size, function, *others):
    """Returns what `examples` gives for some indices, as lists of what comes out."""
    blocks = tf.data.Dataset.from_tensor_slices((np.asarray(indices, "int64"), *others)).batch(block_size)
    return [list(each) for each in zip(*split.examples(blocks, function).as_numpy_iterator())]


ORDERS = {"forwards": range(26), "backwards": range(25, -1, -1), "some twice": [3, 3, 25, 0, 3, 11, 0], "one": [17]}


@pytest.mark.parametrize("block_size", [1, 2, 7, 26, 32])
@pytest.mark.parametrize("order", ORDERS)
def test_examples_come_in_order_with_what_goes_along(split, block_size, order):
    indices = list(ORDERS[order])
    numbers, pairs = np.array(indices) * 100, np.random.default_rng(0).random((len(indices), 4), "float32")
    contents, labels, first, second = read(
        split, indices, block_size, lambda image_bytes, label, a, b: (image_bytes, label, a + 1, b), numbers, pairs
    )
    assert contents == [CONTENTS[i] for i in indices] and labels == [LABELS[i] for i in indices]
    assert first == [100 * i + 1 for i in indices] and np.array_equal(second, pairs)


def test_examples_give_scalars_of_known_kinds(split):
    blocks = tf.data.Dataset.from_tensors((tf.range(4, dtype=tf.int64),))
    dataset = split.examples(blocks, lambda image_bytes, label: (image_bytes, label))
    assert dataset.element_spec == (tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32))


def test_single_examples(split):
    assert len(split) == 26
    for index in (0, 1, 13, 25):
        assert split.image_bytes(index) == CONTENTS[index] and split.label(index) == LABELS[index]
        assert split.describe(index) == f"{split.files[index % 3]}, the record at byte {split.offsets[index]}"
    assert type(split.label(1)) is int


@pytest.mark.parametrize(
    "indices", [np.array([20, 3, 3, 0]), np.arange(26)[::-5], np.array([], "int64"), slice(2, 9, 3)]
)
def test_part_has_just_these_in_this_order(split, indices):
    part, chosen = split.subset(indices), np.arange(26)[indices]
    assert [part.image_bytes(i) for i in range(len(part))] == [CONTENTS[i] for i in chosen]
    assert part.labels.tolist() == LABELS[chosen].tolist() and part.files == split.files
    assert [part.describe(i) for i in range(len(part))] == [split.describe(i) for i in chosen]


def test_hold_out_takes_every_tenth(split):
    kept, held_out = tfrecords.hold_out(split)
    assert [held_out.image_bytes(i) for i in range(len(held_out))] == [CONTENTS[i] for i in (0, 10, 20)]
    assert [kept.image_bytes(i) for i in range(len(kept))] == [CONTENTS[i] for i in range(26) if i not in (0, 10, 20)]
    assert held_out.labels.tolist() == LABELS[[0, 10, 20]].tolist()


def test_a_missing_file_is_an_error(split):
    os.unlink(split.files[1])
    with pytest.raises(OSError, match="1.bin"):
        split.image_bytes(4)
    with pytest.raises(tf.errors.OpError, match="1.bin"):
        read(split, range(26), 4, lambda *each: each)


# From here on: real pictures.


def pixels(number):
    """A picture of 256 x 256 pixels whose green says which it is."""
    image = np.random.default_rng(number).integers(0, 256, (256, 256, 3), "uint8") // 4
    image[..., 1] = 10 * number + 20
    return image


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source") / "pictures"
    for split, numbers in (("train", range(12)), ("val", range(12, 19))):
        for number in numbers:
            path = root / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels(number)).save(path)
    return root


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "SHARD_IMAGES", 5)
        prepare.prepare(discovery.find_dataset(str(source)), path)
    return path


@pytest.fixture
def prepared(whole, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("is_cut", [True, False])
@pytest.mark.parametrize("name", ["preparation.json", "index.npz", "pictures-train.tfrecord-00002-of-00003"])
def test_prepared_records_that_are_cut_or_lack_a_file_are_an_error(prepared, name, is_cut):
    path = prepared / name
    if is_cut:
        os.truncate(path, path.stat().st_size // 2)
    elif name != "preparation.json":  # Without it, they are an ordinary data set of TFDS.
        path.unlink()
    else:
        path.write_bytes(b"[]")
    with pytest.raises(errors.DataError, match=f"{prepared} are damaged or incomplete.*Prepare the data set again"):
        discovery.find_dataset(str(prepared))


def test_read_prepared_uses_the_index_as_it_was_written_or_not_at_all(prepared):
    path, rng = prepared / "index.npz", np.random.default_rng(0)
    content, expected = path.read_bytes(), tfrecords.read_prepared(prepared)
    headers = [match.start() for match in re.finditer(b"PK|NUMPY", content)]
    refused = 0
    for number in range(150):
        damaged = bytearray(content)
        # Half of the damage is where the archive and the arrays are described.
        place = int(rng.integers(len(content)) if number % 2 else rng.choice(headers) + rng.integers(120))
        damaged[min(place, len(content) - 1)] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            found = tfrecords.read_prepared(prepared)
        except errors.DataError:
            refused += 1
            continue
        np.testing.assert_array_equal(found.statistics.mean_image, expected.statistics.mean_image)
        for name, split in found.splits.items():
            for field in tfrecords.COLUMNS:
                np.testing.assert_array_equal(getattr(split, field), getattr(expected.splits[name], field))
    assert refused > 100


def test_a_cut_after_the_look_is_an_error_not_silence(prepared):
    split = tfrecords.read_prepared(prepared).splits["train"]
    os.truncate(split.files[1], split.offsets[6] + split.lengths[6] // 2)
    decode = lambda image_bytes, label: (tf.io.decode_jpeg(image_bytes, channels=3), label)  # noqa: E731
    images, labels = read(split, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11], 3, decode)  # What is whole is read.
    assert [round((image[..., 1].mean() - 20) / 10) % 2 for image in images] == labels
    for index in (6, 7):
        with pytest.raises(tf.errors.OpError):
            read(split, [index], 1, decode)
