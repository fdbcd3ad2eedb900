import dataclasses
import functools

import numpy as np
import pytest

from alexnet_tf.experiments import cifar
from alexnet_tf.experiments.catalogue import Options
from alexnet_tf.experiments.cifar import Curve, Variant
from alexnet_tf.network.architectures import Architecture, Init, Stage
from alexnet_tf.network.recipes import Recipe
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from tests.helpers import files
from tests.helpers.cifar import synthetic

SMALL = Architecture(
    "small",
    "the test",
    24,
    scale=(1 / 58,) * 3,
    recipe=Recipe(batch_size=16, learning_rate=0.02, weight_decay=0.0, schedule="constant", colour_noise=False),
    stages=(
        Stage("conv1", 4, 5, 4, kernel=Init("normal_fan_in", 1.4)),
        Stage("fc2", 10, ops=(), kernel=Init("normal", 0.01)),
    ),
)


def small(name="one", decays=(), image_size=24, **recipe):
    """Returns SMALL with changes of its recipe."""
    recipe = dataclasses.replace(SMALL.recipe, **recipe)
    return Variant(name, dataclasses.replace(SMALL, image_size=image_size, recipe=recipe), layer_decays=decays)


@pytest.fixture(scope="module")
def images():
    return synthetic(train=64, test=20)


@pytest.fixture
def train(images, tmp_path):
    """Trains on these images in a directory of the test's."""
    return functools.partial(cifar.train, images=images, directory=tmp_path, precision="float32")


def test_learns_and_measures(train):
    curve = train(small(), 0, 6, test_every=3)
    assert curve.error_after(6) < 0.6 < curve.history[0]["train_top1_error"]
    assert [row["val_top1_error"] is not None for row in curve.history] == [False, False, True] * 2


@pytest.mark.parametrize("noise", [False, True])
def test_resumed_training_ends_as_one_in_one_go(train, tmp_path, noise):
    def found(curve):
        return [[row[name] for name in ("train_errors", "val_top1_error")] for row in curve.history]

    variant = small(colour_noise=noise)
    whole = train(variant, 3, 3, directory=tmp_path / "whole")
    train(variant, 3, 1)
    parts = train(variant, 3, 3)
    assert found(parts) == found(whole)
    assert parts.history[2]["train_loss"] == pytest.approx(whole.history[2]["train_loss"], rel=1e-5)
    assert train(variant, 3, 3) == parts


def test_another_training_in_the_same_directory_is_refused(train):
    train(small(), 0, 1)
    with pytest.raises(errors.RunError, match="other settings"):
        train(small(learning_rate=0.1), 0, 1)


def test_stops_below_an_error_and_at_a_loss_that_is_not_finite(train):
    assert len(train(small(), 0, 9, stop_below=1.0).history) == 1
    curve = train(small("wild", learning_rate=1e30), 0, 9)
    assert curve.has_diverged and not curve.history and curve.error_after(9) == 1.0
    assert train(small("wild", learning_rate=1e30), 0, 9) == curve


def test_layer_decays_shrink_that_layer_only(train, tmp_path):
    for name, decays in ("with", (("fc2", 1e7),)), ("without", ()):
        train(small(name, decays, learning_rate=1e-9, momentum=0.0), 0, 1)
    found, plain = (RunDirectory(tmp_path / f"{name}-seed0").read_checkpoint()[0] for name in ("with", "without"))
    np.testing.assert_allclose(found["fc2/kernel"], plain["fc2/kernel"] * 0.99**4, rtol=1e-3)
    np.testing.assert_allclose(found["conv1/kernel"], plain["conv1/kernel"], rtol=1e-5)


def test_time_to_an_error_is_between_the_points_beside_it():
    curve = Curve([{"train_errors": [0.9, 0.8, 0.7, 0.6]}, {"train_errors": [0.5, 0.4, 0.3, 0.2]}])
    assert [curve.epochs_to(error) for error in (0.25, 0.95, 0.1)] == [pytest.approx(1.75), 0.125, None]


def test_an_epoch_is_a_permutation_and_the_same_for_the_same_seed(images):
    def epoch(seed, number):
        architecture = small(image_size=32, batch_size=8).architecture
        return np.concatenate([labels for _, labels in cifar.train_batches(images, architecture, seed, number)])

    first = epoch(1, 0)
    np.testing.assert_array_equal(np.sort(first), np.sort(images.train.labels))
    np.testing.assert_array_equal(first, epoch(1, 0))
    assert any((first != epoch(seed, number)).any() for seed, number in ((2, 0), (1, 1)))


def test_windows_are_parts_of_their_images_or_mirrored(images):
    marked = np.arange(64 * 32 * 32 * 3).reshape(64, 32, 32, 3).astype("int32")
    images = dataclasses.replace(images, train=cifar.Split(marked, images.train.labels))
    mirrored, starts = [], set()
    for window in np.concatenate([windows for windows, _ in cifar.train_batches(images, SMALL, 0, 0)]):
        mirrored.append(window[0, 0, 0] > window[0, -1, 0])
        window = window[:, ::-1] if mirrored[-1] else window
        number, top, left, _ = np.unravel_index(window[0, 0, 0], marked.shape)
        starts.add((top, left))
        np.testing.assert_array_equal(window, marked[number, top : top + 24, left : left + 24])
    assert len(mirrored) == 64 and 16 < sum(mirrored) < 48 and len(starts) > 20
    assert {max(axis) for axis in zip(*starts)} == {8}


def test_views_are_the_authors_nine(images):
    def views(size):
        batches = list(cifar.evaluation_batches(images.test, size, 8))
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), images.test.labels)
        return np.concatenate([views for views, _ in batches])

    assert views(24).shape == (20, 9, 24, 24, 3)
    for view, (top, left) in {0: (0, 0), 4: (4, 4), 5: (4, 8)}.items():
        np.testing.assert_array_equal(views(24)[:, view], images.test.images[:, top : top + 24, left : left + 24])
    np.testing.assert_array_equal(views(32)[:, 0], images.test.images)


def test_mean_image_is_that_of_the_windows_centre(images):
    mean = images.mean_image(24)
    np.testing.assert_allclose(mean, images.train.images[:, 4:28, 4:28].astype("float64").mean(axis=0), rtol=1e-6)


def test_load_refuses_images_of_another_size_and_other_numbers_of_classes(tmp_path):
    names = [f"class{number}" for number in range(10)]
    files.write_folders(tmp_path, names, train=2, test=1)
    with pytest.raises(errors.DataError, match="images of 32 x 32 pixels"):
        cifar.load(Options(data_dir=str(tmp_path)))
    files.write_folders(tmp_path / "nine", names[:9], train=2, test=1)
    with pytest.raises(errors.DataError, match="ten classes apart; .* has 9"):
        cifar.load(Options(data_dir=str(tmp_path / "nine")))
    with pytest.raises(errors.DataError, match="needs CIFAR-10: --data_dir"):
        cifar.load(Options())
