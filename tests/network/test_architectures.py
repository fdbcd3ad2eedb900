"""The rows against what their sources state: the numbers are written out here a second time, from the sources."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.config import RunConfig
from tests.helpers.facts import FACTS, gaussians_of

STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
RECIPES = {name: facts.recipe for name, facts in FACTS.items()}
RATES = {name: facts.rates for name, facts in FACTS.items() if facts.rates}


def test_architectures_have_their_own_name_and_a_source():
    for name, row in architectures.ARCHITECTURES.items():
        assert row.name == name
        assert row.source
        assert tuple(stage.name for stage in row.stages) == STAGES
        assert row.num_classes == 1000
    assert len({row.source for row in architectures.ARCHITECTURES.values()}) == len(architectures.ARCHITECTURES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_the_sources(name):
    recipe = architectures.ARCHITECTURES[name].recipe
    assert RECIPES[name] == (
        recipe.batch_size,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.schedule,
        recipe.bias_learning_rate_multiplier,
        recipe.epochs,
        recipe.colour_noise,
        recipe.resize,
        recipe.crop,
    )
    assert recipe.momentum == 0.9 and recipe.augmentations == ("mirror",)
    assert recipe.clip_norm == 0
    assert recipe.warmup_steps == 0


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_steps_give_the_sources_rates(name):
    recipe = architectures.ARCHITECTURES[name].recipe
    if name not in RATES:
        assert recipe.schedule == "plateau" and not recipe.steps
        return
    length, rates = RATES[name]
    assert [(start * length, factor * recipe.learning_rate) for start, factor in recipe.steps] == [
        pytest.approx(step, rel=1e-9) for step in rates
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_run_145_alone_treat_biases_conv1_and_colour_as_its_log(name):
    recipe = architectures.ARCHITECTURES[name].recipe
    if name in ("original2012", "one_gpu", "no_lrn", "non_overlap"):
        assert recipe.bias_steps == ()
        assert recipe.conv1_steps == ((67 / 91, 0.1), (72 / 91, 0))
        assert recipe.colour_noise_until == 67 / 91
    else:
        # owt: the biases' rate falls by 10 at half the run, from .02 to .002.
        assert recipe.bias_steps == (((0.5, 0.1),) if name == "owt" else None)
        assert (recipe.conv1_steps, recipe.colour_noise_until) == ((), 1)


def gaussians(architecture):
    for stage in architecture.stages:
        assert stage.kernel.distribution == "normal"
        assert stage.bias.distribution == "constant"
    return tuple((stage.kernel.value, stage.bias.value) for stage in architecture.stages)


@pytest.mark.parametrize("name", [name for name in FACTS if FACTS[name].gaussians])
def test_initialisation_is_the_sources(name):
    assert gaussians(architectures.ARCHITECTURES[name]) == gaussians_of(name)


def test_normalisation_constants_are_the_sources():
    for name, row in architectures.ARCHITECTURES.items():
        if name == "torchvision":
            assert row.mean == pytest.approx([255 * 0.485, 255 * 0.456, 255 * 0.406])
            assert row.scale == pytest.approx([1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)])
        else:
            assert row.mean == pytest.approx([122.67891, 116.66877, 104.00699], abs=1e-5)
            assert row.scale == (1, 1, 1)
        assert row.dropout_rate == 0.5


def test_pca_vectors_are_orthonormal():
    vectors = np.array(architectures.IMAGENET_PCA_VECTORS)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-6)
    # Variances of images in [0, 1], to compare with the constants that other ports print: .2175 .0188 .0045.
    assert [(s / 255) ** 2 for s in architectures.IMAGENET_PCA_STDEVS] == pytest.approx(
        [0.00598, 0.02116, 0.22807], abs=1e-5
    )


def test_initialization_names_are_the_choices_of_the_flag():
    assert set(architectures.INITIALIZATION_NAMES) == {"source", "original2012", "caffe", "caffenet", "he"}


@pytest.mark.parametrize("initialization", ["original2012", "caffe", "caffenet"])
@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"tf1_class"}))
def test_with_initialization_gives_the_sources_numbers_and_changes_nothing_else(name, initialization):
    row = architectures.ARCHITECTURES[name]
    changed = architectures.with_initialization(row, initialization)
    assert gaussians(changed) == gaussians_of(initialization)
    back = tuple(
        dataclasses.replace(stage, kernel=old.kernel, bias=old.bias) for stage, old in zip(changed.stages, row.stages)
    )
    assert dataclasses.replace(changed, stages=back) == row


@pytest.mark.parametrize("initialization", architectures.INITIALIZATION_NAMES)
def test_with_initialization_adds_no_biases_where_the_row_has_none(initialization):
    changed = architectures.with_initialization(architectures.ARCHITECTURES["tf1_class"], initialization)
    assert [stage.bias is None for stage in changed.stages] == [True] * 5 + [False] * 3


def test_with_initialization_he_keeps_the_signals_size():
    row = architectures.with_initialization(architectures.ARCHITECTURES["paper"], "he")
    # The square root of 2 for ReLU; after LRN with k = 2 also 2 ** .75 = 1.6818, which LRN divides by.
    after_lrn = 2.378414230005442
    assert [stage.kernel.value for stage in row.stages] == pytest.approx(
        [2**0.5, after_lrn, after_lrn, 2**0.5, 2**0.5, 1, 1, 0.01]
    )
    assert [stage.kernel.distribution for stage in row.stages] == ["normal_fan_in"] * 7 + ["normal"]
    assert {stage.bias for stage in row.stages} == {architectures.Init("constant", 0.0)}
    assert row.scale == (1 / 58,) * 3


def test_with_initialization_he_sees_the_rows_own_lrn_bias_and_scale():
    caffe = architectures.with_initialization(architectures.ARCHITECTURES["caffe"], "he")
    assert caffe.stages[1].kernel.value == pytest.approx(2**0.5)
    torchvision = architectures.ARCHITECTURES["torchvision"]
    assert architectures.with_initialization(torchvision, "he").scale == torchvision.scale


def test_with_initialization_unknown_lists_the_known():
    with pytest.raises(ValueError, match=r"must be one of \['source', 'he', .*'caffe'.*\]; got 'xavier'"):
        architectures.with_initialization(architectures.PAPER, "xavier")


def test_with_num_classes_changes_the_logits_only():
    row = architectures.with_num_classes(architectures.PAPER, 17)
    assert row.num_classes == row.stages[-1].filters == 17
    assert row.stages[:-1] == architectures.PAPER.stages[:-1]
    assert architectures.PAPER.num_classes == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 97, "towers": 2}, "conv1: filters must be divisible by towers, .* got filters=97, towers=2"),
        ({"filters": 96, "towers": 3}, "towers be 1 or 2; got filters=96, towers=3"),
        ({"filters": 96, "input_towers": "other"}, "conv1: input_towers must be 'both' or 'own'; got 'other'"),
        ({"filters": 96, "ops": ("relu", "norm")}, r"conv1: ops may be relu, lrn, .*; got \['norm'\]"),
    ],
)
def test_stage_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        architectures.Stage("conv1", **arguments)


def test_choose_changes_single_fields():
    recipe = recipes.choose(
        architectures.CAFFE.recipe, {"batch_size": 32, "epochs": 3}, num_images=1_281_167, initialization="source"
    )
    assert recipe == dataclasses.replace(architectures.CAFFE.recipe, batch_size=32, epochs=3)


def test_architecture_of_follows_config_json():
    row = RunConfig.from_json(
        {
            "train": {"architecture": "owt", "initialization": "caffe"},
            "data": {"classes": ["cat", "dog", "owl"]},
            "image_size": 224,
            "mean": [1.0, 2.0, 3.0],
        }
    ).architecture
    assert (row.name, row.num_classes) == ("owt", 3)
    assert gaussians(row) == gaussians_of("caffe")


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epochs"),
    [(2934, 64, 30), (50_000, 64, 30), (499_999, 64, 30), (640, 64, 135), (40, 10, 338), (3, 1, 450)],
)
def test_choose_gives_small_data_enough_steps(num_images, batch_size, epochs):
    recipe = recipes.choose(architectures.PAPER.recipe, {}, num_images=num_images, initialization="he")
    assert (recipe.batch_size, recipe.epochs, recipe.schedule) == (batch_size, epochs, "cosine")
    assert (recipe.learning_rate, recipe.clip_norm) == (0.008, 5.0)
    assert recipe.momentum == 0.9 and recipe.weight_decay == 5e-4 and recipe.colour_noise


def test_choose_keeps_the_rows_rate_with_its_own_initialization():
    recipe = recipes.choose(architectures.PAPER.recipe, {}, num_images=2934, initialization="source")
    assert (recipe.learning_rate, recipe.clip_norm) == (0.01, 0)


@pytest.mark.parametrize("row", architectures.ARCHITECTURES.values(), ids=lambda row: row.name)
def test_choose_leaves_imagenet_alone(row):
    assert recipes.choose(row.recipe, {}, num_images=1_281_167, initialization=row.initialization) == row.recipe


def test_initialization_on_imagenet_is_the_rows_but_for_the_papers_text():
    others = {
        name: row.initialization for name, row in architectures.ARCHITECTURES.items() if row.initialization != "source"
    }
    assert others == {name: "original2012" for name in ("paper", "ungrouped", "fc2048", "conv_fc")}


def test_choose_keeps_what_flags_say_and_fits_the_rest_to_it():
    given = {"epochs": 200, "schedule": "plateau", "learning_rate": 0.1}
    recipe = recipes.choose(architectures.PAPER.recipe, given, num_images=2934, initialization="he")
    assert (recipe.epochs, recipe.schedule, recipe.learning_rate, recipe.patience) == (200, "plateau", 0.1, 25)
    assert (
        recipes.choose(architectures.PAPER.recipe, {"batch_size": 128}, num_images=2934, initialization="he").epochs
        == 62
    )


def test_try_out_keeps_the_rows_own_resize_and_bias_rate():
    recipe = recipes.choose(
        architectures.CAFFE.recipe, {"epochs": 9}, num_images=500, initialization="he", is_demo=True
    )
    assert (recipe.resize, recipe.bias_learning_rate_multiplier, recipe.epochs) == ("caffe", 2.0, 9)
