"""Tests of `class_folders` and `labelled_files`: which folders are splits or classes, which files images."""

import hashlib
import os
import pathlib
import unicodedata

import numpy as np
import pytest

from tests.helpers.files import touch
from tests.helpers.layouts import class_of, encoded, error_of, find, paths_in, sizes


def images(*folders, classes=("cats", "dogs"), count=1):
    return [f"{folder}/{name}/{number}.jpg" for folder in folders for name in classes for number in range(count)]


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "test", "VAL"])
def test_train_and_validation_folders(tmp_path, validation):
    train = ["train/cat/1.Jpeg", "train/cat/2.JPG", "train/cat/deep/er/0.PNG", "train/dog/1.jpg"]
    others = ["train/cat/x.txt", "train/cat/y.pdf", "train/empty/notes.txt", "train/stray.jpg", "readme.md"]
    held_out = [f"{validation}/cat/8.png", f"{validation}/dog/7.jpeg"]
    data = find(touch(tmp_path, *train[::-1], *others, *held_out))
    assert data.class_names == ("cat", "dog") and data.validation == validation.lower()
    assert list(data.splits) == ["train", validation.lower()]
    assert paths_in(data.splits["train"], tmp_path) == train
    assert data.splits["train"].labels.tolist() == [0, 0, 0, 1] and data.splits["train"].labels.dtype == np.int32
    assert paths_in(data.splits[validation.lower()], tmp_path) == held_out
    assert data.splits[validation.lower()].labels.tolist() == [0, 1]
    assert data.name == tmp_path.name and data.directory == str(tmp_path)
    assert data.notes[:2] == (
        f"Left out, as they are not images: 3, such as {tmp_path}/train/cat/x.txt.",
        f"Left out, as class folders without an image: 1: {tmp_path}/train/empty.",
    )
    assert [("chosen on test" in note) for note in data.notes[2:]] == [True] * (validation == "test")


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
    ],
)
def test_folders_named_as_splits_in_any_way_are_splits(tmp_path, train, other, split):
    data = find(touch(tmp_path, *images(train, count=2), *images(other)))
    assert data.class_names == ("cats", "dogs") and data.validation == split
    assert sizes(data) == {"train": 4, split: 2}
    assert data.notes[0].startswith(f"Splits: {train} is train, {other} is {split}.")


def test_three_splits_and_a_validation_split_may_lack_a_class(tmp_path):
    data = find(
        touch(tmp_path, *images("d_train", "d_test", classes="abc"), *images("d_valid", classes="cd"[:1] + "b"))
    )
    assert list(data.splits) == ["train", "val", "test"] and data.validation == "val"
    assert data.splits["val"].labels.tolist() == [1, 2]


def test_a_test_split_of_other_classes_is_left_out(tmp_path):
    data = find(touch(tmp_path, *images("train", "val"), "test/birds/1.jpg"))
    assert list(data.splits) == ["train", "val"]
    assert data.notes == ("test is left out: it does not have the classes of train.",)


@pytest.mark.parametrize("name", ["train", "test tube"])
def test_a_class_may_be_called_as_a_split(tmp_path, name):
    data = find(touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("bus", "car", name) for i in range(4))))
    assert data.class_names == ("bus", "car", name)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (images("train_a", "train_b", "my_val"), "train_a, train_b all look like train"),
        (images("part1", "part2"), "same class folders (cats, dogs): are they splits?"),
        (images("valid", count=2, classes=("",)) + images("cats", classes=("",)), "look like splits (valid)"),
        ([*images("train"), "other/x"], "looked for val, valid, validation, test; there: other/, train/"),
        (["train/a/1.jpg", "val/a/1.jpg"], "at least two classes with images are needed; got ['a']"),
        (["train/x.txt", "val/a/1.jpg"], "classes that are not in"),
        (["cat/1.jpg"], "at least two classes with images are needed; got ['cat']; there: cat/"),
        (["cat/1.jpg", "dog/1.jpg"], "too few images for a 90/10 split. Make train and val."),
        (images("train") + images("val", classes=("cats", "dog", "eel")), "not in {}/train: dog, eel. Both"),
        ([*images("train"), "val/a/1.txt"], "val holds no images in class folders; there: a/"),
        ([*images("train"), "val/1.jpg"], "in a file (val.csv beside it"),
        (
            [*images(".", count=4), "birds/1.CR2", "birds/2.cr2", "birds/3.svg", "birds/list.txt"],
            "Class 'birds' would be missing: {}/birds holds no image that can be read, but 2 .cr2, 1 .svg.",
        ),
    ],
)
def test_what_cannot_be_used_as_it_is_says_why(tmp_path, files, text):
    assert text.format(tmp_path) in error_of(touch(tmp_path, *files))


def test_one_folder_too_high_says_which_one(tmp_path):
    touch(tmp_path, *images("flower_photos", classes=("daisy", "roses")))
    assert f" --data_dir={tmp_path}/flower_photos" in error_of(tmp_path)


def test_nested_class_folders_are_reported_once(tmp_path):
    for split in ("train", "val"):
        touch(tmp_path / split, *images("animals", count=2), *images("plants", classes=("roses", "tulips"), count=2))
    data = find(tmp_path)
    assert data.class_names == ("animals", "plants") and len(data.notes) == 1
    assert "animals joins cats, dogs (the same in 1 other class)." in data.notes[0]


@pytest.mark.parametrize("junk", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", ".cache"])
def test_folders_of_other_programs_are_not_classes(tmp_path, junk):
    data = find(
        touch(
            tmp_path, *images(".", count=4), f"{junk}/cats/1.jpg", f"{junk}/1.jpg", f"cats/{junk}/2.jpg", "cats/._0.jpg"
        )
    )
    assert data.class_names == ("cats", "dogs") and sum(sizes(data).values()) == 8


@pytest.mark.parametrize("name", ["two\nlines", "tab\there", "bell\x07", os.fsdecode(b"caf\xe9"), " "])
def test_class_names_that_would_break_a_list_are_refused(tmp_path, name):
    touch(tmp_path, *images(".", count=4), f"{name}/1.jpg")
    assert "Rename it" in error_of(tmp_path) and "\n" not in error_of(tmp_path)


def test_strange_names_are_read(tmp_path):
    names = ('it\'s "a" 猫', "two words", "🐕")
    files = ("a b.jpg", "猫🐱.png", "quo\"te'.jpeg", os.fsdecode(b"\xff\xe9.jpg"))
    folders = [f"{split}/{name}/{file}" for split in ("train", "val") for name in names for file in files]
    data = find(touch(tmp_path, *folders, content=encoded("jpeg")))
    assert data.class_names == names and sizes(data) == {"train": 12, "val": 12}
    split = data.splits["train"]
    assert all(split.image_bytes(index) == encoded("jpeg") for index in range(12))
    assert split.describe(0) == split.paths[0] and len(data.fingerprint()) == 16


# Links, pipes.


@pytest.fixture
def two_classes(tmp_path):
    touch(tmp_path / "data", *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    return tmp_path / "data"


@pytest.mark.parametrize("target", [".", "..", "/", "nowhere", "link"])
def test_links_that_lead_back_or_nowhere_are_left_out(two_classes, target):
    (two_classes / "train/link").symlink_to(target)
    data = find(two_classes)
    assert paths_in(data.splits["train"], two_classes) == ["train/a/1.jpg", "train/b/1.jpg"]
    assert len(data.notes) == 1 and data.notes[0].startswith(
        f"{two_classes}/train/link is left out: it is not a folder"
    )


def test_links_to_class_folders_are_followed(two_classes):
    (two_classes / "train/c").symlink_to("../val/a")
    assert len(find(two_classes).splits["train"]) == 3


def test_links_to_images_are_kept_and_those_that_lead_nowhere_fail_when_read(two_classes):
    (two_classes / "val/a/1.jpg").write_bytes(encoded("jpeg"))
    for name, target in (("2.jpg", "../../val/a/1.jpg"), ("3.jpg", "gone"), ("4.jpg", "4.jpg")):
        (two_classes / "train/a" / name).symlink_to(target)
    data = find(two_classes)
    split = data.splits["train"]
    assert data.notes == () and len(data.fingerprint()) == 16
    assert paths_in(split, two_classes) == [f"train/a/{i}.jpg" for i in range(1, 5)] + ["train/b/1.jpg"]
    assert split.image_bytes(1) == encoded("jpeg")
    for index in (2, 3):
        with pytest.raises(OSError):
            split.image_bytes(index)


def test_what_is_not_a_file_is_left_out(two_classes):
    for name in ("train/a/x.jpg", "train/y.jpg", "waits"):  # To open one would wait for ever.
        os.mkfifo(two_classes / name)
    (two_classes / "train/a/z.jpg").symlink_to("../../waits")
    for name, target in (("b.jpg", "../b"), ("loop", "."), ("up", "../..")):
        (two_classes / "train/a" / name).symlink_to(target)
    data = find(two_classes)
    assert len(data.splits["train"]) == 2 and data.notes[0].startswith(f"{two_classes}/train/y.jpg is left out")
    assert data.notes[1:] == (f"Left out, as they are not images: 5, such as {two_classes}/train/a/b.jpg.",)


# The 90/10 split.


def test_a_tenth_of_each_class_is_held_out_by_class_and_path(tmp_path):
    counts = {"a": 100, "b": 20, "c": 2, "d": 1, "e": 14, "f": 15}
    data = find(touch(tmp_path, *(f"{name}/img_{i:04d}.jpg" for name, size in counts.items() for i in range(size))))
    assert np.bincount(data.splits["validation"].labels, minlength=6).tolist() == [10, 2, 1, 0, 1, 2]
    assert np.bincount(data.splits["train"].labels).tolist() == [90, 18, 1, 1, 13, 13]
    smallest = sorted(
        (f"a/img_{i:04d}.jpg" for i in range(100)), key=lambda path: hashlib.sha256(path.encode()).digest()
    )[:10]
    found = paths_in(data.splits["validation"], tmp_path)
    assert [path for path in found if path.startswith("a/")] == sorted(smallest)
    assert "none of d" in data.summary() and data.notes[0].startswith("Split 90/10 in each class by a hash of class")


def test_a_folder_that_stays_whole(tmp_path):
    data = find(touch(tmp_path, *images(".", count=10), "cats/x.txt"), is_whole=True)
    assert sizes(data) == {"all": 20} and data.validation == "all"
    assert data.notes == (f"Left out, as they are not images: 1, such as {tmp_path}/cats/x.txt.",)


@pytest.mark.parametrize(
    ("test_images", "why"),
    [
        ("test/1.jpg", "its images have no labels"),
        ("test/test/1.jpg", "it does not have the classes of train"),
        ("test/unknown/1.jpg", "it does not have the classes of train"),
    ],
)
def test_an_unlabelled_test_folder_beside_train_is_left_out(tmp_path, test_images, why):
    data = find(touch(tmp_path, *images("train", count=20), test_images))
    assert sizes(data) == {"train": 36, "validation": 4} and data.name == tmp_path.name
    assert data.notes[0] == f"test is left out: {why}." and data.directory == str(tmp_path)


# Formats.


def test_images_are_known_by_their_content_whatever_their_ending(tmp_path):
    files = {"a/1.jfif": b"", "a/2.JPE": b"", "a/3": "jpeg", "a/4.image": "jpeg", "b/1.jpg": b"", "b/2": "png"}
    files |= {"b/3.img": "webp", "b/4": "gif", "c/5": "bmp", "c/6.tif": "tiff", "b/notes.txt": b"hello"}
    for name, content in files.items():
        touch(tmp_path, name, content=encoded(content) if isinstance(content, str) else content)
    data = find(tmp_path)
    assert sum(sizes(data).values()) == 10
    assert any("1, such as" in note and "notes.txt" in note for note in data.notes)


def test_images_are_found_without_a_look_at_each_file(tmp_path, monkeypatch):
    touch(tmp_path, *images("train", "val", count=3), "val/flat.jpg")
    looked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(str(path)) or stat(path, **options))
    assert sizes(find(tmp_path)) == {"train": 6, "val": 6} and not any(path.endswith(".jpg") for path in looked)


# What the summary says.


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("1", "0", "2", "10"), "label 2 is class '10'"),
        (("-1", "1", "2"), None),
        (("0", "1", "2"), None),
        (tuple(f"c{i:02d}" for i in range(12)), "12 classes: c00, c01, c02, c03, c04, c05, c06, c07 and 4 more"),
        ("aab", "  train: 12 images; from 4 (b) to 8 (a) a class\n"),
    ],
)
def test_summary_of_classes(tmp_path, classes, expected):
    names = (f"train/{name}/{label}{number}.jpg" for label, name in enumerate(classes) for number in range(4))
    text = find(touch(tmp_path, *names, *images("val", classes=classes))).summary()
    assert expected in text if expected else "label" not in text


@pytest.mark.parametrize(("train", "val"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_class_whose_accents_macos_took_apart_is_the_same_in_every_split(tmp_path, train, val):
    for split, form in (("train", train), ("val", val)):
        touch(tmp_path, *images(split, classes=(unicodedata.normalize(form, "caf\u00e9"), "cafz")))
    data = find(tmp_path)
    assert data.class_names == ("cafz", "caf\u00e9")
    for split in data.splits.values():
        names = [unicodedata.normalize("NFC", pathlib.Path(path).parent.name) for path in split.paths]
        assert names == [data.class_names[label] for label in split.labels]


# Tables beside folders.


def write_table(
    root, folders, file, line, header="image,label\n", label=lambda folder, number: ("cat", "dog")[number % 2]
):
    """Writes ten images in each folder, and a table with a line for each."""
    images = [(f"{folder}/{number:02d}.jpg", label(folder, number)) for folder in folders for number in range(10)]
    text = header + "".join(f"{line}\n".format(image=image, label=label) for image, label in images)
    touch(root, *(image for image, _ in images))
    touch(root, file, content=text.encode("latin-1"))
    return root


@pytest.mark.parametrize(
    ("folders", "file"),
    [
        (("cam1", "cam2"), "labels.csv"),
        (("2019/a", "2019/b", "2020/a", "2020/b"), "metadata.csv"),
        (("images/cam1", "images/cam2"), "labels.csv"),
        (("train/patient1", "train/patient2"), "train.csv"),
    ],
)
def test_a_file_of_labels_is_taken_where_the_folders_are_not_its_classes(tmp_path, folders, file):
    touch(write_table(tmp_path, folders, file, "{image},{label}"), *(f"test/{number}.jpg" for number in range(99)))
    data = find(tmp_path)
    assert data.class_names == ("cat", "dog") and sum(sizes(data).values()) == 10 * len(folders)
    assert f"Labels from {file}." in data.notes and data.notes[-1].startswith("The folders divide the images in anoth")
    assert {(int(name[1]) % 2, label) for name, label in class_of(data).items()} == {(0, "cat"), (1, "dog")}


def test_each_splits_own_file_of_labels_is_taken_where_the_folders_are_not_its_classes(tmp_path):
    for split in ("train", "val"):
        write_table(tmp_path / split, ("cam1", "cam2"), "metadata.csv", "{image},{label}")
    data = find(tmp_path)
    assert data.class_names == ("cat", "dog") and sizes(data) == {"train": 20, "val": 20}


@pytest.mark.parametrize(
    ("file", "header", "line", "said"),
    [
        (
            "Data_2017.csv",
            "name,label,age\n",
            "{image},{label},3",
            "Data_2017.csv has other labels than the folders, which",
        ),
        (
            "list.jsonl",
            "",
            '{{"file": "{image}", "label": "{label}"}}',
            "python train.py --data_dir={} --labels=list.jsonl",
        ),
        ("labels.csv", "image,width,height\n", "{image},8,9", "not clear. Name it: --label_column=NAME"),
        ("labels.csv", "image,caf\xe9\n", "{image},{label}", "The folders are taken for the classes."),
        ("words.tsv", "word\tlabel\n", "word\t{label}", None),
    ],
)
@pytest.mark.parametrize("inner", ["", "images/"])
def test_another_table_that_names_the_images_is_mentioned(tmp_path, file, header, line, said, inner):
    write_table(tmp_path, (f"{inner}cam1", f"{inner}cam2"), file, line, header)
    text = error_of(tmp_path) if inner else find(tmp_path).summary()
    assert said.format(tmp_path) in text if said else file not in text


@pytest.mark.parametrize("folders", [("red", "blue"), ("train/red", "train/blue", "val/red", "val/blue")])
def test_class_folders_stay_the_classes_where_a_file_of_labels_divides_the_images_alike(tmp_path, folders):
    write_table(tmp_path, folders, "labels.csv", "{image},{label}", label=lambda folder, _: folder[-2:])
    data = find(tmp_path)
    assert data.class_names == ("blue", "red") and "labels.csv" not in data.summary()
