import dataclasses

import numpy as np
import pytest

from alexnet_tf.experiments import cifar_data, cifar_training
from alexnet_tf.experiments.cifar_training import Curve, Epoch, Trial
from alexnet_tf.network.architectures import Architecture, Init, Stage
from alexnet_tf.network.recipes import Recipe
from alexnet_tf.support import errors

RECIPE = Recipe(batch_size=16, learning_rate=0.02, weight_decay=0.0, schedule="steps", colour_noise=False)
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
    return cifar_data.synthetic(train=64, test=20)


def test_learns_and_measures(images, tmp_path):
    curve = cifar_training.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 6, test_every=3)
    assert curve.error < 0.6 < np.mean(curve.epochs[0].train_errors)
    assert [epoch.test_error is not None for epoch in curve.epochs] == [False, False, True] * 2


@pytest.mark.parametrize("noise", [False, True])
def test_resumed_trial_ends_as_one_in_one_go(images, tmp_path, noise):
    trial = Trial("one", SMALL, dataclasses.replace(RECIPE, colour_noise=noise), seed=3)
    whole = cifar_training.run_trial(trial, images, tmp_path / "whole", 3)
    cifar_training.run_trial(trial, images, tmp_path / "parts", 1)
    parts = cifar_training.run_trial(trial, images, tmp_path / "parts", 3)
    assert parts.epochs[2].train_loss == pytest.approx(whole.epochs[2].train_loss, rel=1e-5)
    assert [epoch.test_error for epoch in parts.epochs] == [epoch.test_error for epoch in whole.epochs]
    assert cifar_training.read_curve(trial, tmp_path / "parts") == parts


def test_another_trial_in_the_same_directory_is_refused(images, tmp_path):
    cifar_training.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 1)
    with pytest.raises(errors.RunError, match="other settings"):
        cifar_training.run_trial(Trial("one", SMALL, RECIPE, seed=1), images, tmp_path, 1)


def test_stops_below_an_error_and_at_a_loss_that_is_not_finite(images, tmp_path):
    curve = cifar_training.run_trial(Trial("one", SMALL, RECIPE), images, tmp_path, 9, stop_below=1.0)
    assert len(curve.epochs) == 1
    wild = dataclasses.replace(RECIPE, learning_rate=1e30)
    curve = cifar_training.run_trial(Trial("wild", SMALL, wild), images, tmp_path, 9)
    assert curve.has_diverged and curve.error == 1.0
    assert cifar_training.run_trial(Trial("wild", SMALL, wild), images, tmp_path, 9) == curve


def test_layer_decays_shrink_that_layer_only(images, tmp_path):
    frozen = dataclasses.replace(RECIPE, learning_rate=1e-9, momentum=0.0, weight_decay=0.0)
    norms = {}
    for name, decays in (("with", (("fc2", 1e7),)), ("without", ())):
        cifar_training.run_trial(Trial(name, SMALL, frozen, layer_decays=decays), images, tmp_path, 1)
        arrays, _ = cifar_training.runs.RunDirectory(tmp_path / name).read_checkpoint()
        norms[name] = {path: np.linalg.norm(array) for path, array in arrays.items() if path.endswith("kernel")}
    assert norms["with"]["fc2/kernel"] == pytest.approx(norms["without"]["fc2/kernel"] * 0.99**4, rel=1e-3)
    assert norms["with"]["conv1/kernel"] == pytest.approx(norms["without"]["conv1/kernel"], rel=1e-5)


def test_time_to_an_error_is_between_the_points_beside_it():
    curve = Curve((Epoch((0.9, 0.8, 0.7, 0.6), 2.0, None, 1.0), Epoch((0.5, 0.4, 0.3, 0.2), 1.0, None, 1.0)))
    assert curve.epochs_to(0.25) == pytest.approx(1.75)
    assert curve.epochs_to(0.95) == 0.125
    assert curve.epochs_to(0.1) is None
