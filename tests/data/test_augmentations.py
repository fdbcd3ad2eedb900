"""Tests of `augmentations`: the tables, and what a new line in them changes."""

import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations, discovery, input_pipeline
from alexnet_tf.network import recipes

IMAGE = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 6, 3), "uint8"))


def test_mirror_turns_left_and_right_below_one_half():
    np.testing.assert_array_equal(augmentations.mirror(IMAGE, tf.constant([0.9, 0.9, 0.49, 0.9])), IMAGE[:, ::-1])
    np.testing.assert_array_equal(augmentations.mirror(IMAGE, tf.constant([0.1, 0.1, 0.5, 0.1])), IMAGE)


def test_recipes_may_ask_for_every_crop_and_augmentation():
    assert recipes.CHOICES["crop"] == tuple(augmentations.CROPS)
    assert recipes.CHOICES["augmentations"] == tuple(augmentations.AUGMENTATIONS)


def test_a_new_augmentation_gets_its_own_draws_and_leaves_those_of_the_others(monkeypatch, colours):
    split = discovery.find_dataset(str(colours)).splits["train"]

    def batch(*names):
        recipe = recipes.Recipe(batch_size=32, augmentations=names)
        return next(iter(input_pipeline.make_train_dataset(split, recipe, image_size=67, seed=1, epoch=2)))[0].numpy()

    def stamp(image, draws):
        return (
            tf.concat(
                [tf.cast(draws * 255, tf.uint8)[None, :3, None] + tf.zeros([1, 3, 3], tf.uint8), image[:1, 3:]], 1
            )
            if image.shape[0] == 1
            else tf.concat([stamp(image[:1], draws), image[1:]], 0)
        )

    monkeypatch.setitem(augmentations.AUGMENTATIONS, "stamp", stamp)
    unturned, plain, changed = batch(), batch("mirror"), batch("mirror", "stamp")
    is_turned = np.array([not np.array_equal(*pair) for pair in zip(unturned, plain, strict=True)])
    assert 8 < is_turned.sum() < 24
    np.testing.assert_array_equal(plain, np.where(is_turned[:, None, None, None], unturned[:, :, ::-1], unturned))
    np.testing.assert_array_equal(changed[:, 1:], plain[:, 1:])
    assert len({tuple(image[0, :3, 0]) for image in changed}) > 25
