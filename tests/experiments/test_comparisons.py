import dataclasses

import pytest

from alexnet_tf.experiments import catalogue, comparisons
from alexnet_tf.experiments.cifar import Curve, Epoch
from alexnet_tf.network import alexnet


def changed_fields(first, second):
    return {
        field.name for field in dataclasses.fields(first) if getattr(first, field.name) != getattr(second, field.name)
    }


def test_lrn_alone_differs_in_lrn_alone():
    without, with_lrn, eleven = comparisons.lrn_variants()
    assert changed_fields(without.architecture, with_lrn.architecture) <= {"name", "stages", "source"}
    for before, after in zip(without.architecture.stages, with_lrn.architecture.stages):
        assert changed_fields(before, after) <= {"ops"}
    assert with_lrn.recipe == without.recipe and with_lrn.layer_decays == without.layer_decays
    assert eleven.layer_decays != without.layer_decays
    assert comparisons.lrn_variants(is_full=True)[0].recipe.steps[0][0] == 500 / 520


def test_ablations_change_one_thing_each():
    base, *others = comparisons.ablation_variants()
    for other in others:
        names = changed_fields(base, other) - {"name", "claim", "paper"}
        assert names in ({"architecture"}, {"recipe"}), other.name
    counts = {each.name: alexnet.build_model(each.architecture).count_params() for each in (base, *others)}
    assert counts["plain pooling"] == counts["no dropout"] == counts["no colour noise"] == counts["small AlexNet"]
    assert counts["no conv4"] < counts["small AlexNet"] < counts["one tower"]


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ((0.20, 0.21), catalogue.NOT_SEEN),
        ((0.25, 0.26), catalogue.SAME_DIRECTION),
        ((0.10, 0.11), catalogue.NOT_SEEN),
        ((0.25,), None),  # One seed has no spread.
    ],
)
def test_a_difference_below_the_spread_is_not_seen(errors, verdict):
    base, other = comparisons.ablation_variants()[:2]

    def trained(variant, values):
        return comparisons.Trained(
            variant, {seed: Curve((Epoch((0.5,) * 4, 1.0, value, 1.0),)) for seed, value in enumerate(values)}
        )

    result = comparisons.result([trained(base, (0.20, 0.22)), trained(other, errors)], 1)
    assert [finding.verdict for finding in result.findings] == [verdict]
    assert result.training_seconds == 2 + len(errors)
