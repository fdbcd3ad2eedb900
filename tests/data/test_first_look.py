"""Tests of `first_look`: what a data set's summary says of files that are no images, and of images in two splits."""

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import first_look, prepare
from tests.helpers.files import touch, write_folders
from tests.helpers.layouts import find

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
CLASSES = ("cats", "dogs")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (POINTER, "a pointer of Git LFS (git lfs pull fetches the file itself)"),
        (b"\n<!DOCTYPE html><html>403</html>", "an HTML page or an SVG image"),
    ],
)
def test_pointers_and_web_pages_are_said_with_the_first_look(tmp_path, content, kind):
    write_folders(tmp_path, CLASSES, train=40, val=2)
    assert "looked at" not in find(tmp_path).summary()
    bad = [f"train/{name}/{number}.jpg" for name in CLASSES for number in range(0, 40, 2)]
    touch(tmp_path, *bad, content=content)
    [note] = first_look.notes(find(tmp_path))
    assert (
        note.endswith(f"looked at are no images: {tmp_path}/train/cats/0.jpg is {kind}.")
        and note in find(tmp_path).summary()
    )


def test_images_in_two_splits_are_counted_by_content_whatever_their_names(tmp_path):
    write_folders(tmp_path / "data", CLASSES, train=30, val=4)
    assert not any("in train" in note for note in first_look.notes(find(tmp_path / "data")))
    image = (tmp_path / "data/train/dogs/7.jpg").read_bytes()
    touch(tmp_path / "data", "val/cats/other.jpg", "val/dogs/again.jpg", content=image)
    text = "2 of 10 val images are in train as well{}: they do not measure the error."
    data = find(tmp_path / "data")
    example = f", such as {data.directory}/val/cats/other.jpg, which is {data.directory}/train/dogs/7.jpg"
    assert text.format(example) in first_look.notes(data)
    prepare.prepare(data, tmp_path / "prepared", processes=1)
    assert text.format("") in find(tmp_path / "prepared").notes


def test_images_of_one_size_are_compared_as_far_as_the_work_is_bounded(tmp_path, monkeypatch):
    for split, greys in (("train", range(51)), ("val", range(50, 60))):
        for grey in greys:
            path = tmp_path / split / f"{grey % 2}" / f"{grey}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.full((8, 8), grey, "uint8")).save(path)
    for most_read, looked in ((1000, 10), (51 + 3, 3), (51, None)):
        monkeypatch.setattr(first_look, "_MOST_READ", most_read)
        notes = first_look.notes(find(tmp_path))
        assert [note.split(" val images")[0] for note in notes] == ([f"1 of {looked}"] if looked else [])
