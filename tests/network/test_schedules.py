"""Tests of `schedules`: the sources' tables, hand-computed lists, and the plateau."""

import dataclasses
import math

import pytest

from alexnet_tf.network import architectures, recipes, schedules
from alexnet_tf.support import errors


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (24.99 / 91, 1), (25 / 91, 0.1), (50.9 / 91, 0.1), (51 / 91, 0.01), (0.9, 0.001)]
)
def test_rate_factor_of_the_authors_steps(progress, factor):
    assert schedules.make(architectures.ORIGINAL2012.recipe).factor(progress) == pytest.approx(factor, rel=1e-12)


def test_rate_factor_of_caffe_falls_every_20_of_90_epochs():
    factors = [schedules.make(architectures.CAFFE.recipe).factor(epoch / 90) for epoch in range(90)]
    assert [epoch for epoch in range(1, 90) if factors[epoch] != factors[epoch - 1]] == [20, 40, 60, 80]
    assert factors[-1] == pytest.approx(1e-4)


def test_steps_are_refused_where_the_source_has_none():
    with pytest.raises(errors.UserError, match="schedule=steps needs an architecture whose source states steps"):
        schedules.make(recipes.Recipe(schedule="steps"))


def test_rate_factor_of_cosine_and_plateau():
    cosine = schedules.make(recipes.Recipe(schedule="cosine"))
    assert [cosine.factor(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    plateau = schedules.Plateau(recipes.Recipe())
    for divisions in range(4):
        plateau.state["divisions"] = divisions
        assert plateau.factor(0.7) == pytest.approx(0.1**divisions)


def test_plateau_divides_three_times_and_then_ends_also_across_checkpoints():
    recipe, state, seen = recipes.Recipe(patience=2), {}, []
    for error in [0.9, 0.8, 0.8, 0.81, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]:
        plateau = schedules.make(recipe, state)
        note = plateau.end_epoch(error)
        state = plateau.state
        seen.append((state["divisions"], plateau.is_over, "divided" in (note or "")))
    still, divided = False, True
    assert seen == [
        (0, False, still),
        (0, False, still),
        (0, False, still),
        (1, False, divided),
        (1, False, still),
        (1, False, still),
        (2, False, divided),
        (2, False, still),
        (3, False, divided),
        (3, False, still),
        (4, True, divided),
    ]
    assert "training ends here" in note


def test_rates_rise_over_the_warm_up_and_follow_the_schedule():
    recipe = recipes.Recipe(learning_rate=0.2, schedule="cosine", warmup_steps=4, bias_learning_rate_multiplier=2.0)
    rates = [schedules.make(recipe).rates(step, 8) for step in (0, 1, 3, 4, 6)]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in (0, 1, 3, 4, 6)]
    assert [each.kernels for each in rates] == pytest.approx(
        [0.2 * factor * share for factor, share in zip(cosine, (0.25, 0.5, 1, 1, 1), strict=True)], rel=1e-12
    )
    assert {(each.bias_multiplier, each.conv1_multiplier) for each in rates} == {(2.0, 1.0)}


def test_rates_of_the_author_keep_the_biases_rate_and_freeze_conv1():
    schedule = schedules.make(architectures.ORIGINAL2012.recipe)
    epochs = [schedule.rates(epoch, 91) for epoch in range(91)]
    biases = [each.kernels * each.bias_multiplier for each in epochs]
    assert biases == pytest.approx([0.02] * 91, rel=1e-9)  # Twice the first rate throughout.
    assert [epochs[epoch].conv1_multiplier for epoch in (66, 67, 71, 72, 90)] == [1, 0.1, 0.1, 0, 0]


def test_epochs_are_alike_until_the_colour_noise_ends():
    recipe = dataclasses.replace(architectures.ORIGINAL2012.recipe, epochs=91)
    schedule = schedules.make(recipe)
    assert [schedule.epochs_alike(epoch) for epoch in (0, 66, 67, 90)] == [67, 1, 24, 1]
    assert schedule.has_colour_noise(66) and not schedule.has_colour_noise(67)
    assert schedules.make(dataclasses.replace(recipe, schedule="cosine")).epochs_alike(3) == 88
