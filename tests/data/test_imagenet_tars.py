"""Tests of `imagenet_tars`: tars in ImageNet's own form; `tarfile`'s extraction and TFDS's labels are the oracles."""

import collections
import dataclasses
import io
import os
import pathlib
import shutil
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

from alexnet_tf.data import discovery, imagenet_tars, input_pipeline
from alexnet_tf.network import recipes
from alexnet_tf.runs.config import RunData
from alexnet_tf.support import errors

# Classes of the first validation images, in the order of their numbers.
VALIDATION_IDS = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()[:8]
CLASSES = sorted(VALIDATION_IDS)


def jpeg(number):
    """Returns a picture of one grey that says which it is, as JPEG, with as many bytes at its end as make it unique."""
    file = io.BytesIO()
    PIL.Image.new("L", (20 + number % 7, 16), grey(number)).save(file, "jpeg")
    return file.getvalue() + bytes([number]) * (number * 37 % 600)


def grey(number):
    return 5 * number + 10


def tar_of(members, kind=tarfile.GNU_FORMAT, directory=None):
    """Returns a tar file of {name: bytes}, as `tar -cf` makes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        if directory:
            folder = tarfile.TarInfo(directory)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def train_members(classes=CLASSES, images=3):
    """Returns {wnid.tar: bytes}: image i of class c is `jpeg(3 c + i)`; neither classes nor images come sorted."""
    members = {}
    for name in [*classes[3:], *classes[:3]]:
        numbers = [images * classes.index(name) + i for i in range(images)]
        members[f"{name}.tar"] = tar_of({f"{name}_{1000 - 7 * number}.JPEG": jpeg(number) for number in numbers})
    return members


def validation_members(numbers):
    """Returns {name: bytes}: image n is `jpeg(n + 30)`."""
    return {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(number + 30) for number in numbers}


# As in ImageNet's file, not in the order of their numbers.
ORDER = (5, 1, 8, 2, 7, 3, 6, 4)


def write(directory, train=None, validation=None):
    directory = pathlib.Path(directory)
    directory.mkdir(exist_ok=True)
    (directory / imagenet_tars.TRAIN).write_bytes(tar_of(train_members()) if train is None else train)
    (directory / imagenet_tars.VALIDATION).write_bytes(
        tar_of(validation_members(ORDER)) if validation is None else validation
    )
    return directory


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    return write(tmp_path_factory.mktemp("imagenet"))


def error_of(directory):
    with pytest.raises(errors.DataError) as caught:
        imagenet_tars.read(directory)
    return str(caught.value)


def extracted(directory):
    """Returns {name: bytes} of what `tarfile` takes out of both files."""
    found = {"train": {}, "validation": {}}
    with tarfile.open(directory / imagenet_tars.TRAIN) as outer:
        for member in filter(tarfile.TarInfo.isreg, outer):
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                found["train"] |= {each.name: inner.extractfile(each).read() for each in inner if each.isreg()}
    with tarfile.open(directory / imagenet_tars.VALIDATION) as archive:
        found["validation"] = {each.name: archive.extractfile(each).read() for each in archive if each.isreg()}
    return found


def read_all(split):
    """Returns {name: (bytes, label)} by the descriptions, and sees that offsets and lengths say the same."""
    found = {}
    for index in range(len(split)):
        path, name = split.describe(index).split(", ")
        assert path == split.files[split.file_of[index]] and name not in found
        found[name] = split.image_bytes(index), split.label(index)
        data = pathlib.Path(path).read_bytes()
        assert data[split.offsets[index] :][: split.lengths[index]] == found[name][0]
        assert imagenet_tars.name_at(path, int(split.offsets[index])) == name
    return found


def check_images(directory):
    class_names, splits, notes = imagenet_tars.read(directory)
    assert list(splits) == ["train", "validation"] and notes == ()
    for name, expected in extracted(directory).items():
        found = read_all(splits[name])
        assert {each: image for each, (image, _) in found.items()} == expected
        assert (splits[name].labels.dtype, splits[name].offsets.dtype) == ("int32", "int64")
        assert splits[name].files == (str(directory / f"ILSVRC2012_img_{'train' if name == 'train' else 'val'}.tar"),)
        assert not splits[name].is_square and splits[name].parse is None
    assert all(name.startswith(f"{class_names[label]}_") for name, (_, label) in read_all(splits["train"]).items())
    return class_names, splits


def test_read_finds_what_tarfile_extracts(tars):
    class_names, splits = check_images(tars)
    assert class_names == tuple(CLASSES) and len(set(CLASSES)) == 8
    assert collections.Counter(splits["train"].labels.tolist()) == dict.fromkeys(range(8), 3)
    assert [number for number, _ in sorted(enumerate(splits["validation"].offsets), key=lambda pair: pair[1])] == list(
        range(8)
    )


def test_validation_labels_are_those_of_tfds(tars):
    class_names, splits, _ = imagenet_tars.read(tars)
    labels = imagenet_common.get_validation_labels(str(tars / imagenet_tars.VALIDATION))
    found = read_all(splits["validation"])
    assert {name: class_names[label] for name, (_, label) in found.items()} == labels and len(labels) == 8
    assert {name: label for name, (_, label) in found.items()} == {
        f"ILSVRC2012_val_{i + 1:08d}.JPEG": CLASSES.index(wnid) for i, wnid in enumerate(VALIDATION_IDS)
    }


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_read_other_forms_of_tar_and_folders_inside(tmp_path, kind):
    train = tar_of({f"./train/{name}": data for name, data in train_members().items()}, kind, "./train")
    check_images(
        write(
            tmp_path,
            train,
            tar_of({f"val/{name}": data for name, data in validation_members(ORDER).items()}, kind, "val"),
        )
    )


def test_read_offsets_beyond_four_gibibytes(tmp_path):
    """With a hole in the file, in front of the last class: 32 bits would not reach."""
    write(tmp_path, train=tar_of(train_members(CLASSES[:-1])))
    path, gap = tmp_path / imagenet_tars.TRAIN, 5 * 2**30
    filler = tarfile.TarInfo("n00000000.tar")
    filler.size = gap
    last = tar_of({f"{CLASSES[-1]}.tar": tar_of({f"{CLASSES[-1]}_1.JPEG": jpeg(50)})})
    body = path.read_bytes()[: max(member.offset_data + member.size for member in members_of(path))]
    with open(path, "wb") as file:
        file.write(body + filler.tobuf(tarfile.GNU_FORMAT))
        file.seek(gap, os.SEEK_CUR)
        file.write(last)
    class_names, splits, _ = imagenet_tars.read(tmp_path)
    assert "n00000000" not in class_names and class_names == tuple(CLASSES)
    assert splits["train"].offsets.max() > gap and splits["train"].image_bytes(len(splits["train"]) - 1) == jpeg(50)


@pytest.mark.parametrize("missing", [imagenet_tars.TRAIN, imagenet_tars.VALIDATION])
def test_read_with_one_missing_names_both(tars, tmp_path, missing):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    assert imagenet_tars.are_in(tmp_path)
    text = error_of(tmp_path)
    assert (
        f"{tmp_path / missing} is missing" in text and imagenet_tars.TRAIN in text and imagenet_tars.VALIDATION in text
    )


def test_are_in_looks_for_files(tars, tmp_path):
    assert imagenet_tars.are_in(tars) and not imagenet_tars.are_in(tmp_path)
    (tmp_path / imagenet_tars.TRAIN).mkdir()
    assert not imagenet_tars.are_in(tmp_path)


def members_of(path):
    with tarfile.open(path) as archive:
        return archive.getmembers()


# The place of a cut, from the tar's members in their order.
CUTS = {
    "in the first header": lambda members: 300,
    "in the first image": lambda members: members[0].offset_data + 100,
    "in an image": lambda members: members[3].offset_data + members[3].size - 1,
    "in the padding": lambda members: members[3].offset_data + members[3].size + 1,
    "before a header": lambda members: members[4].offset,
    "in a header": lambda members: members[4].offset + 200,
    "after a header": lambda members: members[4].offset_data,
    "before the end's mark": lambda members: members[-1].offset_data + -(-members[-1].size // 512) * 512,
}


@pytest.mark.parametrize("name", [imagenet_tars.TRAIN, imagenet_tars.VALIDATION])
@pytest.mark.parametrize("cut", CUTS)
def test_read_a_cut_file_is_an_error(tars, tmp_path, name, cut):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    os.truncate(tmp_path / name, CUTS[cut](members_of(tars / name)))
    text = error_of(tmp_path)
    assert f"{tmp_path / name} is cut or damaged" in text and "Download it again" in text


@pytest.mark.parametrize("name", [imagenet_tars.TRAIN, imagenet_tars.VALIDATION])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, b"\x1f\x8b" + bytes(range(256)) * 9])
def test_read_what_is_no_tar_is_an_error(tars, tmp_path, name, content):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in error_of(tmp_path)


@pytest.mark.parametrize("name", [imagenet_tars.TRAIN, imagenet_tars.VALIDATION])
def test_read_a_damaged_header_in_the_middle_is_an_error(tars, tmp_path, name):
    """`tarfile` takes it for the end: half of the images would be missing, and nobody would know."""
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    with open(tmp_path / name, "r+b") as file:
        file.seek(members_of(tars / name)[4].offset + 100)
        file.write(b"\xff" * 50)
    assert f"{tmp_path / name} is cut or damaged" in error_of(tmp_path)


def inner_damages():
    whole = train_members()[f"{CLASSES[4]}.tar"]
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        first, second, third = archive.getmembers()
    broken = bytearray(whole)
    broken[second.offset + 100 : second.offset + 150] = b"\xff" * 50
    return {
        "header": bytes(broken),
        "no tar": b"<html>" * 99,
        "nothing": b"",
        "cut in an image": whole[: third.offset_data + 20],
        "cut between images": whole[: third.offset],
    }


@pytest.mark.parametrize("damage", inner_damages())
def test_read_a_damaged_class_is_an_error(tmp_path, damage):
    members = train_members() | {f"{CLASSES[4]}.tar": inner_damages()[damage]}
    write(tmp_path, train=tar_of(members))
    assert f"{tmp_path / imagenet_tars.TRAIN} is cut or damaged" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["n0144076.tar", "n01440764.tar.gz", "readme.txt", "n014407640.tar", "N01440764.tar"])
def test_read_names_what_does_not_belong_in_train(tmp_path, name):
    write(tmp_path, train=tar_of(train_members() | {name: b"1"}))
    text = error_of(tmp_path)
    assert f"{tmp_path / imagenet_tars.TRAIN} holds {name}" in text and "n01440764.tar" in text


@pytest.mark.parametrize(
    "name",
    [
        "n01440764.tar",
        "ILSVRC2012_val_00000000.JPEG",
        "ILSVRC2012_val_00050001.JPEG",
        "ILSVRC2012_val_0000001.JPEG",
        "ILSVRC2012_test_00000001.JPEG",
        "ILSVRC2012_val_00000001.JPEG.txt",
    ],
)
def test_read_names_what_does_not_belong_in_validation(tmp_path, name):
    write(tmp_path, validation=tar_of(validation_members(ORDER) | {name: jpeg(1)}))
    text = error_of(tmp_path)
    assert f"{tmp_path / imagenet_tars.VALIDATION} holds {name}" in text and "ILSVRC2012_val_00050000.JPEG" in text


def test_read_leaves_out_strangers_and_says_how_many(tmp_path):
    known = [CLASSES.index(wnid) for wnid in VALIDATION_IDS[:3]]
    classes = sorted(CLASSES[i] for i in known)
    write(tmp_path, train=tar_of(train_members(classes)))
    class_names, splits, notes = imagenet_tars.read(tmp_path)
    assert class_names == tuple(classes)
    assert notes == (f"5 validation images are left out: their classes are not in {imagenet_tars.TRAIN}.",)
    assert {name: class_names[label] for name, (_, label) in read_all(splits["validation"]).items()} == {
        f"ILSVRC2012_val_{i + 1:08d}.JPEG": VALIDATION_IDS[i] for i in range(3)
    }


def test_read_strangers_alone_are_an_error(tmp_path):
    write(
        tmp_path, validation=tar_of(validation_members([1, 2])), train=tar_of(train_members(sorted(VALIDATION_IDS[2:])))
    )
    assert "holds no image of the 6 classes of ILSVRC2012_img_train.tar" in error_of(tmp_path)


@pytest.mark.parametrize("dataset", [None, "imagenet2012"])
def test_find_in_the_folder_of_the_tars(tars, dataset):
    data = discovery.find_dataset(str(tars), dataset)
    assert (data.name, data.directory, data.validation) == ("imagenet2012", str(tars), "validation")
    assert data.class_names == tuple(CLASSES) and {name: len(each) for name, each in data.splits.items()} == {
        "train": 24,
        "validation": 8,
    }
    assert data.resize is None and data.statistics is None and data.notes == ()
    assert discovery.load_run_dataset(
        RunData(name=data.name, directory=data.directory, classes=tuple(CLASSES))
    ).splits.keys() == (data.splits.keys())


def test_find_tells_of_strangers(tmp_path):
    write(tmp_path, train=tar_of(train_members(sorted(VALIDATION_IDS[:3]))))
    assert "5 validation images are left out" in discovery.find_dataset(str(tmp_path)).summary()


def test_find_with_another_name_does_not_take_the_tars(tars):
    with pytest.raises(errors.DataError, match="No prepared TFDS data set 'cifar10'"):
        discovery.find_dataset(str(tars), "cifar10")


def test_fingerprint_is_the_same_after_moving_and_changes_with_the_labels(tars, tmp_path):
    shutil.copytree(tars, tmp_path / "moved")
    assert (
        discovery.find_dataset(str(tmp_path / "moved")).fingerprint() == discovery.find_dataset(str(tars)).fingerprint()
    )
    numbers = (5, 1, 8, 2, 7, 3, 4, 6)  # Files of the same names and sizes, but another order.
    write(tmp_path / "other", validation=tar_of(validation_members(numbers)))
    assert (
        discovery.find_dataset(str(tmp_path / "other")).fingerprint() != discovery.find_dataset(str(tars)).fingerprint()
    )


def test_training_and_evaluation_read_from_the_tars(tars):
    data = discovery.find_dataset(str(tars))
    recipe = dataclasses.replace(recipes.Recipe(), batch_size=8)
    batches = list(input_pipeline.make_train_dataset(data.splits["train"], recipe, image_size=67, seed=3, epoch=0))
    greys = np.concatenate([images[:, 33, 33, 0].numpy() for images, _ in batches]).astype(int)
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    numbers = np.round((greys - 10) / 5).astype(int)
    assert sorted(numbers) == list(range(24)) and (labels == numbers // 3).all()

    found = list(
        input_pipeline.evaluation_batches(data.splits["validation"], batch_size=3, image_size=67, resize="paper")
    )
    greys = np.concatenate([images[:, 0, 33, 33, 0] for images, _ in found]).astype(int)
    labels = np.concatenate([labels for _, labels in found])
    assert (np.round((greys - 10) / 5).astype(int) - 30).tolist() == list(ORDER)
    assert [CLASSES[label] for label in labels] == [VALIDATION_IDS[number - 1] for number in ORDER]


def test_a_cut_after_the_look_is_an_error_not_silence(tmp_path):
    data = discovery.find_dataset(str(write(tmp_path)))
    os.truncate(tmp_path / imagenet_tars.VALIDATION, 6000)
    with pytest.raises(errors.DataError, match="An image cannot be read: .*ILSVRC2012_img_val.tar"):
        list(input_pipeline.evaluation_batches(data.splits["validation"], batch_size=3, image_size=67, resize="paper"))
    with pytest.raises(tf.errors.OpError):
        split = data.splits["validation"]
        list(
            split.examples(
                tf.data.Dataset.from_tensors((tf.range(8, dtype=tf.int64),)),
                lambda image_bytes, label: tf.io.decode_jpeg(image_bytes),
            )
        )
