import dataclasses

import pytest

from alexnet_tf.experiments import catalogue, figure1
from alexnet_tf.experiments.cifar import Curve, Epoch
from tests.helpers.cifar import synthetic


@pytest.mark.parametrize("start", figure1.STARTS)
@pytest.mark.parametrize("name", ["layers-19pct", "conv-local-13pct"])
def test_twins_differ_in_the_activation_and_the_gain_of_their_start(name, start):
    relu, tanh = (figure1.make_trial(name, start, each, 0.01, 0, "float32") for each in figure1.ACTIVATIONS)
    assert relu.recipe == tanh.recipe and relu.recipe.weight_decay == 0 and not relu.layer_decays
    assert relu.architecture.image_size == 32 and relu.architecture.scale == tanh.architecture.scale
    for first, second in zip(relu.architecture.stages, tanh.architecture.stages):
        changed = {"ops": second.ops} | ({"kernel": second.kernel} if start == "scaled" else {})
        assert dataclasses.replace(first, **changed) == second
        assert tuple("tanh" if each == "relu" else each for each in first.ops) == second.ops


def curve(*errors):
    return Curve(tuple(Epoch((error,) * 4, 1.0, None, 1.0) for error in errors))


def network(activation, *curves):
    search = {0.01: curve(0.5), 0.03: curve(0.6)}
    return figure1.Network(("layers-19pct", "author"), activation, search, 0.01, dict(enumerate(curves)))


@pytest.mark.parametrize(
    ("tanh", "ours", "verdict"),
    [
        (curve(*[0.5] * 12, 0.2), "5.8 times", catalogue.REPRODUCED),
        (curve(*[0.5] * 4, 0.2), "2.0 times", catalogue.SAME_DIRECTION),
        (curve(0.5, 0.5, 0.2), "1.0 times", catalogue.NOT_SEEN),
        (curve(*[0.5] * 20), "over 9.6 times", catalogue.REPRODUCED),
    ],
)
def test_ratio_and_verdict(tanh, ours, verdict):
    networks = [network("relu", curve(0.5, 0.5, 0.2)), network("tanh", tanh)]
    result = figure1.result(networks, figure1.Budget(epochs=20))
    [finding] = result.findings
    assert finding.ours.startswith(ours) and finding.verdict == verdict
    assert "not reached" in str(result.tables[0].rows) if "over" in ours else True


def test_time_counts_each_epoch_once():
    result = figure1.result([network("relu", curve(0.5, 0.2), curve(0.5, 0.4, 0.2))], figure1.Budget())
    assert result.training_seconds == 1 + 2 + 3  # The search's 0.01 is the beginning of the first seed.


def test_search_is_the_same_after_the_best_was_trained_further(tmp_path):
    images = synthetic(train=160, test=16)
    budget = figure1.Budget((("layers-19pct", "scaled"),), seeds=1, search_epochs=1, epochs=1)
    *_, before = figure1.train(budget, images, tmp_path, "float32")
    *_, after = figure1.train(dataclasses.replace(budget, epochs=2), images, tmp_path, "float32")
    assert [each.search for each in after] == [each.search for each in before]
    assert all(len(each.curves[0].epochs) == 2 for each in after)
    *_, again = figure1.train(dataclasses.replace(budget, epochs=2), images, tmp_path, "float32")
    assert again == after
    assert [each.search for each in again] == [each.search for each in before]
