"""Tests of `prepare`: `preprocessing`, NumPy and TFDS are the oracles; it is killed, starved and fed rubbish."""

import concurrent.futures
import errno
import io
import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import psutil
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import (
    datasets,
    discovery,
    plain_images,
    prepare,
    prepare_images,
    preprocessing,
    tfrecords,
)
from alexnet_tf.support import errors
from tests.helpers import commands

ROOT = pathlib.Path(__file__).parents[2]


def smooth(height, width, seed, low=20, high=235):
    """Returns a picture without fine detail, so that decoders, resizers and JPEG can only differ by rounding."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    rng = np.random.default_rng(seed)
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(-1.5, 1.5, (3, 3))]
    return ((low + high) / 2 + (high - low) / 2 * np.stack(waves, -1)).astype("uint8")


def encode(image, kind="jpeg", **options):
    image = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    file = io.BytesIO()
    options = {"quality": 98, "subsampling": 0} | options if kind == "jpeg" else options
    image.save(file, kind, **options)
    return file.getvalue()


def square_of(image_bytes, resize="paper"):
    """Returns the square, which the tests of `preprocessing` prove."""
    return preprocessing.square(tf.constant(plain_images.plain(image_bytes)), resize).numpy()


def jpeg_of(image_bytes, resize="paper"):
    return tf.io.encode_jpeg(square_of(image_bytes, resize), quality=95, chroma_downsampling=True).numpy()


def write_images(root, images):
    """Writes {path: bytes}."""
    for name, content in images.items():
        path = pathlib.Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return pathlib.Path(root)


def grey_jpeg(seed):
    return encode(PIL.Image.fromarray(smooth(200, 260, seed)[..., 0]), subsampling=-1)


IMAGES = {
    "train/bee/a photo 0.JPG": encode(smooth(300, 420, 0)),
    "train/bee/deep/1.png": encode(smooth(500, 280, 1), "png"),
    "train/bee/猫.jpeg": grey_jpeg(2),
    "train/bee/small.jpg": encode(smooth(40, 71, 3)),
    "train/bee/large.jpg": encode(smooth(700, 1100, 4)),
    "train/ant/256.jpg": encode(smooth(256, 256, 5)),
    "train/ant/256.png": encode(smooth(256, 256, 6), "png"),
    "train/ant/256 high.jpg": encode(smooth(300, 256, 7)),
    "train/ant/alpha.png": encode(np.dstack([smooth(270, 300, 8), np.full((270, 300), 7, "uint8")]), "png"),
    "train/ant/odd.png": encode(smooth(257, 640, 9), "png"),
    "train/cow/0.jpg": encode(smooth(333, 222, 10)),
    "train/cow/1.jpg": encode(smooth(222, 333, 11), progressive=True),
    "train/cow/upside down.jpg": encode(
        smooth(200, 300, 12), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
    ),
    # Validation is brighter: statistics that had it inside would be others.
    "val/ant/0.jpg": encode(smooth(280, 300, 20, 180, 250)),
    "val/bee/0.jpg": encode(smooth(300, 280, 21, 180, 250)),
    "val/cow/0.png": encode(smooth(120, 100, 22, 180, 250), "png"),
    "val/bee/1.png": encode(smooth(100, 120, 23, 180, 250), "png"),
    "val/bee/2.png": encode(smooth(100, 120, 24, 180, 250), "png"),
}
CLASSES = ("ant", "bee", "cow")


def of_split(split):
    return {name: image for name, image in IMAGES.items() if name.startswith(split)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("source") / "My Photos", IMAGES)


def prepare_data(data, output, shard_images=5, **options):
    """Prepares with small shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "SHARD_IMAGES", shard_images)
        return prepare.prepare(data, output, **options)


def prepare_all(source, output, shard_images=5, **options):
    """Prepares what is in a directory, with small shards."""
    return prepare_data(discovery.find_dataset(str(source)), output, shard_images, **options)


@pytest.fixture(scope="module")
def outputs(source, tmp_path_factory):
    """The source prepared in both ways: {resize: directory}."""
    directory = tmp_path_factory.mktemp("outputs")
    found = {}
    for resize in ("paper", "caffe"):
        found[resize] = directory / resize
        preparation, is_new = prepare_all(source, found[resize], resize=resize)
        assert is_new and json.loads(json.dumps(preparation)) == json.loads(
            (found[resize] / "preparation.json").read_text(encoding="utf-8")
        )
    return found


@pytest.fixture(scope="module")
def output(outputs):
    return outputs["paper"]


def read_with_tfds(directory, split):
    """Returns {file name: (JPEG, pixels, label)}, in the order of the files."""
    found, builder = {}, tfds.builder_from_directory(directory)
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    ways = [
        builder.as_dataset(split=split, shuffle_files=False, read_config=in_order, decoders=decoders)
        for decoders in (None, {"image": tfds.decode.SkipDecoding()})
    ]
    for whole, raw in zip(*map(tfds.as_numpy, ways), strict=True):
        assert whole["file_name"] == raw["file_name"] and whole["file_name"].decode() not in found
        found[whole["file_name"].decode()] = raw["image"], whole["image"], int(raw["label"])
    return found


def tree(directory):
    """Returns {name: bytes} of everything in a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def assert_same_tree(found, expected):
    found, expected = tree(found), tree(expected)
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


# What comes out, as TFDS reads it.

ORDER_OF_VAL = ["bee/1.png", "cow/0.png", "bee/2.png", "ant/0.jpg", "bee/0.jpg"]


def test_tfds_reads_splits_counts_and_classes(output):
    builder = tfds.builder_from_directory(output)
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {"train": 13, "val": 5}
    assert builder.info.splits["train"].shard_lengths == [5, 4, 4] and builder.info.splits["val"].shard_lengths == [5]
    assert tuple(builder.info.features["label"].names) == CLASSES
    assert builder.info.features["image"].shape == (256, 256, 3)
    assert builder.info.supervised_keys == ("image", "label")
    for split in ("train", "val"):
        files = [pathlib.Path(path) for path in builder.info.splits[split].filepaths]
        assert all(path.is_file() for path in files) and builder.info.splits[split].num_bytes == sum(
            path.stat().st_size for path in files
        )


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_every_image_is_there_as_the_jpeg_of_its_square(outputs, resize, split):
    found = read_with_tfds(outputs[resize], split)
    assert sorted(found) == sorted(of_split(split))
    for name, (jpeg, pixels, label) in found.items():
        assert CLASSES[label] == name.split("/")[1] and jpeg == jpeg_of(IMAGES[name], resize), name
        assert pixels.shape == (256, 256, 3) and pixels.dtype == np.uint8
        assert np.abs(pixels - square_of(IMAGES[name], resize).astype(int)).mean() < 4  # JPEG's loss.


def test_order_mixes_the_classes_and_is_the_same_for_ever(output):
    names = list(IMAGES)[:13]
    in_place = sorted(names)  # By class and name, as the source lists them.
    found = [in_place.index(name) for name in read_with_tfds(output, "train")]
    assert found == [10, 2, 7, 4, 5, 12, 0, 3, 6, 9, 11, 8, 1]
    assert [name.split("/", 1)[1] for name in read_with_tfds(output, "val")] == ORDER_OF_VAL


def test_find_reads_the_same_as_tfds(outputs, source):
    for resize, directory in outputs.items():
        data = discovery.find_dataset(str(directory))
        assert (data.name, data.directory, data.class_names) == ("My Photos", str(directory), CLASSES)
        assert (data.validation, data.source, data.resize) == ("val", str(source), resize)
        assert f"--resize={resize}" in data.summary() and str(source) in data.summary()
        assert list(data.splits) == ["train", "val"]
        for name, split in data.splits.items():
            expected = [(jpeg, label) for jpeg, _, label in read_with_tfds(directory, name).values()]
            assert split.is_square and [(split.image_bytes(i), split.label(i)) for i in range(len(split))] == expected


def test_the_output_holds_records_and_what_was_done_and_nothing_else(output, source):
    preparation = json.loads((output / "preparation.json").read_text(encoding="utf-8"))
    files = {file for split in preparation["splits"].values() for file in split["files"]}
    assert files == {f"my_photos-train.tfrecord-0000{i}-of-00003" for i in range(3)} | {
        "my_photos-val.tfrecord-00000-of-00001"
    }
    others = {"dataset_info.json", "features.json", "preparation.json", "index.npz", "label.labels.txt"}
    assert set(tree(output)) == files | others and not output.with_name("paper.incomplete").exists()
    assert preparation["source"] == str(source) and preparation["resize"] == "paper"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("2024 Photos", "images_2024_photos"), ("a-b.c", "a_b_c"), ("__x__", "x"), ("Ünï", "n"), ("猫", "images")],
)
def test_file_names_are_such_that_tfds_takes_them(tmp_path, name, expected):
    images = {
        path: encode(np.full((9, 9, 3), 90, "uint8"), "png")
        for path in ("train/a/1.png", "train/b/1.png", "val/a/1.png")
    }
    source = write_images(tmp_path / name, images)
    prepare_all(source, tmp_path / "out")
    assert {path.name.split("-")[0].rstrip("_") for path in (tmp_path / "out").glob("*.tfrecord-*")} == {expected}
    assert sorted(read_with_tfds(tmp_path / "out", "train")) == ["train/a/1.png", "train/b/1.png"]
    assert discovery.find_dataset(str(tmp_path / "out")).name == name


# The statistics, against NumPy on the same squares.


def test_statistics_are_those_of_numpy(output):
    squares = np.stack([square_of(image) for image in of_split("train").values()]).astype("float64")
    statistics = discovery.find_dataset(str(output)).statistics
    assert statistics.mean_image.dtype == np.float32
    np.testing.assert_allclose(statistics.mean_image, squares.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(statistics.mean_pixel, squares.mean(axis=(0, 1, 2)), rtol=1e-12)

    covariance = np.cov(squares.reshape(-1, 3).T, bias=True)
    stdevs, vectors = np.array(statistics.pca_stdevs), np.array(statistics.pca_vectors)
    assert (np.diff(stdevs) > 0).all() and stdevs[0] > 1
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(vectors @ np.diag(stdevs**2) @ vectors.T, covariance, rtol=1e-8)
    for i in range(3):  # Components are columns.
        np.testing.assert_allclose(covariance @ vectors[:, i], stdevs[i] ** 2 * vectors[:, i], rtol=1e-6, atol=1e-5)
    assert all(vectors[np.abs(vectors[:, i]).argmax(), i] > 0 for i in range(3))


def test_statistics_do_not_depend_on_the_shards(source, output, tmp_path):
    for shard_images in (2, 1024):
        prepare_all(source, tmp_path / f"{shard_images}", shard_images)
        found, expected = (tfrecords.read_prepared(each).statistics for each in (tmp_path / f"{shard_images}", output))
        assert (found.mean_pixel, found.pca_stdevs, found.pca_vectors) == (
            expected.mean_pixel,
            expected.pca_stdevs,
            expected.pca_vectors,
        )
        np.testing.assert_array_equal(found.mean_image, expected.mean_image)
        assert read_with_tfds(tmp_path / f"{shard_images}", "train").keys() == read_with_tfds(output, "train").keys()


def test_statistics_of_sums_that_float32_could_not_hold():
    images = 1_300_000
    pixel_sums = np.full((256, 256, 3), 100 * images, "uint64")
    pixel_sums[..., 1] += 1
    pixels = images * 65536
    products = np.array(
        [[10_100, 10_050, 10_000], [10_050, 10_400, 10_000], [10_000, 10_000, 10_900]], "uint64"
    ) * np.uint64(pixels)
    statistics = prepare_images.Sums(images, pixel_sums, products).statistics()
    np.testing.assert_allclose(statistics.mean_pixel, [100, 100 + 1 / images, 100], rtol=1e-11)
    vectors, stdevs = np.array(statistics.pca_vectors), np.array(statistics.pca_stdevs)
    np.testing.assert_allclose(
        vectors @ np.diag(stdevs**2) @ vectors.T, [[100, 50, 0], [50, 400, 0], [0, 0, 900]], atol=2e-4
    )


def test_statistics_of_one_colour_are_finite(tmp_path):
    images = {
        path: encode(np.full((9, 9, 3), (30, 60, 90), "uint8"), "png")
        for path in ("train/a/1.png", "train/b/1.png", "val/a/1.png")
    }
    prepare_all(write_images(tmp_path / "source", images), tmp_path / "out")
    statistics = discovery.find_dataset(str(tmp_path / "out")).statistics
    assert list(statistics.mean_pixel) == [30, 60, 90]
    np.testing.assert_allclose(statistics.pca_stdevs, 0, atol=1e-4)
    np.testing.assert_allclose(
        np.array(statistics.pca_vectors).T @ np.array(statistics.pca_vectors), np.eye(3), atol=1e-9
    )


# Stopped, and gone on with.


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it, nothing after it is done."""


def killed_at(monkeypatch, module, name, place):
    """Makes the call number `place` of a function the last thing that happens. Returns the calls' first arguments."""
    function, calls = getattr(module, name), []

    def counted(*arguments, **options):
        calls.append(arguments[0])
        if len(calls) == place:
            raise Killed
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


def snapshot(directory):
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.glob("*.tfrecord-*")
        if not path.name.endswith(".npz") and (directory / f"{path.name}.npz").exists()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Twelve small images, and the same prepared without a stop."""
    directory = tmp_path_factory.mktemp("small")
    images = {
        f"{split}/{name}/{i}.png": encode(smooth(30, 40, i + 10 * (split == "val")), "png")
        for split, count in (("train", 4), ("val", 2))
        for name in "ab"
        for i in range(count)
    }
    write_images(directory / "source", images)
    prepare_all(directory / "source", directory / "whole", 3)
    return directory


@pytest.mark.parametrize(
    ("module", "name", "place"),
    [
        *((os, "fsync", place) for place in (1, 2, 3, 4, 5, 6, 7, 17, 23, 25)),
        *((os, "replace", place) for place in (1, 2, 3, 4, 5, 12, 13)),
        *((pathlib.Path, "unlink", place) for place in (1, 4, 6, 7)),
        (os, "rename", 1),
    ],
)
def test_killed_anywhere_and_gone_on_with(small, tmp_path, monkeypatch, module, name, place):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999)  # The second time it is another process.
        killed_at(patch, module, name, place)
        with pytest.raises(Killed):
            prepare_all(small / "source", out, 3)
    assert os.listdir(tmp_path) == ["out.incomplete"]
    finished = snapshot(tmp_path / "out.incomplete")
    is_complete = (tmp_path / "out.incomplete/preparation.json").exists()
    reads = killed_at(monkeypatch, datasets.ImageFiles, "read", 10**9)
    assert prepare_all(small / "source", out, 3)[1]
    assert snapshot_of_output(out, finished) == finished and not (is_complete and reads)
    assert_same_tree(out, small / "whole")
    assert os.listdir(tmp_path) == ["out"]


def snapshot_of_output(out, finished):
    return {name: ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) for name in finished}


def test_stopped_in_a_shard_only_that_shard_is_done_again(small, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        seen = killed_at(patch, datasets.ImageFiles, "read", 8)
        with pytest.raises(Killed):
            prepare_all(small / "source", out, 3)
    assert len(seen) == 8 and not out.exists()
    finished = snapshot(tmp_path / "out.incomplete")
    assert len(finished) == 2  # Of three images each; the eighth image is in the third.
    seen = killed_at(monkeypatch, datasets.ImageFiles, "read", 10**9)
    prepare_all(small / "source", out, 3)
    assert len(seen) == 6 and "6 of 12 images are done" in capsys.readouterr().out
    assert snapshot_of_output(out, finished) == finished
    assert_same_tree(out, small / "whole")


def test_second_time_does_nothing(small, tmp_path):
    out = tmp_path / "out"
    first, _ = prepare_all(small / "source", out, 3)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    second, is_new = prepare_all(small / "source", out, 3, processes=2)
    assert (
        not is_new
        and second == json.loads(json.dumps(first))
        and {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    )


def error_of(*arguments, **options):
    with pytest.raises(errors.DataError) as caught:
        prepare_all(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("is_complete", [True, False])
def test_another_job_is_refused_with_both_values(small, tmp_path, monkeypatch, is_complete):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        if not is_complete:
            killed_at(patch, datasets.ImageFiles, "read", 5)
        try:
            prepare_all(small / "source", out, 3)
        except Killed:
            pass
    where = out if is_complete else tmp_path / "out.incomplete"
    before = tree(where)
    text = error_of(small / "source", out, 3, resize="caffe")
    assert "resize: paper there, caffe now" in text and "fingerprint" not in text
    assert str(where) in text and "--output_dir" in text
    images = tree(small / "source") | {"train/a/new.png": encode(smooth(9, 9, 0), "png")}
    text = error_of(write_images(tmp_path / "source", images), out, 3)
    assert "fingerprint: " in text and "'train': 8" in text and "'train': 9" in text and "resize" not in text
    assert tree(where) == before
    prepare_all(small / "source", out, 3)
    assert_same_tree(out, small / "whole")


def test_a_source_that_was_moved_is_the_same(small, tmp_path):
    write_images(tmp_path / "moved/source", tree(small / "source"))
    assert prepare_all(tmp_path / "moved/source", small / "whole", 3)[1] is False


@pytest.mark.parametrize("name", ["out", "out/x/y.txt", "out/.x"])
def test_an_output_with_other_things_is_refused(small, tmp_path, name):
    write_images(tmp_path, {name: b"mine"})
    assert f"--output_dir={tmp_path / 'out'} holds other things" in error_of(small / "source", tmp_path / "out", 3)
    assert tree(tmp_path) == {name: b"mine"}


def test_an_empty_output_in_the_home_directory_is_taken(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a/b/out").mkdir(parents=True)
    prepare_all(small / "source", "~/a/b/out", 3)
    assert_same_tree(tmp_path / "a/b/out", small / "whole")


def test_two_at_once_are_refused(small, tmp_path, monkeypatch):
    out, texts, read = tmp_path / "out", [], datasets.ImageFiles.read

    def read_while_another_begins(split, index):
        if not texts:
            texts.append("")
            with pytest.raises(errors.RunError) as caught:
                prepare_all(small / "source", out, 3)
            texts[0] = str(caught.value)
        return read(split, index)

    monkeypatch.setattr(datasets.ImageFiles, "read", read_while_another_begins)
    prepare_all(small / "source", out, 3)
    assert f"{out}.incomplete is in use by another `prepare`" in texts[0]
    assert_same_tree(out, small / "whole")


# Images that cannot be read.

BAD = {
    "train/a/gif.jpg": (b"GIF89a" + bytes(40), "it is a GIF image, which cannot be read"),
    "train/b/html.jpg": (b"<html>not found</html>", "it is an HTML page or an SVG image"),
    "train/b/cut.png": (
        encode(smooth(90, 90, 0), "png")[:900],
        "the image data is cut short, damaged or of an unsupported kind",
    ),
    "val/a/empty.jpg": (b"", "the file is empty"),
    "val/b/gone.jpg": (None, "No such file or directory"),
}


def with_bad(small, directory, names):
    root = write_images(directory / "source", tree(small / "source") | {name: BAD[name][0] or b"" for name in names})
    for name in names:
        if BAD[name][0] is None:
            (root / name).unlink()
            (root / name).symlink_to("nowhere")
    return root


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named_with_the_reason(small, tmp_path, name):
    root = with_bad(small, tmp_path, [name])
    text = error_of(root, tmp_path / "out", 3)
    assert f"An image cannot be read: {root / name}: {BAD[name][1]}" in text and "--on_bad_image=skip" in text
    assert not (tmp_path / "out").exists()
    prepare_all(root, tmp_path / "out", 3, on_bad_image="skip")  # Goes on where it failed.
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("shard_images", [3, 1024])
def test_bad_images_are_skipped_told_and_listed(small, tmp_path, capsys, shard_images):
    root = with_bad(small, tmp_path, BAD)
    preparation, _ = prepare_all(root, tmp_path / "out", shard_images, on_bad_image="skip")
    printed = capsys.readouterr().out
    skipped = [each for split in preparation["splits"].values() for each in split["skipped"]]
    assert sorted(each["file"] for each in skipped) == sorted(str(root / name) for name in BAD)
    assert all(f"Skipped: {each['file']}: {each['reason']}" in printed for each in skipped)
    for split, data in discovery.find_dataset(str(tmp_path / "out")).splits.items():
        found, whole = read_with_tfds(tmp_path / "out", split), read_with_tfds(small / "whole", split)
        assert {name: each[::2] for name, each in found.items()} == {name: each[::2] for name, each in whole.items()}
        assert [(data.image_bytes(i), data.label(i)) for i in range(len(data))] == [
            each[::2] for each in found.values()
        ]
    found, expected = (tfrecords.read_prepared(each).statistics for each in (tmp_path / "out", small / "whole"))
    assert found.mean_pixel == expected.mean_pixel and found.pca_vectors == expected.pca_vectors
    np.testing.assert_array_equal(found.mean_image, expected.mean_image)


def test_skipped_images_of_finished_shards_are_listed_after_going_on(small, tmp_path, monkeypatch):
    root = with_bad(small, tmp_path, BAD)
    prepare_all(root, tmp_path / "whole", 3, on_bad_image="skip")
    with monkeypatch.context() as patch:
        killed_at(patch, datasets.ImageFiles, "read", 14)
        with pytest.raises(Killed):
            prepare_all(root, tmp_path / "out", 3, on_bad_image="skip")
    prepare_all(root, tmp_path / "out", 3, on_bad_image="skip")
    assert_same_tree(tmp_path / "out", tmp_path / "whole")


def test_more_than_a_tenth_of_bad_images_is_refused(small, tmp_path):
    names = {f"train/a/bad {i}.png": b"GIF89a" for i in range(11)}
    root = write_images(tmp_path / "source", tree(small / "source") | names)
    assert "11 of 23 images cannot be read" in error_of(root, tmp_path / "out", on_bad_image="skip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_which_nothing_can_be_read_is_an_error(small, tmp_path, split):
    images = {name: image * (not name.startswith(split)) for name, image in tree(small / "source").items()}
    text = error_of(write_images(tmp_path / "source", images), tmp_path / "out", on_bad_image="skip")
    assert f"No image of {split} can be read" in text and not (tmp_path / "out").exists()


# A full disk.


# Job, records, their folder, summary, records, index, preparation.
@pytest.mark.parametrize("place", [1, 3, 4, 5, 7, 23, 25])
def test_a_full_disk_is_told_and_gone_on_from(small, tmp_path, monkeypatch, place):
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) >= place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        text = error_of(small / "source", tmp_path / "out", 3)
    assert "could not be written: No space left on device" in text and "the same command goes on from there" in text
    assert str(tmp_path / "out") in text and not (tmp_path / "out").exists()
    finished = snapshot(tmp_path / "out.incomplete")
    prepare_all(small / "source", tmp_path / "out", 3)
    assert snapshot_of_output(tmp_path / "out", finished) == finished
    assert_same_tree(tmp_path / "out", small / "whole")


def test_without_shared_memory_one_process_works(small, tmp_path, monkeypatch, caplog):
    def no_semaphores(*arguments):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "__init__", no_semaphores)
    monkeypatch.setattr(prepare, "_CHUNK_IMAGES", 2)
    with caplog.at_level("INFO", "alexnet_tf"):
        prepare_all(small / "source", tmp_path / "out", 3, processes=2)
    assert "/dev/shm is missing or cannot be written (No such file or directory). One process works." in caplog.text
    assert_same_tree(tmp_path / "out", small / "whole")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EAGAIN, "No more processes"), "No more processes."),
        (OSError(errno.ENOENT, "No such file", "/x/y"), "/x/y: No such file."),
    ],
)
def test_what_has_failed_is_not_taken_for_the_output(small, tmp_path, monkeypatch, error, told):
    def fail(chunk):
        raise error

    monkeypatch.setattr(prepare_images, "prepare_images", fail)
    text = error_of(small / "source", tmp_path / "out", 3)
    assert text.startswith(f"{told} What is done stays in {tmp_path / 'out.incomplete'}: ")


def test_an_output_in_a_place_that_is_no_folder_is_told(small, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.RunError, match="file/out.incomplete cannot be written: Not a directory"):
        prepare_all(small / "source", tmp_path / "file/out", 3)


# Records of another set.


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """(directory, the images of its training split by their labels) of a TFDS set."""
    directory = tmp_path_factory.mktemp("foreign")
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=[str(i) for i in range(13)]),
        }
    )
    images = [encode(smooth(60, 60 + 9 * i, i), "png") for i in range(13)]
    for i, image in enumerate(images):
        (directory / f"{i}.png").write_bytes(image)  # TFDS takes a file's bytes as they are.
    examples = [(i, {"id": i, "image": str(directory / f"{i}.png"), "label": i}) for i in range(13)]
    splits = {"train": examples, "test": examples[:4]}
    tfds.dataset_builders.store_as_tfds_dataset("toy", "1.0.0", features, splits, data_dir=directory / "tfds")
    return directory / "tfds", images


def test_records_of_another_set_are_prepared_also_as_other_processes_get_them(foreign, tmp_path):
    directory, images = foreign
    prepare_all(directory, tmp_path / "one")
    data, before = discovery.find_dataset(str(tmp_path / "one")), discovery.find_dataset(str(directory))
    assert (data.name, data.class_names, data.validation) == (before.name, before.class_names, before.validation)
    assert data.source == before.directory
    for name, count in (("train", 13), ("test", 4)):
        found = read_with_tfds(tmp_path / "one", name)
        assert sorted(label for _, _, label in found.values()) == list(range(count))
        for described, (jpeg, _, label) in found.items():
            assert jpeg == jpeg_of(images[label])
            assert described.startswith(f"toy-{name}.tfrecord-00000-of-00001, the record at byte ")
    # Two real processes prepare class folders below, as a person types it.
    prepare_data(pickle.loads(pickle.dumps(before)), tmp_path / "two")
    assert_same_tree(tmp_path / "two", tmp_path / "one")


def test_a_damaged_record_of_another_set_is_a_bad_image(foreign, tmp_path):
    root = write_images(tmp_path / "tfds", tree(foreign[0]))
    train = discovery.find_dataset(str(root)).splits["train"]
    [path], offset = map(pathlib.Path, train.files), int(train.offsets[5])
    content = path.read_bytes()
    path.write_bytes(content[:offset] + bytes(60) + content[offset + 60 :])
    text = error_of(root, tmp_path / "out")
    assert f"An image cannot be read: {path}, the record at byte {offset}: " in text and "--on_bad_image=skip" in text
    preparation, _ = prepare_all(root, tmp_path / "out", on_bad_image="skip")
    [skipped] = preparation["splits"]["train"]["skipped"]
    assert skipped["file"] == f"{path}, the record at byte {offset}" and preparation["splits"]["train"]["images"] == 12


# As a person types it: killed with SIGKILL.


def command(source, output, *flags):
    return [
        sys.executable,
        "-u",
        "-m",
        "alexnet_tf",
        "prepare",
        f"--data_dir={source}",
        f"--output_dir={output}",
        *flags,
    ]


def start(*arguments):
    return subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def call(*arguments):
    return commands.call(*command(*arguments)[2:])


def children_of(pid):
    """Returns the worker processes of a process."""
    found = psutil.process_iter(["ppid", "cmdline"])
    return [each for each in found if each.info["ppid"] == pid and "spawn_main" in " ".join(each.info["cmdline"] or ())]


def wait_for(condition, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    return found


def kill_and_see_the_workers_go(process):
    workers = {each.pid for each in children_of(process.pid)}
    assert len(workers) == 2
    process.kill()
    process.communicate()
    ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    wait_for(
        lambda: workers.isdisjoint(
            each.pid for each in psutil.process_iter(["status"]) if each.info["status"] not in ended
        )
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1,500 tiny images: two shards of the usual size; and what comes out where nothing is killed."""
    directory = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    write_images(
        directory / "source",
        {
            f"{split}/{'ab'[i % 2]}/{i}.png": encode(rng.integers(0, 256, (3, 4, 3), "uint8"), "png")
            for split, count in (("train", 1500), ("val", 9))
            for i in range(count)
        },
    )
    prepare.prepare(discovery.find_dataset(str(directory / "source")), directory / "whole")
    return directory


def test_killed_and_started_again_as_a_person_does(many, tmp_path):
    out, partial = tmp_path / "out", tmp_path / "out.incomplete"
    process = start(many / "source", out, "--processes=2")
    wait_for(lambda: list(partial.glob("*-train.tfrecord-00000-of-00002.npz")), process)
    kill_and_see_the_workers_go(process)
    assert not out.exists() and not list(partial.glob("*-00001-of-00002"))
    finished = snapshot(partial)
    assert len(finished) == 1

    status, printed, said = call(many / "source", out, "--processes=2")
    assert status == 0, printed + said
    assert "750 of 1,509 images are done" in printed and f"Prepared: {out}" in printed
    assert "train: 1,500 images in 2 files" in printed and f"python train.py --data_dir={out}" in printed
    assert "Traceback" not in said and os.listdir(tmp_path) == ["out"]
    assert snapshot_of_output(out, finished) == finished
    assert_same_tree(out, many / "whole")

    status, printed, said = call(many / "source", out)
    assert status == 0 and f"{out} is prepared already: nothing to do." in printed, printed + said


def test_killed_while_the_workers_start_none_is_left(many, tmp_path):
    """What they are to do does not fit into the pipe to them: none of them is told everything before the end."""
    folder = pathlib.Path(tmp_path, *["long" * 50] * 10)
    images = dict(itertools.islice(tree(many / "source").items(), 300)) | {"train/c/0.png": b"", "val/c/0.png": b""}
    write_images(
        folder,
        {f"{'val' if i % 9 == 0 else 'train'}/{'ab'[i % 2]}/{i}.png": image for i, image in enumerate(images.values())},
    )
    process = start(folder, tmp_path / "out", "--processes=2")
    wait_for(lambda: len(children_of(process.pid)) == 2, process)
    kill_and_see_the_workers_go(process)


def test_a_killed_worker_is_told_with_what_to_do(many, tmp_path):
    process = start(many / "source", tmp_path / "out", "--processes=2")
    partial = tmp_path / "out.incomplete"
    wait_for(lambda: list(partial.glob("*.npz")), process)  # They are at work.
    children_of(process.pid)[0].kill()
    try:
        printed = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 1 and "Error: A process was killed" in printed and "--processes=1" in printed
    assert "Traceback" not in printed and not (tmp_path / "out").exists()
