"""Tests of `label_tables`: columns of zeros and ones, and files of labels in or beside the folder of one split."""

import pathlib
import unicodedata

import numpy as np
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.support import errors
from tests.helpers.files import touch


def found(data, split):
    """Returns {image: class name} of a split."""
    each = data.splits[split]
    return {pathlib.Path(path).name: data.class_names[label] for path, label in zip(each.paths, each.labels.tolist())}


def error_of(directory, **options):
    with pytest.raises(errors.DataError) as caught:
        discovery.find_dataset(str(directory), options=options)
    return str(caught.value)


CLASSES = ("n01443537", "n01629819")
VAL = {f"val_{number}.JPEG": CLASSES[number % 3 // 2] for number in range(6)}


def tiny_imagenet(directory, text, name="val/val_annotations.txt"):
    for each in CLASSES:
        touch(directory, *[f"train/{each}/images/{each}_{number}.JPEG" for number in range(4)])
        (directory / "train" / each / f"{each}_boxes.txt").write_text(f"{each}_0.JPEG\t0\t0\t62\t62\n")
    touch(directory, *[f"val/images/{image}" for image in VAL], *[f"test/images/test_{i}.JPEG" for i in range(3)])
    (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("val/val_annotations.txt", "{}\t{}\t0\t32\t44\t62\n"),
        ("val/labels.csv", "{},{}\n"),
        ("val.csv", "{},{}\n"),
        ("val_labels.txt", "{} {}\n"),
        ("val/val.tsv", "{}\t{}\n"),
    ],
)
def test_validation_images_have_their_labels_from_a_file(tmp_path, name, form):
    text = "".join(form.format(*each) for each in VAL.items())
    data = discovery.find_dataset(str(tiny_imagenet(tmp_path, text, name)))
    assert data.class_names == CLASSES and data.validation == "val" and list(data.splits) == ["train", "val"]
    assert found(data, "val") == VAL and len(data.splits["train"]) == 8
    assert any(note == f"Labels of val from {tmp_path / name}." for note in data.notes)


def test_a_file_of_validation_labels_with_other_classes_is_refused(tmp_path):
    tiny_imagenet(tmp_path, "".join(f"{image}\tcat\n" for image in VAL))
    assert "not in" in error_of(tmp_path) and "cat" in error_of(tmp_path)


def test_a_file_without_labels_beside_test_is_no_error(tmp_path):
    text = "".join(f"{image}\t{name}\n" for image, name in VAL.items())
    tiny_imagenet(tmp_path, text)
    (tmp_path / "test.csv").write_text("test_0.JPEG\ntest_1.JPEG\n")
    data = discovery.find_dataset(str(tmp_path))
    assert list(data.splits) == ["train", "val"] and any("test is left out" in note for note in data.notes)


def one_hot(count, form="{}.jpg, {}, {}, {}\n", header="filename, cat, dog, red fox\n"):
    return header + "".join(form.format(f"im{i}", *(int(i % 3 == column) for column in range(3))) for i in range(count))


def test_each_split_may_hold_its_file_of_labels(tmp_path):
    for split in ("train", "valid", "test"):
        touch(tmp_path, *[f"{split}/im{number}.jpg" for number in range(9)])
        (tmp_path / split / "_classes.csv").write_text(one_hot(9))
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == ("cat", "dog", "red fox") and data.validation == "valid"
    expected = {f"im{i}.jpg": ("cat", "dog", "red fox")[i % 3] for i in range(9)}
    assert all(found(data, split) == expected for split in ("train", "valid", "test"))


@pytest.mark.parametrize("form", ["{},{},{},{}\n", "{}.jpg,{}.0,{}.0,{}.0\n", "images/{}.jpg,{},{},{}\n"])
def test_a_column_for_each_class_is_read(tmp_path, form):
    touch(tmp_path, *[f"images/im{number}.jpg" for number in range(30)])
    (tmp_path / "labels.csv").write_text(one_hot(30, form, "image,MEL,NV,BCC\n"))
    data = discovery.find_dataset(str(tmp_path))
    names = {image: name for split in data.splits for image, name in found(data, split).items()}
    assert names == {f"im{i}.jpg": ("MEL", "NV", "BCC")[i % 3] for i in range(30)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [("im0,1,1,0", "im0 has several: MEL, NV. An image has one class"), ("im0,0,0,0", "im0 has no 1. An image")],
)
def test_an_image_of_several_classes_or_none_is_refused(tmp_path, row, expected):
    touch(tmp_path, "images/im0.jpg", "images/im1.jpg")
    (tmp_path / "labels.csv").write_text(f"image,MEL,NV,BCC\nim1,0,0,1\n{row}\n")
    assert expected in error_of(tmp_path) and "--label_column=NAME" in error_of(tmp_path)


def test_a_column_of_zeros_and_ones_can_be_the_label(tmp_path):
    touch(tmp_path, *[f"im{number}.jpg" for number in range(30)])
    (tmp_path / "labels.csv").write_text(one_hot(30, "{}.jpg,{},{},{}\n", "image,MEL,NV,BCC\n"))
    data = discovery.find_dataset(str(tmp_path), options={"label_column": "NV"})
    assert data.class_names == ("0", "1")


def repeated(directory, text):
    touch(directory, *[f"{number}.jpg" for number in range(30)])
    pathlib.Path(directory, "labels.csv").write_text(text)


LINES = "".join(f"{number}.jpg,{('cat', 'dog')[number % 2]}\n" for number in range(30))


def test_an_image_with_several_labels_is_named(tmp_path):
    repeated(tmp_path, LINES + "4.jpg,dog\n")
    notes = discovery.find_dataset(str(tmp_path)).notes
    assert any("gives 1 images of 30 several labels, such as " in note and "4.jpg: cat, dog." in note for note in notes)


def test_many_images_with_several_labels_are_refused(tmp_path):
    repeated(tmp_path, LINES + LINES.replace("cat", "bird"))
    assert "15 images of 30 several labels" in error_of(tmp_path) and "has one class here" in error_of(tmp_path)


def test_an_image_that_is_named_twice_with_one_label_counts_twice(tmp_path):
    repeated(tmp_path, LINES + LINES)
    data = discovery.find_dataset(str(tmp_path))
    assert sum(len(split) for split in data.splits.values()) == 60
    assert not set(data.splits["train"].paths) & set(data.splits["val"].paths)


def test_an_image_in_two_splits_is_named(tmp_path):
    touch(tmp_path, *[f"{number}.jpg" for number in range(30)])
    (tmp_path / "train.csv").write_text(LINES)
    (tmp_path / "val.csv").write_text("3.jpg,dog\n")
    notes = discovery.find_dataset(str(tmp_path)).notes
    assert any("1 images are in several splits" in note and "in train and val: the error" in note for note in notes)


def test_a_name_with_accents_taken_apart_is_found(tmp_path):
    touch(tmp_path, *[unicodedata.normalize("NFD", f"caf\u00e9 {number}.jpg") for number in range(12)])
    text = "".join(f"caf\u00e9 {number}.jpg,{'ab'[number % 2]}\n" for number in range(12))
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    data = discovery.find_dataset(str(tmp_path))
    assert np.sum([len(split) for split in data.splits.values()]) == 12
