import dataclasses
import functools

import pytest

from alexnet_tf.experiments import catalogue, cifar, figure1
from alexnet_tf.experiments.cifar import Curve
from tests.helpers.cifar import synthetic


@pytest.mark.parametrize("start", figure1.RATES)
@pytest.mark.parametrize("name", ["layers-19pct", "conv-local-13pct"])
def test_twins_differ_in_the_activation_and_the_gain_of_their_start(name, start):
    relu, tanh = (figure1.make_variant(name, start, each, 0.01).architecture for each in figure1.ACTIVATIONS)
    assert relu.image_size == 32 and relu.recipe.weight_decay == 0
    assert dataclasses.replace(relu, name=tanh.name, stages=tanh.stages) == tanh
    for first, second in zip(relu.stages, tanh.stages):
        assert tuple("tanh" if each == "relu" else each for each in first.ops) == second.ops
        kernel = second.kernel if start == "scaled" else first.kernel
        assert dataclasses.replace(first, ops=second.ops, kernel=kernel) == second


def curve(*errors):
    return Curve([{"train_errors": [error] * 4} for error in errors])


@pytest.mark.parametrize(
    ("tanh", "ours", "verdict"),
    [
        (curve(*[0.5] * 12, 0.2), "5.8 times", catalogue.REPRODUCED),
        (curve(*[0.5] * 4, 0.2), "2.0 times", catalogue.SAME_DIRECTION),
        (curve(0.5, 0.5, 0.2), "1.0 times", catalogue.NOT_SEEN),
        (curve(*[0.5] * 20), "over 9.6 times", catalogue.REPRODUCED),
        (Curve([], has_diverged=True), "over 9.6 times", catalogue.REPRODUCED),
    ],
)
def test_ratio_and_verdict(tanh, ours, verdict):
    networks = [figure1.make_variant(*figure1.PAIRS[0], each, 0.01) for each in figure1.ACTIVATIONS]
    curves = dict(zip(networks, ([curve(0.5, 0.5, 0.2)], [tanh])))
    result = figure1.result({each: {each: 0.5} for each in networks}, curves, 20)
    [finding] = result.findings
    assert finding.ours.startswith(ours) and finding.verdict == verdict
    assert ("not reached" in str(result.tables)) == ("over" in ours)


def test_search_is_the_same_after_the_best_was_trained_further(tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "SEARCH_EPOCHS", 1)
    images = synthetic(train=160, test=16)
    train = functools.partial(cifar.train, images=images, directory=tmp_path, precision="float32", test_every=0)
    best, errors = figure1.search(train, "layers-19pct", "scaled", "relu")
    assert len(train(best, 0, 2).history) == 2
    assert figure1.search(train, "layers-19pct", "scaled", "relu") == (best, errors)
