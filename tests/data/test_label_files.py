"""Tests of `label_files`: labels in CSV, text and JSON lines, in every way that people write them."""

import json
import pathlib

import PIL.Image
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.runs import config
from alexnet_tf.support import errors

CLASS_OF = {f"img_{i:02d}": ("cat", "dog", "owl")[i % 3] for i in range(30)}


def make(directory, text, name="labels.csv", folder="", ending=".jpg", images=CLASS_OF, encoding="utf-8"):
    for image in images:
        path = pathlib.Path(directory, folder, image + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    pathlib.Path(directory, name).write_text(text, encoding=encoding)
    return str(directory)


def found(data):
    """Returns {image: class name} over all splits."""
    return {
        pathlib.Path(path).stem: data.class_names[label]
        for split in data.splits.values()
        for path, label in zip(split.paths, split.labels.tolist())
    }


def lines(form, header=""):
    return header + "".join(form.format(image=image, name=name) + "\n" for image, name in CLASS_OF.items())


FORMS = {
    "file and label": lines("{image}.jpg,{name}", "file,label\n"),
    "without a header": lines("{image}.jpg,{name}"),
    "ids without ending": lines("{image},{name}", "id,breed\n"),
    "label first": lines("{name},{image}.jpg", "class,file_name\n"),
    "more columns": lines("7,{image}.jpg,0.5,{name},x", "width,image,quality,category,source\n"),
    "semicolons": lines("{image}.jpg;{name}", "file;label\n"),
    "tabs": lines("{image}.jpg\t{name}", "file\tlabel\n"),
    "with a folder": lines("images/{image}.jpg,{name}", "path,label\n"),
    "with a folder that is not here": lines("/home/me/data/{image}.jpg,{name}", "path,label\n"),
    "quoted": lines('"{image}.jpg", "{name}"', "file,label\n"),
    "with BOM and CRLF and empty lines": "\ufeff"
    + lines("{image}.jpg,{name}", "file,label\n").replace("\n", "\r\n")
    + "\r\n\r\n",
}


@pytest.mark.parametrize("folder", ["", "images", "train"])
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form(tmp_path, form, folder):
    data = discovery.find_dataset(make(tmp_path, FORMS[form], folder=folder))
    assert data.class_names == ("cat", "dog", "owl") and found(data) == CLASS_OF
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 27, "val": 3}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", lines("{image}.jpg {name}")),
        ("train.txt", lines("images/{image}.jpg {name}")),
        ("labels.tsv", lines("{image}.jpg\t{name}", "file\tlabel\n")),
        ("train_labels.csv", FORMS["file and label"]),
        (
            "labels.jsonl",
            "".join(json.dumps({"file_name": f"{i}.jpg", "label": n, "id": 3}) + "\n" for i, n in CLASS_OF.items()),
        ),
    ],
)
def test_files_of_every_kind(tmp_path, name, text):
    assert found(discovery.find_dataset(make(tmp_path, text, name, "images"))) == CLASS_OF


def test_numbers_are_labels_in_the_order_of_their_value(tmp_path):
    numbers = {f"{i:03d}": str(i % 12) for i in range(120)}
    text = "id,label\n" + "".join(f"{image},{number}\n" for image, number in numbers.items())
    data = discovery.find_dataset(make(tmp_path, text, images=numbers))
    assert data.class_names == tuple(map(str, range(12))) and found(data) == numbers


def test_a_file_for_each_split(tmp_path):
    rows = FORMS["file and label"].splitlines(keepends=True)
    make(tmp_path, "".join(rows[:25]), "train.csv", "images")
    (tmp_path / "val.csv").write_text("".join([rows[0], *rows[25:]]))
    (tmp_path / "test.csv").write_text("file\nimg_00.jpg\n")  # Kaggle's: without labels.
    data = discovery.find_dataset(str(tmp_path))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 24, "val": 6} and found(
        data
    ) == CLASS_OF


def test_a_column_of_splits(tmp_path):
    text = "file,label,split\n" + "".join(
        f"{image}.jpg,{name},{'test' if i < 6 else 'train'}\n" for i, (image, name) in enumerate(CLASS_OF.items())
    )
    data = discovery.find_dataset(make(tmp_path, text))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 24,
        "test": 6,
    } and data.validation == "test"


def test_columns_that_are_asked_for(tmp_path):
    text = lines("{image}.jpg,7,{name}", "picture,a,b\n")
    make(tmp_path, text, "mine.csv")
    options = {"labels": "mine.csv", "label_column": "b"}
    data = discovery.find_dataset(str(tmp_path), options=options)
    assert found(data) == CLASS_OF and data.options["label_column"] == "b"
    again = discovery.load_run_dataset(
        config.RunData(
            data.class_names, data.name, data.directory, split_rule=data.split_rule, options=dict(data.options)
        )
    )
    assert again.fingerprint() == data.fingerprint()
    assert (
        found(
            discovery.find_dataset(
                str(tmp_path), options={"labels": "mine.csv", "label_column": "2", "image_column": "0"}
            )
        )
        == CLASS_OF
    )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            lines("{image}.jpg,7,{name}", "picture,a,b\n"),
            {},
            "picture, a, b; which one is meant is not clear. Name it: --label_column=",
        ),
        (
            lines("{image}.jpg,{name}", "file,label\n"),
            {"label_column": "breed"},
            "--label_column=breed: .* has the columns file, label",
        ),
        (
            lines("{image}.png,x,{name}", "file,label,l\n").replace("img", "pic"),
            {},
            "names no image that lies beside it, .*; a line is ",
        ),
        ("file,label\nimg_00.jpg,\nimg_01.jpg,a\n", {}, "no label for img_00.jpg"),
        ("file,label\nimg_00.jpg,a\nimg_01.jpg,a\n", {}, "at least two classes"),
        (
            "file,label\nimg_00.jpg,a\nno.jpg,a\nnot.jpg,b\n",
            {},
            "names 2 images of 3 that are not there, such as no.jpg",
        ),
        ("file,label\nimg_00.jpg,a\nimg_01.jpg\n", {}, "a line with 1 columns"),
        ("", {}, "is empty"),
        ("x", {"labels": "gone.csv"}, "--labels=gone.csv does not exist"),
    ],
)
def test_what_cannot_be_understood_is_an_error(tmp_path, text, options, message):
    with pytest.raises(errors.DataError, match=message):
        discovery.find_dataset(make(tmp_path, text), options=options)


def test_images_are_known_by_their_content_and_other_formats_are_for_prepare(tmp_path):
    make(tmp_path, FORMS["ids without ending"], images=())
    for number, image in enumerate(CLASS_OF):
        kind = "webp" if number == 7 else "png"
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / image, kind)  # Without an ending.
    with pytest.raises(errors.DataError, match="(?s)1 of dog.*prepare --data_dir=") as caught:
        discovery.find_dataset(str(tmp_path))
    assert "WebP" in str(caught.value)
    assert found(discovery.find_dataset(str(tmp_path), for_prepare=True)) == CLASS_OF


def test_a_few_missing_images_are_noted(tmp_path):
    data = discovery.find_dataset(make(tmp_path, FORMS["file and label"] + "gone.jpg,cat\n"))
    assert any("names 1 images of 31 that are not there, such as gone.jpg: left out." in note for note in data.notes)


def test_class_folders_beside_a_file_of_that_name_stay_class_folders(tmp_path):
    for name in ("cats", "dogs"):
        make(tmp_path, "x,y\n", "train.csv", name)
    assert discovery.find_dataset(str(tmp_path)).class_names == ("cats", "dogs")
