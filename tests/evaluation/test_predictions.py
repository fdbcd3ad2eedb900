"""Tests of `predictions`: which files are meant, that batches change nothing, and what the lines hold."""

import csv
import io
import json
import os

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import input_pipeline
from alexnet_tf.evaluation import predictions
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
    return list(predictions.expand([str(each) for each in arguments], lines))


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

    assert next(iter(predictions.expand(["-"], lines()))) == "a.jpg"


def mean_colour(images):
    """Stands for a network: the mean of each colour over all crops."""
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("ten_crop", [False, True])
def test_compute_in_batches_equals_one_image_at_a_time(photos, batch_size, ten_crop):
    files = [*expand(photos), str(photos / "absent.jpg")]
    crops = predictions.crops_of(files, 64, "paper", ten_crop=ten_crop, ahead=2 * batch_size)
    results = list(predictions.compute(mean_colour, crops, batch_size))
    assert [file for file, _ in results] == files
    problems = {os.path.basename(file): result for file, result in results if isinstance(result, str)}
    for file, result in results:
        if os.path.basename(file) not in problems:
            crops = input_pipeline.evaluation_crops(tf.constant(predictions.read(file)), 64, "paper", ten_crop)
            np.testing.assert_allclose(result, mean_colour(crops[None])[0], rtol=1e-6, atol=0)
    assert problems.pop("broken.jpg")
    assert problems == {"empty.png": "the file is empty", "absent.jpg": "No such file or directory"}


def test_crops_of_asks_for_few_paths_ahead():
    asked = []

    def paths():
        for index in range(1000):
            asked.append(index)
            yield f"/nowhere/{index}.jpg"

    next(predictions.compute(mean_colour, predictions.crops_of(paths(), 64, "paper", ahead=16), 8))
    assert len(asked) <= 40


NAMES = ["a", "b, with a comma", 'c "quoted"', "d", "e", "f", "花"]


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_most_probable_orders_by_probability_and_ties_by_class():
    probabilities = np.array([[0.1, 0.4, 0.1, 0.4], [0.7, 0.1, 0.1, 0.1]], "float32")
    classes, values = predictions.most_probable(np.log(probabilities), 3)
    np.testing.assert_array_equal(classes, [[1, 3, 0], [0, 1, 2]])
    np.testing.assert_allclose(values, [[0.4, 0.4, 0.1], [0.7, 0.1, 0.1]], rtol=1e-6, atol=0)


def test_csv_of_a_split_has_every_image_with_its_label_and_five_best_classes(tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), 5).astype("float32")
    labels = np.array([6, 1, 2, 0, 6], "int32")
    batches = [
        (labels[some], *predictions.most_probable(np.log(probabilities[some]))) for some in (slice(3), slice(3, 5))
    ]
    files = ["x, y.jpg", "\udcff.jpg", "3.jpg", "4.jpg", "5.jpg"]
    predictions.write_csv_file(tmp_path / "p.csv", predictions.of_split(batches, files, NAMES))
    lines = read(tmp_path / "p.csv")
    assert [line["image"] for line in lines] == files
    assert [line["label"] for line in lines] == [NAMES[label] for label in labels]
    for line, row in zip(lines, probabilities):
        expected = sorted(range(7), key=lambda index: -row[index])[:5]
        assert [line["predicted"], *(line[f"class_{place}"] for place in range(2, 6))] == [NAMES[i] for i in expected]
        assert float(line["probability"]) == pytest.approx(row[expected[0]], abs=1e-6)
        assert float(line["probability_5"]) == pytest.approx(row[expected[4]], abs=1e-6)


def test_csv_has_the_same_columns_for_a_split_and_for_files():
    text = io.StringIO()
    ranked = [("b", 0.75), ("a", 0.25)]
    of_split = predictions.Prediction("1.jpg", ranked, label="a")
    predictions.write_csv(text, [of_split, predictions.Prediction("2.jpg", error="gone")], top=3)
    assert text.getvalue() == (
        "image,label,predicted,probability,class_2,probability_2,class_3,probability_3,error\n"
        "1.jpg,a,b,0.750000,a,0.250000,,,\n2.jpg,,,,,,,,gone\n"
    )


def test_a_line_of_text_and_one_of_json():
    seen = predictions.Prediction("a\n.jpg", [("b", 0.75)])
    bad = predictions.Prediction("2.jpg", error="gone")
    assert (seen.as_text(), bad.as_text()) == ("a\\n.jpg:\n   0.7500  b", "2.jpg: not read: gone")
    assert json.loads(seen.as_json()) == {"file": "a\n.jpg", "classes": [{"name": "b", "probability": 0.75}]}
    assert json.loads(bad.as_json()) == {"file": "2.jpg", "error": "gone"}


def test_write_csv_file_writes_whole_or_not_at_all(tmp_path):
    def lines():
        yield predictions.Prediction("1")
        raise errors.UserError("stopped")

    (tmp_path / "p.csv").write_text("before")
    with pytest.raises(errors.UserError, match="stopped"):
        predictions.write_csv_file(tmp_path / "p.csv", lines())
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "before"
