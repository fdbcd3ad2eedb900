import dataclasses

import pytest

from alexnet_tf.experiments import catalogue, comparisons
from alexnet_tf.experiments.cifar import Curve
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
    assert eleven.architecture.recipe == without.architecture.recipe
    assert with_lrn.layer_decays == without.layer_decays != eleven.layer_decays
    assert comparisons.lrn_variants(is_full=True)[0].architecture.recipe.steps[0][0] == 500 / 520


def test_ablations_change_one_thing_each():
    base, *others = comparisons.ablation_variants()
    for other in others:
        assert changed_fields(base, other) <= {"name", "architecture", "claim", "paper"}
        assert len(changed_fields(base.architecture, other.architecture)) == 1, other.name
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
@pytest.mark.parametrize("is_gain", [False, True])
def test_a_difference_below_the_spread_is_not_seen(errors, verdict, is_gain):
    def curves(values):
        values = [1 - value if is_gain else value for value in values]
        return [
            Curve([{"train_errors": [0.5] * 4, "train_top1_error": 0.5, "val_top1_error": each}]) for each in values
        ]

    base, other = comparisons.ablation_variants()[:2]
    [finding] = comparisons.result({base: curves((0.20, 0.22)), other: curves(errors)}, 1, is_gain).findings
    assert finding.verdict == verdict
