"""From examples by index to batches: one pipeline for training, one for evaluation.

Order and augmentation are a function of (seed, epoch, index) alone: the same on any number of threads, and after any
resume without reading what went before. What one image goes through is in `preprocessing`; what is on disk in `datasets`.
"""

import contextlib
import os

import tensorflow as tf

from alexnet_tf import config, datasets, preprocessing


def make_train_dataset(
    split, recipe: config.Recipe, *, image_size: int, seed: int, epoch: int, first_step: int = 0,
    add_colour_noise: bool = True) -> tf.data.Dataset:
    """Orders, augments and batches the examples of one epoch.

    Args:
        split: Encoded examples by index: `len()` and `make_reader()`.
        recipe: Batch size, crop, resize and colour noise.
        image_size: Side of the crop in pixels.
        seed: With `epoch`, fixes the order and every pixel.
        epoch: Epoch, from 0.
        first_step: Step of the epoch to start from; what went before is not read.
        add_colour_noise: False once the recipe has switched the noise off.

    Returns:
        Batches of (images [batch_size, image_size, image_size, 3] RGB in [0, 255], labels int32 [batch_size]);
        float32 with colour noise, uint8 without. The last incomplete batch is dropped, so that shapes are static.
    """
    noise = recipe.colour_noise and add_colour_noise
    read = split.make_reader()
    steps = steps_per_epoch(split, recipe.batch_size)

    def read_and_augment(position):
        index = _order(position, seed, epoch, len(split))
        image_bytes, label = read(index)
        image_seed = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch), index)
        image = preprocessing.train_image(
            image_bytes, image_seed, image_size=image_size, crop=recipe.crop, resize=recipe.resize,
            pca_stdevs=config.IMAGENET_PCA_STDEVS if noise else None, pca_vectors=config.IMAGENET_PCA_VECTORS)
        return image, label

    positions = tf.data.Dataset.range(first_step * recipe.batch_size, steps * recipe.batch_size)
    dataset = positions.map(read_and_augment, num_parallel_calls=os.cpu_count(), deterministic=True)
    return dataset.batch(recipe.batch_size, drop_remainder=True).prefetch(2).with_options(_options())


def make_evaluation_dataset(
    split, *, batch_size: int, image_size: int, resize: str, ten_crop: bool = False) -> tf.data.Dataset:
    """Batches every example of a split once, in order.

    Returns:
        Batches of (images uint8 [batch, crops, image_size, image_size, 3], labels int32 [batch]) with one centre crop
        or ten; the last batch is smaller.
    """
    read = split.make_reader()

    def read_and_crop(index):
        image_bytes, label = read(index)
        return evaluation_crops(image_bytes, image_size, resize, ten_crop), label

    dataset = tf.data.Dataset.range(len(split))
    dataset = dataset.map(read_and_crop, num_parallel_calls=os.cpu_count()).batch(batch_size).prefetch(2)
    return dataset.with_options(_options())


def _options() -> tf.data.Options:
    """Turns autotuning off: at an epoch's end its thread was seen to sleep on for up to 40 s before the next began."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def evaluation_crops(image_bytes: tf.Tensor, image_size: int, resize: str, ten_crop: bool = False) -> tf.Tensor:
    """Returns the crops that an image is judged by, uint8 [1 or 10, image_size, image_size, 3]."""
    square = preprocessing.square(image_bytes, resize)
    if ten_crop:
        return preprocessing.ten_crops(square, image_size)
    return preprocessing.center_crop(square, image_size)[None]


def steps_per_epoch(split, batch_size: int) -> int:
    """Returns the number of whole batches in a split.

    Raises:
        datasets.DataError: If there is none.
    """
    if len(split) < batch_size:
        raise datasets.DataError(
            f"batch_size must be at most the number of training images; got batch_size={batch_size} and "
            f"{len(split)} images. Use --batch_size={max(1, len(split) // 2)} or less.")
    return len(split) // batch_size


# What an unreadable image raises; not, say, memory that ran out.
_READ_ERRORS = (
    tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError, tf.errors.DataLossError, tf.errors.UnknownError)


@contextlib.contextmanager
def naming_bad_images(split, indices):
    """Turns TensorFlow's error about an image that cannot be read into one that names the file.

    Args:
        split: The examples that are read inside.
        indices: Function that returns the examples' indices in the order in which they are read.

    Raises:
        datasets.DataError: With the file's name and the reason.
    """
    try:
        yield
    except _READ_ERRORS as error:
        line = _first_unreadable(split, indices())
        if line is None:
            raise
        raise datasets.DataError(f"An image cannot be read: {line}. Remove or replace it.") from error


def _first_unreadable(split, indices) -> str | None:
    read = tf.function(split.make_reader())
    for index in indices:
        try:
            preprocessing.decode(read(tf.constant(index, tf.int64))[0])
        except tf.errors.OpError as error:
            return f"{split.describe(index)}: {preprocessing.reason(error)}"
    return None


def epoch_order(split, *, seed: int, epoch: int, first_example: int = 0):
    """Yields the indices of an epoch's examples in their order, from position `first_example` on."""
    for position in range(first_example, len(split)):
        yield int(_order(tf.constant(position, tf.int64), seed, epoch, len(split)))


def _order(position, seed: int, epoch: int, num_examples: int):
    """Returns which example stands at a position of an epoch: a bijection that needs no memory."""
    seeds = tf.constant([seed, epoch], tf.int64)
    return tf.random.experimental.index_shuffle(position, seeds, num_examples - 1)
