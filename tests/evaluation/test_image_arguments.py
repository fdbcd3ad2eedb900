"""Tests of `image_arguments` and `classification`: which files are meant, and that batches change nothing."""

import io
import os

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import input_pipeline
from alexnet_tf.evaluation import classification, image_arguments
from alexnet_tf.support import errors


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty images of several sizes in nested folders, two that cannot be read, and notes."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(20):
        folder = root / ("deep/er" if index % 3 else "")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (70 + index, 90, 3), "uint8")
        PIL.Image.fromarray(pixels).save(folder / f"{index:02}.{('png', 'jpg', 'bmp')[index % 3]}")
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (root / "empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("notes")
    (root / ".hidden").mkdir()
    return root


def expand(*arguments, lines=()):
    return list(image_arguments.expand([str(each) for each in arguments], lines))


def test_a_folder_means_its_images_at_any_depth_of_every_known_format(photos):
    files = [os.path.relpath(each, photos) for each in expand(photos)]
    assert len(files) == 22 and files == sorted(files) and "deep/er/02.bmp" in files and "notes.txt" not in files


def test_globs_files_and_standard_input_keep_their_order(photos):
    lines = io.StringIO(f"{photos}/b name.jpg\n\n{photos}/notes.txt\r\n")
    assert expand(photos / "*.png", "-", photos / "absent.jpg", lines=lines) == [
        *(str(photos / name) for name in sorted(os.listdir(photos)) if name.endswith(".png")),
        f"{photos}/b name.jpg",
        f"{photos}/notes.txt",
        f"{photos}/absent.jpg",
    ]
    assert len(expand(photos / "**" / "*.jpg")) == 8
    with pytest.raises(errors.UserError, match="matches no file"):
        expand(photos / "*.tiff")


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"")
    assert expand(tmp_path / "a[1].jpg") == [str(tmp_path / "a[1].jpg")]


def test_a_folder_without_images_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(errors.UserError, match=r"has no images. There: notes.txt"):
        expand(tmp_path)


def test_standard_input_is_read_as_it_is_needed():
    def lines():
        yield "a.jpg\n"
        raise AssertionError("read too early")

    assert next(iter(image_arguments.expand(["-"], lines()))) == "a.jpg"


def predict(images):
    """Stands for a network: the mean of each colour over all crops."""
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("ten_crop", [False, True])
def test_classify_in_batches_equals_one_image_at_a_time(photos, batch_size, ten_crop):
    files = [*expand(photos), str(photos / "absent.jpg")]
    results = list(
        classification.classify(predict, files, image_size=64, resize="paper", ten_crop=ten_crop, batch_size=batch_size)
    )
    assert [each.file for each in results] == files
    for each in results:
        name = os.path.basename(each.file)
        if name in ("broken.jpg", "empty.png", "absent.jpg"):
            assert each.log_probabilities is None and each.error
            continue
        crops = input_pipeline.evaluation_crops(tf.constant(image_arguments.read(each.file)), 64, "paper", ten_crop)
        np.testing.assert_allclose(each.log_probabilities, predict(crops[None])[0], rtol=1e-6, atol=0)
    errors_of = {os.path.basename(each.file): each.error for each in results if each.error}
    assert errors_of.pop("broken.jpg")
    assert errors_of == {"empty.png": "the file is empty", "absent.jpg": "No such file or directory"}


def test_classify_asks_for_few_paths_ahead():
    asked = []

    def paths():
        for index in range(1000):
            asked.append(index)
            yield f"/nowhere/{index}.jpg"

    next(classification.classify(predict, paths(), image_size=64, resize="paper", batch_size=8))
    assert len(asked) <= 40
