"""Tests of `class_folders` and `folder_scan`: which folders are splits or classes, and the division."""

import hashlib
import io
import os
import pathlib
import unicodedata

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import class_folders, discovery, prepare
from alexnet_tf.runs import config
from alexnet_tf.support import errors
from tests.helpers.files import touch


def encoded(kind):
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((8, 8, 3), 99, "uint8")).save(file, kind)
    return file.getvalue()


def find(directory, **options):
    return discovery.find_dataset(str(directory), **options)


def error_of(directory, **options):
    with pytest.raises(errors.DataError) as caught:
        find(directory, **options)
    return str(caught.value)


def images(*folders, classes=("cats", "dogs"), count=1):
    return [f"{folder}/{name}/{number}.jpg" for folder in folders for name in classes for number in range(count)]


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("seg_train", "seg_test", "test"),
        ("training_set", "test_set", "test"),
        ("images_train", "images_val", "val"),
        ("Training", "Testing", "test"),
        ("train_images", "validation_images", "val"),
        ("flowers-train", "flowers-dev", "val"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("training_set/training_set", "test_set/test_set", "test"),
    ],
)
def test_folders_named_as_splits_in_any_way_are_splits(tmp_path, train, other, split):
    data = find(touch(tmp_path, *images(train, count=2), *images(other)))
    assert data.class_names == ("cats", "dogs") and data.validation == split
    assert {name: len(each) for name, each in data.splits.items()} == {"train": 4, split: 2}
    assert any(note.startswith(f"Splits: {train} is train, {other} is {split}.") for note in data.notes)
    assert data.split_rule == "file_name"


def test_three_splits(tmp_path):
    data = find(touch(tmp_path, *images("d_train", "d_valid", "d_test")))
    assert list(data.splits) == ["train", "val", "test"] and data.validation == "val"


def test_two_folders_for_one_split_are_an_error(tmp_path):
    touch(tmp_path, *images("train_a", "train_b", "my_val"))
    assert "train_a, train_b all look like train" in error_of(tmp_path)


def test_folders_of_the_same_class_folders_that_are_not_called_as_splits_are_an_error(tmp_path):
    touch(tmp_path, *images("part1", "part2"))
    assert "part1, part2" in error_of(tmp_path) and "same class folders (cats, dogs): are they splits?" in error_of(
        tmp_path
    )


def test_a_class_may_be_called_train(tmp_path):
    data = find(touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("bus", "car", "train") for i in range(4))))
    assert data.class_names == ("bus", "car", "train")


def test_nested_class_folders_are_reported(tmp_path):
    touch(tmp_path, *images("animals", count=4), *images("plants", classes=("roses", "tulips"), count=4))
    data = find(tmp_path)
    assert data.class_names == ("animals", "plants")
    assert any("animals joins cats, dogs; it is so in 1 other class too." in note for note in data.notes)


def test_one_folder_too_high_says_which_one(tmp_path):
    touch(tmp_path, *images("flower_photos", classes=("daisy", "roses")))
    assert f" --data_dir={tmp_path}/flower_photos" in error_of(tmp_path)


@pytest.mark.parametrize("junk", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", ".cache"])
def test_folders_of_other_programs_are_no_classes(tmp_path, junk):
    touch(tmp_path, *images(".", count=4), f"{junk}/cats/._1.jpg", f"{junk}/1.jpg", f"cats/{junk}/2.jpg")
    data = find(tmp_path)
    assert data.class_names == ("cats", "dogs") and sum(map(len, data.splits.values())) == 8


# The 90/10 split.


def test_a_tenth_of_each_class_is_held_out_by_class_and_path(tmp_path):
    sizes = {"a": 100, "b": 20, "c": 2, "d": 1, "e": 14, "f": 15}
    data = find(touch(tmp_path, *(f"{name}/img_{i:04d}.jpg" for name, size in sizes.items() for i in range(size))))
    counts = np.bincount(data.splits["validation"].labels, minlength=6).tolist()
    assert counts == [10, 2, 1, 0, 1, 2]
    assert np.bincount(data.splits["train"].labels).tolist() == [90, 18, 1, 1, 13, 13]
    smallest = sorted(
        (f"a/img_{i:04d}.jpg" for i in range(100)), key=lambda path: hashlib.sha256(path.encode()).digest()
    )[:10]
    found = {os.path.relpath(path, tmp_path) for path in data.splits["validation"].paths}
    assert {path for path in found if path.startswith("a/")} == set(smallest)
    assert "none of d" in data.summary() and data.split_rule == "class_and_path"


def test_images_numbered_alike_in_every_class_are_not_held_out_alike(tmp_path):
    data = find(touch(tmp_path, *(f"{name}/{i}.jpg" for name in "abcdefgh" for i in range(5))))
    assert np.bincount(data.splits["validation"].labels).tolist() == [1] * 8
    assert len({os.path.basename(path) for path in data.splits["validation"].paths}) > 1


def test_runs_of_older_versions_keep_their_split(tmp_path):
    data = find(
        touch(tmp_path, *(f"{name}/img_{i:04d}.jpg" for name in "ab" for i in range(60))), split_rule="file_name"
    )
    held_out = {10, 15, 43, 46, 51}
    assert {int(path[-8:-4]) for path in data.splits["validation"].paths} == held_out
    old = config.RunData(classes=("a", "b"), name="x", directory=str(tmp_path))
    assert old.split_rule == "file_name"
    again = discovery.load_run_dataset(old)
    assert again.splits["validation"].paths == data.splits["validation"].paths
    new = find(tmp_path)
    assert new.splits["validation"].paths != data.splits["validation"].paths
    old_run = config.RunConfig(config.TrainConfig(), old, 227, (0.0, 0.0, 0.0))
    assert discovery.as_in_run(new, old_run).splits["validation"].paths == data.splits["validation"].paths
    assert discovery.as_in_run(new, None) is new
    assert config.RunConfig.from_json(old_run.to_json()) == old_run


def test_prepare_goes_on_with_the_split_that_it_began_with(tmp_path):
    assert prepare.split_rule_of(tmp_path / "out") == class_folders.SPLIT_RULE
    touch(tmp_path, "out.incomplete/job.json", content=b'{"source": "x"}')
    assert prepare.split_rule_of(tmp_path / "out") == "file_name"
    touch(tmp_path, "out/preparation.json", content=b'{"job": {"split_rule": "class_and_path"}}')
    assert prepare.split_rule_of(tmp_path / "out") == "class_and_path"


# Formats.


def test_images_are_known_by_their_content_whatever_their_ending(tmp_path):
    for name in ("a/1.jfif", "a/2.JPE", "a/3", "a/4.image", "b/1.jpg"):
        touch(tmp_path, name, content=encoded("jpeg"))
    for name in ("b/2", "b/3.img"):
        touch(tmp_path, name, content=encoded("png"))
    touch(tmp_path, "b/notes.txt", content=b"hello")
    data = find(tmp_path)
    assert sum(map(len, data.splits.values())) == 7
    assert any("1, such as" in note and "notes.txt" in note for note in data.notes)


@pytest.mark.parametrize("kind", ["webp", "bmp", "tiff", "gif"])
def test_other_formats_are_refused_for_each_class_with_the_command_that_converts_them(tmp_path, kind):
    touch(tmp_path, *images(".", count=4), content=encoded("jpeg"))
    touch(tmp_path, f"dogs/5.{kind}", f"birds/1.{kind}", f"birds/2.{kind}", content=encoded(kind))
    message = error_of(tmp_path)
    assert "2 of birds, 1 of dogs" in message and f"prepare --data_dir={tmp_path} --output_dir=OUT" in message
    data = find(tmp_path, for_prepare=True)
    assert data.class_names == ("birds", "cats", "dogs") and sum(map(len, data.splits.values())) == 11


def test_a_class_that_would_vanish_is_an_error_with_ending_and_count(tmp_path):
    touch(tmp_path, *images(".", count=4), "birds/1.CR2", "birds/2.cr2", "birds/3.svg", "birds/list.txt")
    message = error_of(tmp_path)
    assert "'birds'" in message and "2 .cr2, 1 .svg" in message


@pytest.mark.parametrize("name", ["two\nlines", "tab\there", "bell\x07", os.fsdecode(b"caf\xe9"), " "])
def test_class_names_that_would_break_a_list_are_refused(tmp_path, name):
    touch(tmp_path, *images(".", count=4), f"{name}/1.jpg")
    assert "Rename it" in error_of(tmp_path) and "\n" not in error_of(tmp_path)


# Other things a person may bring.


@pytest.mark.parametrize("test_images", ["test/1.jpg", "test/test/1.jpg", "test/unknown/1.jpg"])
def test_an_unlabelled_test_folder_beside_train_is_left_out(tmp_path, test_images):
    data = find(touch(tmp_path, *images("train", count=20), test_images))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 36, "validation": 4}
    assert "test is left out: its images have no labels" in data.notes[0] and data.name == tmp_path.name


def test_an_unlabelled_validation_folder_says_what_to_do(tmp_path):
    touch(tmp_path, *images("train"), "val/1.jpg")
    assert "give them in a file (val.csv beside it" in error_of(tmp_path)


def test_classes_that_are_numbers_are_noted(tmp_path):
    assert (
        "label 2 is class '10'" in find(touch(tmp_path, *images(".", classes=("1", "0", "2", "10"), count=4))).summary()
    )
    assert "label" not in find(touch(tmp_path / "x", *images(".", classes=("0", "1", "2"), count=4))).summary()


def test_summary_says_how_large_the_classes_are(tmp_path):
    data = find(
        touch(
            tmp_path,
            *images("train", classes=("a",), count=7),
            *images("train", classes=("b",), count=2),
            *images("val", classes="ab"),
        )
    )
    assert "  train: 9 images; from 2 (b) to 7 (a) a class\n  val: 2 images" in data.summary()


APART, COMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFD", "NFC"))


@pytest.mark.parametrize(("train", "val"), [(APART, COMPOSED), (COMPOSED, APART)])
def test_a_class_whose_accents_macos_took_apart_is_the_same_in_every_split(tmp_path, train, val):
    names = [*images("train", classes=(train, "cafz")), *images("val", classes=(val, "cafz"), count=2)]
    data = find(touch(tmp_path, *names))
    assert sorted(data.class_names) == sorted([train, "cafz"])
    assert len(data.splits["train"]) == 2 and np.bincount(data.splits["val"].labels).tolist() == [2, 2]


@pytest.mark.parametrize(("of_run", "there"), [(APART, COMPOSED), (COMPOSED, APART)])
def test_a_run_knows_its_classes_with_accents_taken_apart(tmp_path, of_run, there):
    touch(tmp_path, *images("train", "val", classes=(there, "cafz"), count=2))
    run_data = config.RunData(tuple(sorted([of_run, "cafz"])))
    data = discovery.load_run_dataset(run_data, str(tmp_path))
    assert data.class_names == run_data.classes
    for path, label in zip(data.splits["val"].paths, data.splits["val"].labels.tolist()):
        folder = unicodedata.normalize("NFC", pathlib.Path(path).parent.name)
        assert folder == unicodedata.normalize("NFC", run_data.classes[label])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("Cat", "cat", "dog"), "'Cat' and 'cat'"),
        (("red fox", "red_fox", "wolf"), "'red fox' and 'red_fox'"),
        ((APART, COMPOSED, "x"), f"{APART!r} and {COMPOSED!r}"),
    ],
)
def test_classes_with_nearly_the_same_name_are_named(tmp_path, classes, expected):
    summary = find(touch(tmp_path, *images(".", classes=classes, count=4))).summary()
    assert f"Classes whose names are nearly the same: {expected}. If each is one class" in summary


@pytest.mark.parametrize("classes", [("A", "a", "b"), ("-1", "1", "2"), ("cat", "cats", "dog")])
def test_other_classes_are_not(tmp_path, classes):
    assert "nearly the same" not in find(touch(tmp_path, *images(".", classes=classes, count=4))).summary()


def test_a_note_that_holds_for_several_splits_is_given_once(tmp_path):
    names = [
        f"{split}/{name}/{inner}/{number}.jpg"
        for split in ("train", "val")
        for name in "ab"
        for inner in ("x", "y")
        for number in range(2)
    ]
    notes = find(touch(tmp_path, *names)).notes
    assert len(notes) == len(set(notes)) == 1
