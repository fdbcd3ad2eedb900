"""Tests of `schedules`: the sources' tables, hand-computed lists, and the plateau."""

import dataclasses
import math

import pytest

from alexnet_tf.network import architectures, recipes
from alexnet_tf.training import schedules


def factor_of(recipe, progress, divisions=0):
    return schedules.SCHEDULES[recipe.schedule](recipe, progress, divisions)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (24.99 / 91, 1), (25 / 91, 0.1), (50.9 / 91, 0.1), (51 / 91, 0.01), (0.9, 0.001)]
)
def test_rate_factor_of_the_authors_steps(progress, factor):
    assert factor_of(architectures.ORIGINAL2012.recipe, progress) == pytest.approx(factor, rel=1e-12)


def test_rate_factor_of_caffe_falls_every_20_of_90_epochs():
    factors = [factor_of(architectures.CAFFE.recipe, epoch / 90) for epoch in range(90)]
    assert [epoch for epoch in range(1, 90) if factors[epoch] != factors[epoch - 1]] == [20, 40, 60, 80]
    assert factors[-1] == pytest.approx(1e-4)


def test_rate_factor_of_cosine_and_plateau():
    cosine = recipes.Recipe(schedule="cosine")
    assert [factor_of(cosine, p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [factor_of(architectures.PAPER.recipe, 0.7, d) for d in range(4)] == pytest.approx([1, 0.1, 0.01, 0.001])


def test_plateau_divides_three_times_and_then_ends():
    plateau, patience, seen = schedules.Plateau(), 2, []
    for error in [0.9, 0.8, 0.8, 0.81, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]:
        over = plateau.update(error, patience)
        seen.append((plateau.divisions, over))
    assert seen == [
        (0, False),
        (0, False),
        (0, False),
        (1, False),
        (1, False),
        (1, False),
        (2, False),
        (2, False),
        (3, False),
        (3, False),
        (4, True),
    ]


@pytest.mark.parametrize(
    ("loss", "steps", "stuck"), [(1.609, 100, True), (1.60, 500, True), (1.609, 99, False), (1.5, 500, False)]
)
def test_is_stuck_at_ln_classes(loss, steps, stuck):
    assert schedules.is_stuck(loss, math.log(5), steps) is stuck


def test_is_stuck_is_not_said_of_a_loss_above_chance():
    assert not schedules.is_stuck(2.5, math.log(5), 500)


def test_rates_rise_over_the_warm_up_and_follow_the_schedule():
    recipe = recipes.Recipe(learning_rate=0.2, schedule="cosine", warmup_steps=4, bias_learning_rate_multiplier=2.0)
    rates = [schedules.rates(recipe, step, 8) for step in (0, 1, 3, 4, 6)]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in (0, 1, 3, 4, 6)]
    assert [each.kernels for each in rates] == pytest.approx(
        [0.2 * factor * share for factor, share in zip(cosine, (0.25, 0.5, 1, 1, 1), strict=True)], rel=1e-12
    )
    assert {(each.bias_multiplier, each.conv1_multiplier) for each in rates} == {(2.0, 1.0)}


def test_rates_of_the_author_keep_the_biases_rate_and_freeze_conv1():
    epochs = [schedules.rates(architectures.ORIGINAL2012.recipe, epoch, 91) for epoch in range(91)]
    biases = [each.kernels * each.bias_multiplier for each in epochs]
    assert biases == pytest.approx([0.02] * 91, rel=1e-9)  # Twice the first rate throughout.
    assert [epochs[epoch].conv1_multiplier for epoch in (66, 67, 71, 72, 90)] == [1, 0.1, 0.1, 0, 0]


def test_epochs_are_alike_until_the_colour_noise_ends():
    recipe = dataclasses.replace(architectures.ORIGINAL2012.recipe, epochs=91)
    assert [schedules.epochs_alike(recipe, epoch) for epoch in (0, 66, 67, 90)] == [67, 1, 24, 1]
    assert schedules.has_colour_noise(recipe, 66) and not schedules.has_colour_noise(recipe, 67)
    assert schedules.epochs_alike(dataclasses.replace(recipe, schedule="cosine"), 3) == 88


def test_recipes_may_ask_for_every_schedule():
    assert recipes.CHOICES["schedule"] == tuple(schedules.SCHEDULES)
