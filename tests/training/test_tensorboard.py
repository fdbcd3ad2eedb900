"""Tests of `tensorboard`: what lies where in the pictures of a run, and what TensorBoard reads back."""

import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import plotting
from alexnet_tf.training import tensorboard


def two_towers(filters=16):
    """Returns a network of two towers and two kernels that can be told apart: a's first pixel is red, b's is blue."""
    inputs = keras.Input((16, 16, 3))
    towers = [keras.layers.Conv2D(filters, 3, name=f"conv1_{tower}")(inputs) for tower in "ab"]
    x = keras.layers.Concatenate()(towers)
    x = keras.layers.Conv2D(4, 1, name="conv2")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="fc8")(keras.layers.GlobalAveragePooling2D()(x)))
    for tower, channel in (("a", 0), ("b", 2)):
        kernel = np.zeros((3, 3, 3, filters), "float32")
        kernel[0, 0, channel] = np.arange(1, filters + 1)
        model.get_layer(f"conv1_{tower}").set_weights([kernel, np.zeros(filters)])
    return model


@pytest.mark.parametrize("classes", [2, 5, 21])
def test_confusion_picture_shows_where_the_mistakes_are(classes):
    names = [f"class {i}" for i in range(classes)]
    right = tensorboard.confusion_picture(np.eye(classes, dtype="int64") * 9, names)
    wrong = tensorboard.confusion_picture(np.roll(np.eye(classes, dtype="int64") * 9, 1, axis=1), names)
    assert right.dtype == np.uint8 and right.ndim == 3 and right.shape[2] == 3
    assert min(right.shape[:2]) > 200 and right.shape == wrong.shape
    assert (right != wrong).any()


def test_confusion_picture_has_labels_as_rows():
    confusion = np.zeros((3, 3), "int64")
    confusion[0, 2] = 5
    picture = tensorboard.confusion_picture(confusion, ["a", "b", "c"]).astype(int)
    dark = np.argwhere((picture[..., 2] - picture[..., 0] > 60))  # The one dark blue cell: above, on the right.
    y, x = dark.mean(axis=0)
    assert y < 0.4 * picture.shape[0] and x > 0.6 * picture.shape[1]


ROW = {
    "epoch": 3,
    "step": 40,
    "train_loss": 1.5,
    "val_loss": 1.75,
    "val_top1_error": 0.25,
    "val_top5_error": None,
    "images_per_second": 33.5,
    "learning_rate": 0.01,
}


def events(directory):
    from tensorboard.backend.event_processing import event_accumulator

    accumulator = event_accumulator.EventAccumulator(str(directory), size_guidance={"tensors": 0, "images": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def pixels(path):
    return np.asarray(PIL.Image.open(path))


def test_log_writes_pictures_and_scalars_that_tensorboard_reads(tmp_path):
    model, confusion = two_towers(), np.array([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
    log = tensorboard.Log(RunDirectory(tmp_path), ["a", "b", "c"])
    images = np.random.default_rng(0).uniform(-40, 300, (40, 20, 20, 3)).astype("float32")
    log.input_pictures(tf.constant(images))
    log.epoch(ROW, 0.125, model, confusion)

    shown = np.clip(np.round(images[:32]), 0, 255).astype("uint8")
    subtitle = "Kernels of conv1: tower a above, tower b below"
    expected = {
        "input": plotting.grid(shown, 8, 2),
        "kernels": tensorboard.kernels_page(
            plotting.first_kernels(model), None, f"{tmp_path.name}, after epoch 3", subtitle
        ),
        "confusion": tensorboard.confusion_picture(
            confusion, ["a", "b", "c"], "Validation after epoch 3: top-1 error 0.2500"
        ),
    }
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"{n}.png" for n in sorted(expected)]
    train, validation = (events(tmp_path / "tensorboard" / name) for name in ("train", "validation"))
    for name, picture in expected.items():
        np.testing.assert_array_equal(pixels(tmp_path / "pictures" / f"{name}.png"), picture)
        [(step, (_, _, png))] = train.pop(name)
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(png))), picture)
        assert step == (0 if name == "input" else 40)
    for written, scalars in (
        (train, {"images_per_second": 33.5, "input_wait_share": 0.125}),
        (validation, {"loss": 1.75, "top1_error": 0.25}),
    ):
        assert set(written) == set(scalars)  # Nothing that was not measured.
        for name, value in scalars.items():
            [(step, got)] = written[name]
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=0)
            assert step == 40


def test_log_draws_training_and_validation_in_one_chart_with_points_within_an_epoch(tmp_path):
    log, rate = tensorboard.Log(RunDirectory(tmp_path), ["a", "b", "c"], steps_per_epoch=40), tf.Variable(0.5)
    for step in range(1, 6):
        log.step(step, loss=float(step), error=step / 10, learning_rate=rate)
    log.epoch(ROW, 0.0, two_towers(), np.eye(3, dtype="int64"))
    train, validation = (events(tmp_path / "tensorboard" / name) for name in ("train", "validation"))
    assert {"loss", "top1_error"} <= set(train) & set(validation)
    assert [(step, float(value)) for step, value in train["loss"]] == [(2, 1.5), (4, 3.5)]  # Means of two steps.
    np.testing.assert_allclose([value for _, value in train["top1_error"]], [0.15, 0.35], rtol=1e-6, atol=0)
    assert [float(value) for _, value in train["learning_rate"]] == [0.5, 0.5]


def test_log_keeps_each_epochs_scalars_and_the_latest_pictures(tmp_path):
    log, model = tensorboard.Log(RunDirectory(tmp_path), ["a", "b", "c"]), two_towers()
    for epoch in (1, 2):
        row = {**ROW, "epoch": epoch, "step": 10 * epoch, "val_loss": 1 / epoch}
        log.epoch(row, 0.0, model, np.eye(3, dtype="int64") * epoch)
    losses = events(tmp_path / "tensorboard" / "validation")["loss"]
    assert [(step, float(value)) for step, value in losses] == [(10, 1), (20, 0.5)]
    title = "Validation after epoch 2: top-1 error 0.2500"
    np.testing.assert_array_equal(
        pixels(tmp_path / "pictures" / "confusion.png"),
        tensorboard.confusion_picture(np.eye(3, dtype="int64") * 2, ["a", "b", "c"], title),
    )


def test_log_draws_the_change_of_the_kernels_since_the_start(tmp_path):
    log, model = tensorboard.Log(RunDirectory(tmp_path), ["a", "b", "c"]), two_towers()
    log.start(model)
    before = plotting.first_kernels(model)
    model.get_layer("conv1_a").set_weights([before[..., :16] * 1.5, np.zeros(16)])
    tensorboard.Log(RunDirectory(tmp_path), ["a", "b", "c"]).epoch(ROW, 0.0, model, np.eye(3, dtype="int64"))
    drawn = pixels(tmp_path / "pictures" / "kernels.png")
    subtitle = "Kernels of conv1: tower a above, tower b below"
    np.testing.assert_array_equal(
        drawn,
        tensorboard.kernels_page(plotting.first_kernels(model), before, f"{tmp_path.name}, after epoch 3", subtitle),
    )
    assert drawn.shape[1] == 1800  # Two panels.


def test_a_character_that_no_typeface_has_is_a_box_without_a_warning():
    tensorboard.confusion_picture(np.eye(2, dtype="int64"), ["\u732b", "b"])


def test_confusion_picture_of_a_class_whose_name_is_no_unicode_is_drawn():
    escaped = tensorboard.confusion_picture(np.eye(2, dtype="int64"), ["a \\udcff", "$b"])
    np.testing.assert_array_equal(tensorboard.confusion_picture(np.eye(2, dtype="int64"), ["a \udcff", "$b"]), escaped)


def test_log_leaves_out_a_confusion_matrix_that_is_not_legible(tmp_path):
    classes = tensorboard.MAX_CONFUSION_CLASSES + 1
    log = tensorboard.Log(RunDirectory(tmp_path), [str(i) for i in range(classes)])
    log.epoch(ROW, 0.0, two_towers(), np.eye(classes, dtype="int64"))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["kernels.png"]
