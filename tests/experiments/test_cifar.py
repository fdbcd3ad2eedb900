import dataclasses

import numpy as np
import pytest

from alexnet_tf.experiments import cifar
from alexnet_tf.experiments.catalogue import Options
from alexnet_tf.experiments.cifar import Curve, Epoch, Trial
from alexnet_tf.network.architectures import Architecture, Init, Stage
from alexnet_tf.network.recipes import Recipe
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from tests.helpers import files
from tests.helpers.cifar import synthetic

RECIPE = Recipe(batch_size=16, learning_rate=0.02, weight_decay=0.0, schedule="constant", colour_noise=False)
SMALL = Architecture(
    "small",
    "the test",
    24,
    scale=(1 / 58,) * 3,
    recipe=RECIPE,
    stages=(
        Stage("conv1", 4, 5, 4, kernel=Init("normal_fan_in", 1.4)),
        Stage("fc2", 10, ops=(), kernel=Init("normal", 0.01)),
    ),
)


@pytest.fixture(scope="module")
def images():
    return synthetic(train=64, test=20)


def test_learns_and_measures(images, tmp_path):
    curve = cifar.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 6, test_every=3)
    assert curve.error < 0.6 < np.mean(curve.epochs[0].train_errors)
    assert [epoch.test_error is not None for epoch in curve.epochs] == [False, False, True] * 2


@pytest.mark.parametrize("noise", [False, True])
def test_resumed_trial_ends_as_one_in_one_go(images, tmp_path, noise):
    trial = Trial("one", SMALL, dataclasses.replace(RECIPE, colour_noise=noise), seed=3)
    whole = cifar.run_trial(trial, images, tmp_path / "whole", 3)
    cifar.run_trial(trial, images, tmp_path / "parts", 1)
    parts = cifar.run_trial(trial, images, tmp_path / "parts", 3)
    assert [epoch.train_errors for epoch in parts.epochs] == [epoch.train_errors for epoch in whole.epochs]
    assert parts.epochs[2].train_loss == pytest.approx(whole.epochs[2].train_loss, rel=1e-5)
    assert [epoch.test_error for epoch in parts.epochs] == [epoch.test_error for epoch in whole.epochs]
    assert cifar.run_trial(trial, images, tmp_path / "parts", 3) == parts


def test_another_trial_in_the_same_directory_is_refused(images, tmp_path):
    cifar.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 1)
    with pytest.raises(errors.RunError, match="other settings"):
        cifar.run_trial(Trial("one", SMALL, RECIPE, seed=1), images, tmp_path, 1)


def test_stops_below_an_error_and_at_a_loss_that_is_not_finite(images, tmp_path):
    curve = cifar.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 9, stop_below=1.0)
    assert len(curve.epochs) == 1
    wild = dataclasses.replace(RECIPE, learning_rate=1e30)
    curve = cifar.run_trial(Trial("wild", SMALL, wild), images, tmp_path, 9)
    assert curve.has_diverged and curve.error == 1.0
    assert cifar.run_trial(Trial("wild", SMALL, wild), images, tmp_path, 9) == curve


def test_layer_decays_shrink_that_layer_only(images, tmp_path):
    frozen = dataclasses.replace(RECIPE, learning_rate=1e-9, momentum=0.0, weight_decay=0.0)
    norms = {}
    for name, decays in (("with", (("fc2", 1e7),)), ("without", ())):
        cifar.run_trial(Trial(name, SMALL, frozen, layer_decays=decays), images, tmp_path, 1)
        arrays, _ = RunDirectory(tmp_path / name).read_checkpoint()
        norms[name] = {path: np.linalg.norm(array) for path, array in arrays.items() if path.endswith("kernel")}
    assert norms["with"]["fc2/kernel"] == pytest.approx(norms["without"]["fc2/kernel"] * 0.99**4, rel=1e-3)
    assert norms["with"]["conv1/kernel"] == pytest.approx(norms["without"]["conv1/kernel"], rel=1e-5)


def test_time_to_an_error_is_between_the_points_beside_it():
    curve = Curve((Epoch((0.9, 0.8, 0.7, 0.6), 2.0, None, 1.0), Epoch((0.5, 0.4, 0.3, 0.2), 1.0, None, 1.0)))
    assert curve.epochs_to(0.25) == pytest.approx(1.75)
    assert curve.epochs_to(0.95) == 0.125
    assert curve.epochs_to(0.1) is None


def test_an_epoch_is_a_permutation_and_the_same_for_the_same_seed(images):
    def epoch(**arguments):
        return [labels for _, labels in cifar.train_batches(images.train, 8, 32, **arguments)]

    first = np.concatenate(epoch(seed=1, epoch=0))
    np.testing.assert_array_equal(np.sort(first), np.sort(images.train.labels))
    np.testing.assert_array_equal(first, np.concatenate(epoch(seed=1, epoch=0)))
    assert any((first != np.concatenate(epoch(seed=seed, epoch=number))).any() for seed, number in ((2, 0), (1, 1)))


def test_windows_are_parts_of_their_images_or_mirrored(images):
    marked = np.arange(64 * 32 * 32 * 3).reshape(64, 32, 32, 3).astype("int32")
    split = cifar.Split(marked, images.train.labels)
    mirrored, starts = 0, set()
    for windows, _ in cifar.train_batches(split, 8, 24, seed=0, epoch=0):
        for window in windows:
            if window[0, 0, 0] > window[0, -1, 0]:
                window, mirrored = window[:, ::-1], mirrored + 1
            number, top, left, _ = np.unravel_index(window[0, 0, 0], marked.shape)
            starts.add((top, left))
            np.testing.assert_array_equal(window, marked[number, top : top + 24, left : left + 24])
    assert 16 < mirrored < 48 and len(starts) > 20
    assert {max(axis) for axis in zip(*starts)} <= set(range(9))


def test_views_are_the_authors_nine(images):
    views = cifar.views(images.test.images, 24)
    assert views.shape == (20, 9, 24, 24, 3)
    np.testing.assert_array_equal(views[:, 0], images.test.images[:, :24, :24])
    np.testing.assert_array_equal(views[:, 4], images.test.images[:, 4:28, 4:28])
    np.testing.assert_array_equal(views[:, 5], images.test.images[:, 4:28, 8:])
    np.testing.assert_array_equal(cifar.views(images.test.images, 32)[:, 0], images.test.images)


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
