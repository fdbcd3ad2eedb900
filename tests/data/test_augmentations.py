"""Tests of `augmentations`: what a recipe may name, and the seeds that a new line in the table gets."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import augmentations, discovery, input_pipeline
from alexnet_tf.network import recipes
from alexnet_tf.support import errors

IMAGE = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 6, 3), "uint8"))


def test_mirror_turns_left_and_right_half_of_the_time():
    seeds = np.random.default_rng(0).integers(-(2**31), 2**31, (2000, 2), "int64").astype("int32")
    mirrored = tf.map_fn(lambda seed: augmentations.mirror(IMAGE, seed), tf.constant(seeds), tf.uint8).numpy()
    is_turned = (mirrored == IMAGE.numpy()[:, ::-1]).all((1, 2, 3))
    assert (is_turned | (mirrored == IMAGE.numpy()).all((1, 2, 3))).all() and abs(is_turned.mean() - 0.5) < 0.04


def stamp(image, seed, scale=1.0):
    """Writes three random numbers below `scale` into the first pixels."""
    numbers = tf.cast(tf.random.stateless_uniform([3], seed) * 256 * scale, tf.uint8)
    rows = tf.concat([numbers[None, :, None] + tf.zeros([1, 3, 3], tf.uint8), image[:1, 3:]], 1)
    return tf.concat([rows, image[1:]], 0)


def batch(colours, *names):
    split = discovery.find_dataset(str(colours)).splits["train"]
    recipe = recipes.Recipe(batch_size=32, augmentations=names)
    return next(iter(input_pipeline.make_train_dataset(split, recipe, image_size=67, seed=1, epoch=2)))[0].numpy()


def test_a_new_augmentation_has_a_seed_of_its_own_and_leaves_the_crops_and_mirrors(monkeypatch, colours):
    monkeypatch.setitem(augmentations.AUGMENTATIONS, "stamp", stamp)
    unturned, plain, changed = batch(colours), batch(colours, "mirror"), batch(colours, "mirror", "stamp")
    is_turned = np.array([not np.array_equal(*pair) for pair in zip(unturned, plain, strict=True)])
    assert 8 < is_turned.sum() < 24
    np.testing.assert_array_equal(plain, np.where(is_turned[:, None, None, None], unturned[:, :, ::-1], unturned))
    np.testing.assert_array_equal(changed[:, 1:], plain[:, 1:])
    assert len({tuple(image[0, :3, 0]) for image in changed}) > 25
    twice = batch(colours, "stamp", "stamp")
    assert (twice[:, 0, :3] != batch(colours, "stamp")[:, 0, :3]).mean() > 0.9


def test_a_recipe_sets_an_augmentations_arguments(monkeypatch, colours):
    monkeypatch.setitem(augmentations.AUGMENTATIONS, "stamp", stamp)
    numbers, small = batch(colours, "stamp")[:, 0, :3], batch(colours, "stamp:scale=0.25")[:, 0, :3]
    np.testing.assert_allclose(small, numbers / 4, atol=1)
    assert numbers.max() > 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn", "must be of mirror, .*stamp; got 'turn'"),
        ("mirror:angle=3", "mirror has the arguments none; got 'mirror:angle=3'"),
        ("stamp:size=3", "stamp has the arguments scale"),
        ("stamp:scale", "NAME:KEY=NUMBER; got 'stamp:scale'"),
        ("stamp:scale=x", "NAME:KEY=NUMBER"),
    ],
)
def test_what_is_not_an_augmentation_is_an_error(monkeypatch, text, message):
    monkeypatch.setitem(augmentations.AUGMENTATIONS, "stamp", stamp)
    with pytest.raises(errors.UserError, match=message):
        augmentations.check("window", ["mirror", text])


def test_a_crop_that_there_is_not_is_an_error():
    augmentations.check("random_resized", [])
    with pytest.raises(errors.UserError, match="crop must be one of window, random_resized.*; got 'square'"):
        augmentations.check("square", [])


def test_the_seeds_of_images_are_all_different_and_look_random():
    found = input_pipeline._seeds_of_images(500, 7, 3, tf.constant(0, tf.int64), 3).numpy()
    assert found.shape == (500, 4, 2) and found.dtype == np.int32 and len(np.unique(found)) > 3990
    uniform = found.reshape(500, 8) / 2.0**32 + 0.5
    assert abs(uniform.mean() - 0.5) < 0.02 and np.abs(np.corrcoef(uniform.T) - np.eye(8)).max() < 0.2
