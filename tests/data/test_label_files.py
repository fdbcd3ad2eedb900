"""Tests of `label_files`: labels in CSV, text and JSON lines, as people write them, and in files' names."""

import json
import pathlib
import shlex
import unicodedata

import pytest

from tests.helpers.files import touch
from tests.helpers.layouts import class_of, error_of, find, sizes

CLASS_OF = {f"img_{i:02d}.jpg": ("cat", "dog", "owl")[i % 3] for i in range(30)}


def make(directory, text, name="labels.csv", folder="", images=CLASS_OF, encoding="utf-8"):
    touch(directory / folder, *images)
    pathlib.Path(directory, name).write_text(text, encoding=encoding)
    return directory


def lines(form, header=""):
    return header + "".join(
        form.format(image=image.removesuffix(".jpg"), name=name) + "\n" for image, name in CLASS_OF.items()
    )


FORMS = {
    "file and label": lines("{image}.jpg,{name}", "file,label\n"),
    "without a header": lines("{image}.jpg,{name}"),
    "ids without ending": lines("{image},{name}", "id,breed\n"),
    "label first": lines("{name},{image}.jpg", "class,file_name\n"),
    "more columns": lines("7,{image}.jpg,0.5,{name},x", "width,image,quality,category,source\n"),
    "semicolons": lines("{image}.jpg;{name}", "file;label\n"),
    "with a folder": lines("images/{image}.jpg,{name}", "path,label\n"),
    "with a folder that is not here": lines("/home/me/data/{image}.jpg,{name}", "path,label\n"),
    "with a folder of Windows": lines("data\\{image}.jpg,{name}", "path,label\n"),
    "Excel's first line": "sep=;\n" + lines("{image}.jpg;{name}", "file;label\n"),
    "quoted": lines('"{image}.jpg", "{name}"', "file,label\n"),
    "with BOM and CRLF and empty lines": "\ufeff"
    + lines("{image}.jpg,{name}", "file,label\n").replace("\n", "\r\n")
    + "\r\n\r\n",
}


@pytest.mark.parametrize("folder", ["", "images", "train"])
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form(tmp_path, form, folder):
    data = find(make(tmp_path, FORMS[form], folder=folder))
    assert data.class_names == ("cat", "dog", "owl") and class_of(data) == CLASS_OF
    assert sizes(data) == {"train": 27, "val": 3} and data.notes[0] == "Labels from labels.csv."


JSON_LINES = "".join(json.dumps({"file_name": i, "label": n, "id": None}) + "\n" for i, n in CLASS_OF.items())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", lines("{image}.jpg {name}")),
        ("train.txt", lines("images/{image}.jpg {name}")),
        ("labels.tsv", lines("{image}.jpg\t{name}", "file\tlabel\n")),
        ("Train_Labels.csv", FORMS["file and label"]),
        ("labels.jsonl", JSON_LINES),
    ],
)
def test_files_of_every_kind(tmp_path, name, text):
    assert class_of(find(make(tmp_path, text, name, "images"))) == CLASS_OF


def test_numbers_are_labels_in_the_order_of_their_value(tmp_path):
    numbers = {f"{i:03d}.jpg": str(i % 12) for i in range(120)}
    text = "id,label\n" + "".join(f"{image[:3]},{number}\n" for image, number in numbers.items())
    data = find(make(tmp_path, text, images=numbers))
    assert data.class_names == tuple(map(str, range(12))) and class_of(data) == numbers


def test_a_file_for_each_split(tmp_path):
    header, *rows = FORMS["file and label"].splitlines(keepends=True)
    make(tmp_path, "".join([header, *rows[:24]]), "train.csv", "images")
    (tmp_path / "Valid.csv").write_text("".join([header, *rows[24:]]))
    (tmp_path / "test.csv").write_text("file\nimg_00.jpg\n")  # Kaggle's: without labels.
    data = find(tmp_path)
    assert sizes(data) == {"train": 24, "val": 6} and class_of(data) == CLASS_OF
    assert data.notes == ("Labels from train.csv, Valid.csv.",)


def test_a_column_of_splits(tmp_path):
    rows = (f"{image},{name},{'Test' if i < 6 else 'train'}\n" for i, (image, name) in enumerate(CLASS_OF.items()))
    data = find(make(tmp_path, "file,label,split\n" + "".join(rows)))
    assert sizes(data) == {"train": 24, "test": 6} and data.validation == "test"


def split_rows(column, values, header="file,label,"):
    """Returns a file of labels whose last column has each value for ten images."""
    rows = (f"{image},{name},{values[i // 10]}\n" for i, (image, name) in enumerate(CLASS_OF.items()))
    return header + column + "\n" * bool(header) + "".join(rows)


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("split", ("training", "validation", "testing"), {"train": 10, "val": 10, "test": 10}),
        ("Split", ("train", "eval", "holdout"), {"train": 10, "val": 20}),
        ("set", ("TRAIN", "VALIDATE", "TEST"), {"train": 10, "val": 10, "test": 10}),
        ("Usage", ("Training", "PublicTest", "PrivateTest"), {"train": 10, "val": 10, "test": 10}),
        ("which", ("train", "train", "dev"), {"train": 20, "val": 10}),
        ("is_valid", ("False", "False", "True"), {"train": 20, "val": 10}),
        ("is_training_img", ("1", "1", "0"), {"train": 20, "test": 10}),
        ("is_test", ("0", "1", "0"), {"train": 20, "test": 10}),
    ],
)
def test_a_column_of_splits_by_its_name_or_its_values(tmp_path, column, values, expected):
    data = find(make(tmp_path, split_rows(column, values)))
    assert sizes(data) == expected and f"The splits are those of the column {column}." in data.notes
    assert set(class_of(data, "train")) == {
        image
        for i, image in enumerate(CLASS_OF)
        if values[i // 10].lower() in ("train", "training", "false")
        or (column, values[i // 10]) in {("is_training_img", "1"), ("is_test", "0")}
    }


def test_a_column_of_splits_without_a_header(tmp_path):
    data = find(make(tmp_path, split_rows("", ("TRAIN", "TRAIN", "TEST"), header="")))
    assert sizes(data) == {"train": 20, "test": 10} and class_of(data) == CLASS_OF


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("split", ("train", "tset", "test"), "do not name a split: 'tset' (10). It takes train, training, val"),
        ("split", ("0", "1", "2"), "do not name a split: '0' (10), '1' (10), '2' (10)"),
        ("fold", ("train", "", "test"), "do not name a split: '' (10)"),
        ("is_valid,split", ("0,train", "1,val", "1,test"), "for training: is_valid, split. Name one, or none"),
    ],
)
def test_a_column_of_splits_that_is_not_understood_is_an_error_and_can_be_ignored(tmp_path, column, values, message):
    make(tmp_path, split_rows(column, values))
    assert message in error_of(tmp_path) and "--split_column=none" in error_of(tmp_path)
    options = {"split_column": "none", "label_column": "label"}
    data = find(tmp_path, **options)
    assert sizes(data) == {"train": 27, "val": 3} and data.options == options


def test_a_column_of_splits_that_is_asked_for(tmp_path):
    make(tmp_path, split_rows("is_valid,mine", ("0,train", "1,val", "1,test")))
    assert sizes(find(tmp_path, split_column="mine", label_column="label")) == {"train": 10, "val": 10, "test": 10}
    assert sizes(find(tmp_path, split_column="2", label_column="label")) == {"train": 10, "val": 20}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_states_the_encoding(tmp_path, encoding):
    make(tmp_path, FORMS["file and label"].replace("owl", "Bär"), encoding=encoding)
    assert "Bär" in find(tmp_path).class_names


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "Bär"), ("gb18030", "白猫")])
def test_another_encoding_is_named_and_taken(tmp_path, encoding, name):
    make(tmp_path, FORMS["semicolons"].replace("owl", name), encoding=encoding)
    assert f"--labels_encoding={encoding}: img_02.jpg;{name}" in error_of(tmp_path)
    data = find(tmp_path, labels_encoding=encoding)
    assert set(data.class_names) == {"cat", "dog", name} and data.options == {"labels_encoding": encoding}
    assert "is not klingon text" in error_of(tmp_path, labels_encoding="klingon")


def test_columns_that_are_asked_for(tmp_path):
    make(tmp_path, lines("{image}.jpg,7,{name}", "picture,a,b\n"), "mine.csv")
    for options in ({"label_column": "b"}, {"label_column": "2", "image_column": "0"}):
        assert class_of(find(tmp_path, labels="mine.csv", **options)) == CLASS_OF


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            lines("{image}.jpg,7,{name}", "picture,a,b\n"),
            {},
            "picture, a, b; which one holds the labels is not clear. Name it: --label_column=",
        ),
        (
            FORMS["file and label"],
            {"label_column": "breed"},
            "--label_column=breed: {}/labels.csv has the columns file",
        ),
        (FORMS["file and label"].replace("img", "pic"), {}, "names no image that lies beside it"),
        ("file,label\nimg_00.jpg,\nimg_01.jpg,a\n", {}, "no label for img_00.jpg"),
        ("file,label\nimg_00.jpg,a\nimg_01.jpg,a\n", {}, "at least two classes"),
        (
            "file,label\nimg_00.jpg,a\nno.jpg,a\nnot.jpg,b\n",
            {},
            "names 2 images of 3 that are not there, such as no.jpg",
        ),
        ("file,label\nimg_00.jpg,a\nimg_01.jpg\n", {}, "a line without the column label: img_01.jpg"),
        ("file,label,split\nimg_00.jpg,a,train\nimg_01.jpg,b,val\n", {}, "classes without a training image: b"),
        ("", {}, "is empty"),
        ("x", {"labels": "gone.csv"}, "--labels=gone.csv does not exist; looked in {}"),
        ("image,MEL,NV,BCC\nimg_01,0,0,1\nimg_00,1,1,0\n", {}, "img_00 has several: MEL, NV. An image has one class"),
        ("image,MEL,NV,BCC\nimg_01,0,0,1\nimg_00,0,0,0\n", {}, "img_00 has no 1. An image has one class"),
        (lines("{image}.jpg,{name}") + lines("{image}.jpg,x"), {}, "gives 30 images of 30 several labels, such as"),
    ],
)
def test_what_cannot_be_understood_is_an_error(tmp_path, text, options, message):
    assert message.format(tmp_path) in error_of(make(tmp_path, text), **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("labels.csv", b"\xff", "is not UTF-8 text"), ("labels.jsonl", b"[1]\n", "each line must be a JSON object")],
)
def test_what_is_not_of_its_endings_format_is_an_error(tmp_path, name, content, message):
    touch(tmp_path, "1.jpg")
    assert message in error_of(touch(tmp_path, name, content=content))


def test_a_name_of_several_images_is_none_of_them_but_a_whole_path_is_one(tmp_path):
    make(tmp_path, FORMS["file and label"], folder="images")
    touch(tmp_path, "img_00.jpg", "a/img_01.jpg")  # The first is a path, the second's is not clear.
    data = find(tmp_path)
    assert class_of(data) == {image: name for image, name in CLASS_OF.items() if image != "img_01.jpg"}
    assert str(tmp_path / "img_00.jpg") in {path for split in data.splits.values() for path in split.paths}


def test_class_folders_beside_a_file_of_that_name_stay_class_folders(tmp_path):
    for name in ("cats", "dogs"):
        make(tmp_path, "x,y\n", "train.csv", name)
    assert find(tmp_path).class_names == ("cats", "dogs")


def test_a_few_odd_lines_are_noted(tmp_path):
    make(tmp_path, FORMS["file and label"] + "gone.jpg,cat\nimg_04.jpg,owl\n", "train.csv")
    (tmp_path / "val.csv").write_text("file,label\nimg_03.jpg,cat\n")
    notes = "\n".join(find(tmp_path).notes)
    assert "names 1 images of 32 that are not there, such as gone.jpg: left out." in notes
    for text in ("labels, such as {}/img_04.jpg: dog, owl.", "splits, such as {}/img_03.jpg: train, val."):
        assert f"gives 1 images of 30 several {text.format(tmp_path)}" in notes


def test_an_image_that_is_named_twice_with_one_label_counts_twice(tmp_path):
    data = find(make(tmp_path, 2 * FORMS["without a header"]))
    assert sum(sizes(data).values()) == 60
    assert not set(data.splits["train"].paths) & set(data.splits["val"].paths)


def test_a_name_with_accents_taken_apart_is_found(tmp_path):
    names = [f"caf\u00e9 {number}.jpg" for number in range(12)]
    text = "".join(f"{name},{'ab'[number % 2]}\n" for number, name in enumerate(names))
    data = find(make(tmp_path, text, images=[unicodedata.normalize("NFD", name) for name in names]))
    assert sum(sizes(data).values()) == 12


# A column of zeros and ones for each class.


def one_hot(form="{}.jpg, {}, {}, {}\n", header="filename, cat, dog, owl\n"):
    rows = enumerate(CLASS_OF)
    return header + "".join(form.format(image[:-4], *(int(i % 3 == c) for c in range(3))) for i, image in rows)


@pytest.mark.parametrize("form", ["{},{},{},{}\n", "{}.jpg,{}.0,{}.0,{}.0\n", "images/{}.jpg,{},{},{}\n"])
def test_a_column_for_each_class_is_read(tmp_path, form):
    assert class_of(find(make(tmp_path, one_hot(form), folder="images"))) == CLASS_OF


def test_a_column_of_zeros_and_ones_can_be_the_label(tmp_path):
    assert find(make(tmp_path, one_hot()), label_column="dog").class_names == ("0", "1")


# Files of labels of one split.

WORDNET_IDS = ("n01443537", "n01629819")
VAL = {f"val_{number}.JPEG": WORDNET_IDS[number % 3 // 2] for number in range(6)}


def tiny_imagenet(directory, text, name="val/val_annotations.txt"):
    for each in WORDNET_IDS:
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
    data = find(tiny_imagenet(tmp_path, text, name))
    assert data.class_names == WORDNET_IDS and sizes(data) == {"train": 8, "val": 6}
    assert class_of(data, "val") == VAL and f"Labels from {pathlib.Path(name).name}." in data.notes


def test_the_encoding_that_is_asked_for_is_that_of_a_splits_file_too(tmp_path):
    touch(tmp_path, *(f"train/{name}/{number}.jpg" for name in ("Bär", "Fuchs") for number in range(4)))
    make(tmp_path, "1.jpg,Bär\n2.jpg,Fuchs\n", "val.csv", "val", ("1.jpg", "2.jpg"), encoding="cp1252")
    assert "--labels_encoding=cp1252: 1.jpg,Bär" in error_of(tmp_path)
    data = find(tmp_path, labels_encoding="cp1252")
    assert class_of(data, "val") == {"1.jpg": "Bär", "2.jpg": "Fuchs"} and data.options == {"labels_encoding": "cp1252"}


def test_a_file_of_validation_labels_with_other_classes_is_refused(tmp_path):
    tiny_imagenet(tmp_path, "".join(f"{image}\tcat\n" for image in VAL))
    assert f"that are not in {tmp_path}/train: cat" in error_of(tmp_path)


def test_a_file_without_labels_beside_test_is_not_an_error(tmp_path):
    tiny_imagenet(tmp_path, "".join(f"{image}\t{name}\n" for image, name in VAL.items()))
    (tmp_path / "test.csv").write_text("test_0.JPEG\ntest_1.JPEG\n")
    data = find(tmp_path)
    assert list(data.splits) == ["train", "val"] and any("test is left out" in note for note in data.notes)


def test_each_split_may_hold_its_file_of_labels(tmp_path):
    for split in ("train", "valid", "test"):
        make(tmp_path / split, one_hot(), "_classes.csv")
    data = find(tmp_path)
    assert data.class_names == ("cat", "dog", "owl") and data.validation == "valid"
    assert all(class_of(data, split) == CLASS_OF for split in ("train", "valid", "test"))


# Classes that only the files' names state.


@pytest.mark.parametrize(
    ("files", "names"),
    [  # As Kaggle's Dogs vs. Cats, the Oxford pets and a phone's exports come.
        (["train/cat.{}.jpg", "train/dog.{}.jpg", "test1/{}.jpg"], ["cat", "dog"]),
        (["train/cat.{}.jpg", "train/dog.{}.jpg", "test/{}.jpg"], ["cat", "dog"]),
        (["images/Abyssinian_{}.png", "images/great_pyrenees_{}.png"], ["Abyssinian", "great_pyrenees"]),
        (["red fox ({}).jpg", "wolf ({}).jpg"], ["red fox", "wolf"]),
    ],
)
def test_classes_in_names_are_asked_about_and_the_printed_command_reads_them(tmp_path, files, names):
    touch(tmp_path / "my data", *(name.format(number) for name in files for number in range(20)))
    question, command = error_of(tmp_path / "my data").split("\n")
    assert f"Are the classes in the names of the files: {', '.join(names)}? Then type" in question
    data_dir, labels = (word.partition("=")[2] for word in shlex.split(command)[-2:])
    data = find(data_dir, labels=labels)
    assert list(data.class_names) == names and sizes(data) == {"train": 36, "val": 4}
    assert all(image.startswith(name) for image, name in class_of(data).items())


@pytest.mark.parametrize("files", [["IMG_{}.jpg"], ["{}.jpg"], ["name{}x.jpg"], ["cat.{}.jpg", "a1.jpg"]])
def test_names_that_state_no_classes_are_not_asked_about(tmp_path, files):
    touch(tmp_path, *(name.format(number) for name in files for number in range(9)))
    assert "in the names of the files" not in error_of(tmp_path)
