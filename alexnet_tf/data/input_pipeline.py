"""From examples by index to batches: one pipeline for training, one for evaluation.

Order and augmentation are a function of (seed, epoch, index) alone: the same on any number of threads, and after any
resume without reading what went before. What one image goes through is in `preprocessing`; what is on disk in `datasets`.
"""

import numpy as np
import tensorflow as tf

from alexnet_tf import errors, recipes
from alexnet_tf.data import datasets, preprocessing, tfrecords


def make_train_dataset(
    split, recipe: recipes.Recipe, *, image_size: int, seed: int, epoch: int, first_step: int = 0,
    colour_pca=None, skipped=(), worker: int = 0, num_workers: int = 1) -> tf.data.Dataset:
    """Orders, augments and batches the examples of one epoch.

    Args:
        split: Encoded examples by index: `datasets.ImageFiles` or `records.Records`.
        recipe: Batch size, crop and resize.
        image_size: Side of the crop in pixels.
        seed: With `epoch`, fixes the order and every pixel.
        epoch: Epoch, from 0.
        first_step: Step of the epoch to start from; what went before is not read.
        colour_pca: (stdevs, vectors) of the colours, to draw the noise of Section 4.1 from; None is no noise.
        skipped: Indices of examples that cannot be read: the next readable one comes in their place.
        worker: Which of the workers this is.
        num_workers: Among how many each batch is divided: each reads its own part, in order, and nothing else.

    Returns:
        Batches of (images uint8 [batch, image_size, image_size, 3] RGB, labels int32 [batch]), or, with `colour_pca`,
        of ((images, noise float32 [batch, 3]), labels): `add_noise` makes images of the two, where they are needed.
        The last incomplete batch is dropped, so that shapes are static.
    """
    if recipe.batch_size % num_workers:
        raise errors.UserError(
            f"batch_size must be a multiple of the number of workers; got {recipe.batch_size} and {num_workers}.")
    share = recipe.batch_size // num_workers
    block_size = _block_size(share)
    steps = steps_per_epoch(split, recipe.batch_size)
    replacements = None if not skipped else tf.constant(_replacements(len(split), skipped))

    @tf.autograph.experimental.do_not_convert
    def plan(first_place):  # A block of places in the worker's own epoch is one of positions in everybody's.
        position = first_place // share * recipe.batch_size + worker * share + first_place % share
        positions = position + tf.range(block_size, dtype=tf.int64)
        indices = _order(positions, seed, epoch, len(split))
        if replacements is not None:
            indices = tf.gather(replacements, indices)
        draws = _draws(tf.raw_ops.StatelessRandomUniformV2, block_size, seed, epoch, position)
        if colour_pca is None:
            return indices, draws
        normals = _draws(tf.raw_ops.StatelessRandomNormalV2, block_size, seed, epoch, position)
        return indices, draws, preprocessing.colour_noise(normals[:, :3], *colour_pca)

    @tf.autograph.experimental.do_not_convert
    def augment(image_bytes, label, draws, *noise):
        image = preprocessing.train_image(
            image_bytes, draws, image_size=image_size, crop=recipe.crop, resize=recipe.resize, is_square=split.is_square)
        return ((image, *noise) if noise else image), label

    blocks = tf.data.Dataset.range(first_step * share, steps * share, block_size).map(plan)
    return split.examples(blocks, augment).batch(share, drop_remainder=True).prefetch(2).with_options(_options())


def _block_size(share: int) -> int:
    """Returns into which equal parts of consecutive positions a worker's share of a batch is divided for reading."""
    return next((size for size in range(tfrecords.BLOCK_SIZE, 7, -1) if share % size == 0), share)


def _draws(distribution, count: int, seed: int, epoch: int, position) -> tf.Tensor:
    """Draws four numbers for each of some consecutive positions, float32 [count, 4]: the same however they are divided.

    Philox counts: a counter gives four numbers, so a position's are those of its own counter. One call for a block costs
    a tenth of one call for each image.
    """
    purpose = int(distribution is tf.raw_ops.StatelessRandomNormalV2)
    start = tf.raw_ops.StatelessRandomGetKeyCounter(seed=tf.constant([seed, 2 * epoch + purpose], tf.int64))
    counter = start.counter + tf.stack([tf.cast(position, tf.uint64), tf.constant(0, tf.uint64)])
    return distribution(shape=[count, 4], key=start.key, counter=counter, alg=1)


def _replacements(num_examples: int, skipped) -> np.ndarray:
    """Returns int64 [num_examples]: each index, and for a skipped one the next that is not."""
    readable = np.ones(num_examples, bool)
    readable[list(skipped)] = False
    if not readable.any():
        raise errors.DataError("No image of the training split can be read.")
    usable = np.flatnonzero(readable)
    return usable[np.searchsorted(usable, np.arange(num_examples)) % len(usable)].astype("int64")


def add_noise(images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Adds each image's colour to all its pixels: float32 [batch, height, width, 3], unclipped (Section 4.1)."""
    return tf.cast(images, tf.float32) + noise[:, None, None]


def evaluation_batches(
    split, *, batch_size: int, image_size: int, resize: str, ten_crop: bool = False, on_bad_image: str = "fail",
    skipped: dict | None = None):
    """Yields every example of a split once, in order.

    Args:
        split: As for `make_train_dataset`.
        batch_size: Examples a batch.
        image_size: Side of the crops in pixels.
        resize: As in `preprocessing.square`.
        ten_crop: Ten crops of each image instead of the centre.
        on_bad_image: "fail", or "skip": an image that cannot be read is left out and told.
        skipped: {index: what is wrong} of images to leave out from the start; those that are found are added.

    Yields:
        (images uint8 [batch, crops, image_size, image_size, 3], labels int32 [batch]) with one centre crop or ten;
        the last batch is smaller.

    Raises:
        datasets.DataError: At an image that cannot be read, with its name and the reason.
    """
    skipped = {} if skipped is None else skipped
    left = np.array([index for index in range(len(split)) if index not in skipped], "int64")

    @tf.autograph.experimental.do_not_convert
    def crop(image_bytes, label):
        return evaluation_crops(image_bytes, image_size, resize, ten_crop), label

    while len(left):
        blocks = tf.data.Dataset.from_tensor_slices((left,)).batch(tfrecords.BLOCK_SIZE)
        batches = iter(split.examples(blocks, crop).batch(batch_size).prefetch(2).with_options(_options()))
        try:
            while (batch := next(batches, None)) is not None:
                left = left[batch_size:]
                yield batch
        except READ_ERRORS as error:
            # A block that begins in this batch may end beyond it.
            found = bad_images(split, left[:batch_size + tfrecords.BLOCK_SIZE], error, on_bad_image, skipped)
            left = left[~np.isin(left, list(found))]


def _options() -> tf.data.Options:
    """Turns autotuning off: at an epoch's end its thread was seen to sleep on for up to 40 s before the next began.

    An image's operations are too small to be divided among threads; other images keep them busy.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
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
        raise errors.DataError(
            f"batch_size must be at most the number of training images; got batch_size={batch_size} and "
            f"{len(split)} images. Use --batch_size={max(1, len(split) // 2)} or less.")
    return len(split) // batch_size


# What an unreadable image raises; not, say, memory that ran out.
READ_ERRORS = (
    tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError, tf.errors.DataLossError, tf.errors.UnknownError)


def bad_images(split, indices, error: Exception, on_bad_image: str, skipped: dict) -> dict[int, str]:
    """Finds which images made a batch fail, and does with them as the flag says.

    Args:
        split: The examples.
        indices: Those of the batch.
        error: What TensorFlow raised, one of `READ_ERRORS`.
        on_bad_image: "fail" or "skip".
        skipped: Images that are skipped already; those that are found are added.

    Returns:
        {index: "file: reason"} of the images found, each of them told.

    Raises:
        datasets.DataError: As `datasets.tell_bad_image`.
        Exception: `error` itself, if every image can be read.
    """
    found = {}
    for index in map(int, indices):
        if (reason := why_unreadable(split, index)) is not None:
            found[index] = f"{split.describe(index)}: {reason}"
    if not found:
        raise error
    for index, problem in found.items():
        skipped[index] = problem
        datasets.report_bad_image(problem, on_bad_image, len(skipped), len(split))
    return found


def why_unreadable(split, index: int) -> str | None:
    """Returns why example `index` of a split cannot be read, in words for a person, or None if it can."""
    try:
        return preprocessing.why_unreadable(split.image_bytes(index))
    except OSError as error:
        return str(error.strerror)


def batch_indices(split, recipe: recipes.Recipe, *, seed: int, epoch: int, step: int, skipped=()) -> list[int]:
    """Returns which examples make the batch of a step of an epoch (of all workers), in their order."""
    positions = tf.range(step * recipe.batch_size, (step + 1) * recipe.batch_size, dtype=tf.int64)
    indices = _order(positions, seed, epoch, len(split)).numpy()
    return (_replacements(len(split), skipped)[indices] if skipped else indices).tolist()


def _order(positions, seed: int, epoch: int, num_examples: int):
    """Returns which examples stand at some positions of an epoch: a bijection that needs no memory."""
    seeds = tf.constant([seed, epoch], tf.int64)
    return tf.random.experimental.index_shuffle(positions, seeds, num_examples - 1)
