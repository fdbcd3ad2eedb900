"""Tests of `features`: activations against a sub-model made by hand, neighbours against brute force."""

import dataclasses
import os
import pathlib
import tracemalloc

import h5py
import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery, input_pipeline, prepare, reading
from alexnet_tf.evaluation import features, retrieval
from alexnet_tf.evaluation.options import FeatureOptions, SimilarOptions
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors
from tests.helpers.networks import SMALL, TINY
from tests.helpers.numpy_network import TINY_GROUPS
from tests.helpers.run_configs import with_precision

IMAGES = 13


@pytest.fixture(autouse=True)
def small_row(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Class folders of PNG images of 256 x 256 pixels, which no resizing changes; one file's name is no UTF-8."""
    root = tmp_path_factory.mktemp("squares")
    for index in range(IMAGES):
        folder = os.path.join(os.fsencode(root), b"train" if index < 9 else b"val", b"ab"[index % 2 :][:1])
        os.makedirs(folder, exist_ok=True)
        rng = np.random.default_rng(index)
        pixels = np.clip(rng.normal(rng.uniform(0, 255, 3), 60, (256, 256, 3)), 0, 255).astype("uint8")
        with open(os.path.join(folder, b"%d \xff.png" % index if index == 4 else b"%d.png" % index), "wb") as file:
            file.write(tf.io.encode_png(pixels).numpy())
    return root


def copy_of(small_run, path):
    """A run like `small_run`, to be changed."""
    arrays, state = small_run.read_checkpoint()
    run = RunDirectory(path)
    run.write_config(small_run.read_config(), small_run.class_names())
    run.write_checkpoint(150, arrays, state, best_step=150)
    return run


def read(path):
    with h5py.File(path) as file:
        arrays = {name: file[name][:] for name in ("features", "labels", "indices")}
        texts = {name: file[name].asstr(errors="surrogateescape")[:].tolist() for name in ("names", "classes")}
        return arrays | texts | dict(file.attrs)


def write(run, output, images=(), **options):
    features.write_features(run, output, FeatureOptions(**options), images)
    return read(output)


def similar(path, images, **options):
    return retrieval.find_similar(path, images, SimilarOptions(**options))


def layer_outputs(run, names, files):
    """What the Keras model computes in some layers, joined, float32 [files, ...]; the crop of 67 pixels by hand."""
    model = load_model(run, precision="float32")[0]
    images = np.stack([np.asarray(PIL.Image.open(path))[94:161, 94:161] for path in files]).astype("float32")
    return np.concatenate([keras.Model(model.input, model.get_layer(name).output)(images) for name in names], axis=-1)


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        ("fc7", ("fc7_a_relu", "fc7_b_relu")),
        ("conv2_pool", ("conv2_a_pool", "conv2_b_pool")),
        ("conv2_b", ("conv2_b",)),
    ],
)
def test_write_features_of_a_layer_are_its_outputs_with_names_and_labels(
    small_run, squares, tmp_path, capsys, layer, parts
):
    file = write(small_run, tmp_path / "out" / "f.h5", layer=layer, data_dir=str(squares), batch_size=4)
    files = sorted(squares.glob("train/*/*.png"))
    expected = layer_outputs(small_run, parts, files)
    assert (expected > 0.1).any() and (expected < 0).any() == (layer == "conv2_b")
    assert file["features"].dtype == "float32" and file["shape"].tolist() == [*expected.shape[1:]]
    np.testing.assert_allclose(file["features"], expected.reshape(9, -1), rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert file["names"] == list(map(str, files)) and any("\udcff" in name for name in file["names"])
    assert file["classes"] == ["a", "b"] and file["labels"].tolist() == [0] * 5 + [1] * 4
    assert (file["layer"], file["checkpoint"], file["epoch"]) == (layer, "last", 30)
    said = capsys.readouterr().out
    size = " x ".join(map(str, expected.shape[1:]))
    assert f"small, last checkpoint, after epoch 30): {' and '.join(parts)}, {size} numbers an image" in said
    assert f"{squares}, train: 9 images\nWrote {tmp_path}/out/f.h5: 9 images, 0." in said
    assert os.listdir(tmp_path / "out") == ["f.h5"]


@pytest.mark.parametrize(
    ("architecture", "meanings"),
    [
        (
            SMALL,
            {
                "conv1": ["conv1_a_relu", "conv1_b_relu"],
                "fc7": ["fc7_a_relu", "fc7_b_relu"],
                "fc8": ["fc8"],
                "conv1_lrn": ["conv1_a_lrn", "conv1_b_lrn"],
                "conv2_a": ["conv2_a"],
            },
        ),
        (
            TINY_GROUPS,
            {"conv1": ["conv1_relu"], "conv2": ["conv2_a_relu", "conv2_b_relu"], "conv2_lrn": ["conv2_lrn"]},
        ),
        (
            dataclasses.replace(
                TINY, stages=(dataclasses.replace(TINY.stages[0], ops=("lrn", "pool")), *TINY.stages[1:])
            ),
            {"conv1": ["conv1_a", "conv1_b"]},
        ),
    ],
    ids=["towers", "groups", "linear"],
)
def test_stage_of_a_name_is_both_towers_after_its_relu(architecture, meanings):
    model = alexnet.build_model(architecture)
    stages = {name: features.stage_of(model, architecture, name) for name in meanings}
    assert {name: [layer.name for layer in stage.layers] for name, stage in stages.items()} == meanings


def test_write_features_are_float32_whatever_the_run_was_trained_in(small_run, squares, tmp_path):
    run = copy_of(small_run, tmp_path / "run")
    run.write_config(with_precision(small_run.read_config(), "mixed_bfloat16"), small_run.class_names())
    mixed = write(run, tmp_path / "f.h5", data_dir=str(squares))
    exact = write(small_run, tmp_path / "f.h5", data_dir=str(squares))
    np.testing.assert_allclose(mixed["features"], exact["features"], rtol=1e-5, atol=1e-5)
    assert similar(tmp_path / "f.h5", [exact["names"][0]], workdir=str(run))[0].neighbours[0].distance < 1e-4


def test_write_features_skips_bad_images_and_keeps_names_beside_their_rows(
    small_run, squares, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(squares)
    good = sorted(map(str, pathlib.Path().glob("*/*/*.png")))
    (tmp_path / "cut.png").write_bytes(pathlib.Path(good[0]).read_bytes()[:9000])
    images = (good[0], str(tmp_path / "cut.png"), *good[1:6], "/nowhere.png", *good[6:])
    output = tmp_path / "out" / "f.h5"
    with pytest.raises(errors.DataError, match="cannot be read: .*cut.png: the image data is cut short"):
        write(small_run, output, images=images, batch_size=3)
    assert os.listdir(output.parent) == []
    skipped, said = write(small_run, output, images=images, batch_size=3, on_bad_image="skip"), capsys.readouterr().out
    assert "Skipped: /nowhere.png: No such file" in said and "13 images (2 left out)" in said
    whole = write(small_run, output, images=tuple(good))
    assert skipped["names"] == [str(squares / each) for each in good] and skipped["labels"].tolist() == [-1] * IMAGES
    assert skipped["indices"].tolist() == [0, *range(2, 7), *range(8, 15)]
    np.testing.assert_allclose(skipped["features"], whole["features"], rtol=1e-5, atol=1e-5)
    with pytest.raises(errors.UserError, match="None of the images could be read"):
        write(small_run, output, images=("/nowhere.png",), on_bad_image="skip")


@pytest.mark.parametrize(
    ("request_", "output", "message"),
    [
        (
            {"layer": "fc9"},
            "f.h5",
            "small has no layer 'fc9'. Stages, after ReLU: conv1, conv2, fc6, fc7, fc8. Single steps, .*conv1_a_lrn",
        ),
        ({"split": "test"}, "f.h5", "--split=test is not in .*; there: train, val"),
        ({"data_dir": "/nowhere", "images": ("a.jpg",)}, "f.h5", "Give either image files, or --data_dir"),
        ({}, "f.npy", "--output must end in .h5, such as f.h5; got f.npy"),
    ],
)
def test_write_features_says_what_is_wrong_and_writes_nothing(
    small_run, tmp_path, monkeypatch, request_, output, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match=message):
        write(small_run, output, **request_)
    assert os.listdir(tmp_path) == []


def test_write_features_asks_for_the_room_before_it_begins(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100 * 16 * 4 - 1}))
    monkeypatch.setattr(input_pipeline, "evaluation_crops", None)
    with pytest.raises(errors.UserError, match="needs 0.0 GB, and 0.0 GB are free"):
        write(small_run, tmp_path / "f.h5")


def test_write_features_refuses_values_that_are_no_numbers(small_run, squares, tmp_path):
    run = copy_of(small_run, tmp_path / "run")
    arrays, state = run.read_checkpoint()
    arrays["fc8/bias"][3] = np.nan  # ReLU would make it zero.
    run.write_checkpoint(151, arrays, state)
    with pytest.raises(errors.UserError, match="not finite: the run has diverged"):
        write(run, tmp_path / "f.h5", layer="fc8", data_dir=str(squares))
    assert os.listdir(tmp_path) == ["run"]


def test_write_features_needs_the_memory_of_a_few_batches(small_run, tmp_path, monkeypatch):
    # Eight blocks of 32 files of 10 kB may be read ahead otherwise, 2.5 MB, or only one: as threads happen to run.
    monkeypatch.setattr(reading, "PARALLEL_BLOCKS", 1)
    # conv1 has 1,800 numbers: 100 images ten times are 7 MB, and a batch of 10 is 72 kB.
    paths = discovery.find_dataset(small_run.read_config().data.directory).splits["train"].paths
    images = tuple(sorted(map(str, paths))) * 10

    def peak(images):
        tracemalloc.start()
        try:
            options = FeatureOptions(layer="conv1", batch_size=10)
            features.write_features(small_run, tmp_path / "f.h5", options, images)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert abs(peak(images) - peak(images[:100])) < 1e6


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
@pytest.mark.parametrize("top", [1, 6, 300])
def test_nearest_is_brute_force(monkeypatch, rows, top):
    monkeypatch.setattr(retrieval, "_BLOCK_VALUES", 9 * rows)
    rng = np.random.default_rng(0)
    matrix, queries = rng.normal(size=(203, 9)).astype("float32"), rng.normal(size=(4, 9)).astype("float32")
    distances = np.array(
        [[sum((float(a) - float(b)) ** 2 for a, b in zip(x, q)) ** 0.5 for x in matrix] for q in queries]
    )
    order = np.argsort(distances, axis=1)[:, :top]
    places, found = retrieval.nearest(matrix, queries, top)
    np.testing.assert_array_equal(places, order)
    np.testing.assert_allclose(found, np.take_along_axis(distances, order, axis=1), rtol=1e-12, atol=0)


def test_nearest_of_equally_distant_rows_is_the_first(monkeypatch):
    matrix = np.array([[2], [1], [-1], [1], [0], [-1]], "float32")
    for rows in (1, 4, 6):
        monkeypatch.setattr(retrieval, "_BLOCK_VALUES", rows)
        assert retrieval.nearest(matrix, np.zeros((1, 1), "float32"), 4)[0].tolist() == [[4, 1, 2, 3]]


def test_nearest_tells_apart_what_differs_in_the_last_bits():
    matrix = np.full((5, 4), 1e4, "float32")
    matrix[:, 0] += np.float32(2**-8) * np.array([3, 1, 4, 2, 5], "float32")
    places, distances = retrieval.nearest(matrix, np.full((1, 4), 1e4, "float32"), 5)
    assert places.tolist() == [[1, 3, 0, 2, 4]]
    np.testing.assert_allclose(distances[0], np.arange(1, 6) / 256, rtol=1e-3, atol=0)


def test_find_similar_finds_the_colour_and_the_image_itself(small_run, colours, tmp_path):
    # Behind ReLU, this network makes red and white all zeros.
    write(small_run, tmp_path / "f.h5", layer="conv1_a")
    queries = [str(colours / "val" / "blue" / "3.png"), str(colours / "train" / "red" / "7.png"), "/nowhere.png"]
    answers = similar(tmp_path / "f.h5", queries, top=101)
    assert [answer.file for answer in answers] == queries
    assert answers[2].error == "No such file or directory" and not answers[2].neighbours
    blue, red = (answer.neighbours for answer in answers[:2])
    assert len(blue) == len(red) == 100  # All there are.
    assert {each.class_name for each in blue[:15]} == {"blue"} and f"{os.sep}blue{os.sep}" in blue[0].file
    assert red[0] == retrieval.Neighbour(queries[1], "red", pytest.approx(0, abs=1e-4))


def test_find_similar_needs_the_run_that_made_the_file(small_run, colours, tmp_path):
    query, run = str(colours / "val" / "red" / "1.png"), copy_of(small_run, tmp_path / "run")
    for which in ("last", "best"):
        write(run, tmp_path / f"{which}.h5", checkpoint=which)
    arrays, state = run.read_checkpoint()
    arrays["conv1_a/bias"] = arrays["conv1_a/bias"] + np.float32(1e-3)
    run.write_checkpoint(151, arrays, state | {"epoch": 31}, best_step=150)
    with pytest.raises(
        errors.UserError,
        match=r"other weights than those of .*run now: last checkpoint, after epoch 30 then and 31 now",
    ):
        similar(tmp_path / "last.h5", [query])
    assert len(similar(tmp_path / "best.h5", [query])[0].neighbours) == 6  # The best is what it was.
    assert len(similar(tmp_path / "last.h5", [query], workdir=str(small_run))[0].neighbours) == 6
    os.rename(run.path, tmp_path / "moved")
    with pytest.raises(errors.UserError, match="There is no run in "):
        similar(tmp_path / "best.h5", [query])
    assert similar(tmp_path / "best.h5", [query], workdir=str(tmp_path / "moved"))


def no_layer(path):
    with h5py.File(path, "a") as file:
        del file.attrs["layer"]


def flip(path):
    values = read(path)["features"][:32, :8].tobytes()[:16]  # A row of the first chunk.
    content = bytearray(path.read_bytes())
    content[content.index(values)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"no HDF5" * 999), "file signature not found"),
        (no_layer, "attribute"),
        (flip, "filter returned failure"),
    ],
    ids=["text", "no layer", "a bit"],
)
def test_find_similar_refuses_a_damaged_file_in_a_line(small_run, colours, tmp_path, damage, message):
    write(small_run, tmp_path / "f.h5")
    damage(tmp_path / "f.h5")
    with pytest.raises(errors.UserError, match=f"it is damaged, or `features` did not write it .*{message}") as caught:
        similar(tmp_path / "f.h5", [str(colours / "val" / "red" / "1.png")])
    assert "\n" not in str(caught.value)


def picture(path):
    return np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)


# Where the query and three neighbours begin in a grid, in pixels; the query stands apart.
TILES = (10, 293, 552, 812)


def test_find_similar_draws_a_row_for_each_readable_query(small_run, squares, tmp_path, capsys):
    write(small_run, tmp_path / "f.h5", layer="conv1_a", data_dir=str(squares))
    queries = ["/nowhere.png", *(str(squares / "val" / name) for name in ("a/10.png", "b/11.png"))]
    answers = similar(tmp_path / "f.h5", queries, top=3, grid=str(tmp_path / "g.jpg"))
    drawn = picture(tmp_path / "g.jpg")
    assert drawn.shape == (651, 1065, 3) and not capsys.readouterr().err
    for row, answer in enumerate(answers[1:]):
        for column, file in enumerate([answer.file, *(each.file for each in answer.neighbours)]):
            expected = np.asarray(PIL.Image.open(file)).mean((0, 1))  # Each has a colour of its own.
            left = TILES[column] + 100
            tile = drawn[325 * row + 150 : 325 * row + 200, left : left + 50].mean((0, 1))
            np.testing.assert_allclose(tile, expected, rtol=0, atol=12, err_msg=f"{row} {column}")


def test_find_similar_leaves_a_place_empty_for_an_image_that_is_gone(small_run, squares, tmp_path, capsys):
    images = [squares / "val" / "a" / "10.png", tmp_path / "a $\udcff, 猫.png", squares / "train" / "a" / "0.png"]
    images[1].write_bytes((squares / "val" / "b" / "9.png").read_bytes())
    write(small_run, tmp_path / "f.h5", images=tuple(map(str, images)))
    similar(tmp_path / "f.h5", [str(images[0])], grid=str(tmp_path / "there.png"))
    assert capsys.readouterr().err.replace("No installed font has 猫", "").count("\n") <= 1
    images[1].unlink()
    [answer] = similar(tmp_path / "f.h5", [str(images[0])], grid=str(tmp_path / "gone.png"))
    column = 1 + [each.file for each in answer.neighbours].index(str(images[1]))
    said = capsys.readouterr().err
    assert said.count("Not shown: ") == 1 and "No such file" in said

    def tile(name):
        return picture(tmp_path / name)[70:280, TILES[column] + 10 : TILES[column] + 220]

    assert tile("there.png").std() > 20 and tile("gone.png").mean() > 230


@pytest.mark.parametrize("kind", ["folders", "records"])
def test_find_similar_finds_images_that_moved_and_images_in_records(small_run, squares, tmp_path, capsys, kind):
    source, query = tmp_path / "set", str(squares / "val" / "a" / "10.png")
    if kind == "records":
        prepare.prepare(discovery.find_dataset(str(squares)), source)
    else:
        for path in squares.glob("*/*/*.png"):
            copy = source / path.relative_to(squares)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    file = write(small_run, tmp_path / "f.h5", data_dir=str(source))
    assert ("the record at byte" in file["names"][0]) == (kind == "records")
    similar(tmp_path / "f.h5", [query], grid=str(tmp_path / "g.png"))
    source.rename(tmp_path / "moved")
    capsys.readouterr()
    similar(tmp_path / "f.h5", [query], grid=str(tmp_path / "moved.png"), data_dir=str(tmp_path / "moved"))
    assert not capsys.readouterr().err
    np.testing.assert_array_equal(picture(tmp_path / "g.png"), picture(tmp_path / "moved.png"))
    assert (picture(tmp_path / "g.png").std((0, 2)) > 15).mean() > 0.8
    with pytest.raises(errors.UserError, match="does not exist"):
        similar(tmp_path / "f.h5", [query], grid=str(tmp_path / "gone.png"))
    other = squares if kind == "records" else small_run.read_config().data.directory
    with pytest.raises(errors.UserError, match="does not hold the images that the features are of"):
        similar(tmp_path / "f.h5", [query], grid=str(tmp_path / "g.png"), data_dir=str(other))


def test_find_similar_refuses_a_grid_of_gigabytes_before_it_begins():
    with pytest.raises(errors.UserError, match="--grid draws at most 400 images; got 58 rows of 7"):
        similar("/nowhere.h5", ["a.png"] * 58, grid="g.png")
