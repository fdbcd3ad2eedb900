"""From examples by index to batches: one pipeline for training, one for evaluation.

Order and augmentation are a function of (seed, epoch, index) alone: the same on any number of threads, and after any
resume without reading what went before. What one image goes through is in `preprocessing`; what is on disk in
`datasets`.
"""

import concurrent.futures
import typing
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf.data import augmentations, datasets, preprocessing, reading
from alexnet_tf.network import recipes
from alexnet_tf.support import errors, processors


def make_train_dataset(
    split: datasets.ImageSource,
    recipe: recipes.Recipe,
    *,
    image_size: int,
    seed: int,
    epoch: int,
    num_epochs: int = 1,
    first_step: int = 0,
    colour_pca: tuple[tuple[float, ...], tuple[tuple[float, ...], ...]] | None = None,
    skipped: Iterable[int] = (),
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """Orders, augments and batches the examples of one epoch or of several.

    Args:
        split: Encoded examples by index.
        recipe: Batch size, crop, augmentations and resize.
        image_size: Side of the crop in pixels.
        seed: With the epoch, fixes the order and every pixel.
        epoch: First epoch, from 0.
        num_epochs: Epochs, one after the other without a pause: the next one is read while one is validated.
        first_step: Step of the first epoch to start from; what went before is not read.
        colour_pca: (stdevs, vectors) of the colours, which the noise of Section 4.1 is sampled from; None is no noise.
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
            f"batch_size must be a multiple of the number of workers; got {recipe.batch_size} and {num_workers}."
        )
    share = recipe.batch_size // num_workers
    # Blocks of consecutive positions are read together: equal parts of a worker's share of a batch.
    block_size = next((size for size in range(reading.BLOCK_SIZE, 7, -1) if share % size == 0), share)
    steps = steps_per_epoch(split, recipe.batch_size)
    replacements = None if not skipped else tf.constant(_replacements(len(split), skipped))

    @tf.autograph.experimental.do_not_convert
    # A block of places in the worker's own epoch is one of positions in everybody's.
    def plan(first_place: tf.Tensor) -> tuple[tf.Tensor, ...]:
        current, place = epoch + first_place // (steps * share), first_place % (steps * share)
        position = place // share * recipe.batch_size + worker * share + place % share
        positions = position + tf.range(block_size, dtype=tf.int64)
        indices = _order(positions, seed, current, len(split))
        if replacements is not None:
            indices = tf.gather(replacements, indices)
        seeds = _seeds_of_images(block_size, seed, current, position, len(recipe.augmentations))
        if colour_pca is None:
            return indices, seeds
        normals = tf.raw_ops.StatelessRandomNormalV2(shape=[block_size, 4], **_philox(seed, 2 * current + 1, position))
        return indices, seeds, augmentations.colour_noise(normals[:, :3], *colour_pca)

    @tf.autograph.experimental.do_not_convert
    def augment(image_bytes: tf.Tensor, label: tf.Tensor, seeds: tf.Tensor, *noise: tf.Tensor) -> tuple:
        image = _train_image(
            image_bytes,
            seeds,
            image_size=image_size,
            crop=recipe.crop,
            augment_with=recipe.augmentations,
            resize=recipe.resize,
            is_square=split.is_square,
        )
        return ((image, *noise) if noise else image), label

    blocks = tf.data.Dataset.range(first_step * share, num_epochs * steps * share, block_size).map(plan)
    examples = split.examples(blocks, augment)
    return examples.batch(share, drop_remainder=True).prefetch(2).with_options(_options())


def _philox(seed: int, stream: int | tf.Tensor, position: tf.Tensor, number: int = 0) -> dict[str, typing.Any]:
    """Returns the arguments with which a random operation of shape [n, 4] draws for n positions from `position` on.

    Philox counts: a counter gives four numbers, so a position's are those of its own counter, however positions are
    divided. One call for a block costs a tenth of one call for each image.
    """
    start = tf.raw_ops.StatelessRandomGetKeyCounter(seed=_seeds(seed, stream))
    counter = start.counter + tf.stack([tf.cast(position, tf.uint64), tf.constant(number, tf.uint64)])
    return {"key": start.key, "counter": counter, "alg": 1}


def _seeds_of_images(count: int, seed: int, epoch: tf.Tensor, position: tf.Tensor, augmentations: int) -> tf.Tensor:
    """Returns the seeds of the crop and of each augmentation, int32 [count, 1 + augmentations, 2], of some positions.

    Of the first four numbers the crop has two; the others are those of the first augmentation.
    """
    bits = [
        tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[count, 4], dtype=tf.int32, **_philox(seed, 2 * epoch, position, number)
        )
        for number in range(max(1, augmentations))
    ]
    return tf.stack([bits[0][:, :2], *(each[:, 2:] for each in bits[:augmentations])], 1)


def _replacements(num_examples: int, skipped: Iterable[int]) -> np.ndarray:
    """Returns int64 [num_examples]: each index, and for a skipped one the next that is not."""
    readable = np.ones(num_examples, bool)
    readable[list(skipped)] = False
    if not readable.any():
        raise errors.DataError("No image of the training split can be read.")
    usable = np.flatnonzero(readable)
    return usable[np.searchsorted(usable, np.arange(num_examples)) % len(usable)].astype("int64")


def evaluation_batches(
    split: datasets.ImageSource,
    *,
    batch_size: int,
    image_size: int,
    resize: str,
    ten_crop: bool = False,
    on_bad_image: str | None = None,
    skipped: dict[int, str] | None = None,
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields every example of a split once, in order.

    Args:
        split: As for `make_train_dataset`.
        batch_size: Examples a batch.
        image_size: Side of the crops in pixels.
        resize: As in `preprocessing.square`.
        ten_crop: Ten crops of each image instead of the centre.
        on_bad_image: "fail", or "skip": an image that cannot be read is left out and reported. None fails, and does not
            name a flag that the command does not have.
        skipped: {index: what is wrong} of images to leave out from the start; those that are found are added.

    Yields:
        (images uint8 [batch, crops, image_size, image_size, 3], labels int32 [batch]) with one centre crop or ten;
        the last batch is smaller.

    Raises:
        DataError: At an image that cannot be read, with its name and the reason.
    """
    skipped = {} if skipped is None else skipped
    left = np.array([index for index in range(len(split)) if index not in skipped], "int64")

    @tf.autograph.experimental.do_not_convert
    def crop(image_bytes: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _evaluation_crops(image_bytes, image_size, resize, ten_crop, is_square=split.is_square), label

    while len(left):
        blocks = tf.data.Dataset.from_tensor_slices((left,)).batch(reading.BLOCK_SIZE)
        crops = split.examples(blocks, crop)
        batches = iter(crops.batch(batch_size).prefetch(2).with_options(_options()))
        try:
            while (batch := next(batches, None)) is not None:
                left = left[batch_size:]
                yield batch
        except READ_ERRORS as error:
            # A block that begins in this batch may end beyond it.
            found = bad_images(split, left[: batch_size + reading.BLOCK_SIZE], error, on_bad_image, skipped)
            left = left[~np.isin(left, list(found))]


def _options() -> tf.data.Options:
    """Turns autotuning off: at an epoch's end its thread was seen to sleep on for up to 40 s before the next began.

    An image's operations are too small to be divided among threads; other images keep them busy.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    # Blocks that wait for slow storage must not keep a processor from decoding.
    options.threading.private_threadpool_size = processors.available_cpus() + reading.PARALLEL_BLOCKS
    return options


def evaluation_crops(
    image_bytes: tf.Tensor,
    image_size: int,
    resize: str,
    ten_crop: bool = False,
    is_square: bool = False,
) -> tf.Tensor:
    """Returns the crops that an image is judged by, uint8 [1 or 10, image_size, image_size, 3]."""
    square = preprocessing.square(image_bytes, resize, is_square)
    if ten_crop:
        return preprocessing.ten_crops(square, image_size)
    return preprocessing.center_crop(square, image_size)[None]


# Tracing takes seconds: it is done once for equal arguments, and not again in each epoch.
_train_image = tf.function(preprocessing.train_image, autograph=False)

_evaluation_crops = tf.function(evaluation_crops, autograph=False)


def steps_per_epoch(split: datasets.ImageSource, batch_size: int) -> int:
    """Returns the number of whole batches in a split.

    Raises:
        DataError: If there is none.
    """
    if len(split) < batch_size:
        raise errors.DataError(
            f"batch_size must be at most the number of training images; got batch_size={batch_size} and "
            f"{len(split)} images. Use --batch_size={max(1, len(split) // 2)} or less."
        )
    return len(split) // batch_size


# What an unreadable image raises, as opposed to memory that ran out.
READ_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.DataLossError,
    tf.errors.UnknownError,
)


def bad_images(
    split: datasets.ImageSource,
    indices: Iterable[int],
    error: Exception,
    on_bad_image: str | None,
    skipped: dict[int, str],
) -> dict[int, str]:
    """Finds which images made a batch fail, and reports them: as an error or as skipped.

    Args:
        split: The examples.
        indices: Those of the batch.
        error: What TensorFlow raised, one of `READ_ERRORS`.
        on_bad_image: "fail", "skip" or None, as for `evaluation_batches`.
        skipped: Images that are skipped already; those that are found are added.

    Returns:
        {index: "file: reason"} of the images found, each of them reported.

    Raises:
        DataError: As `datasets.report_bad_image`.
        Exception: `error` itself, if every image can be read.
    """
    found = _check_images(split, indices)
    if not found:
        raise error
    if on_bad_image == "skip":  # One look at all images costs less than to stop and start again for each bad one.
        found |= _check_images(split, {*range(len(split))} - {*skipped, *found})
    for index, problem in found.items():
        skipped[index] = problem
        datasets.report_bad_image(problem, on_bad_image, len(skipped), len(split))
    return found


def _check_images(split: datasets.ImageSource, indices: Iterable[int]) -> dict[int, str]:
    """Returns {index: "file: reason"} of those images that cannot be read; decodes all, on all processors."""

    def check(index: int) -> str | None:
        try:
            return preprocessing.why_unreadable(split.read(index)[0])
        except OSError as error:
            return reading.reason(error)

    ordered = sorted(map(int, indices))
    with concurrent.futures.ThreadPoolExecutor(2 * processors.available_cpus()) as pool:
        reasons = pool.map(check, ordered)
        bar = tqdm.tqdm(reasons, total=len(ordered), unit="image", desc="Checking images", disable=None, leave=False)
        return {index: f"{split.describe(index)}: {reason}" for reason, index in zip(bar, ordered) if reason}


def batch_indices(
    split: datasets.ImageSource,
    recipe: recipes.Recipe,
    *,
    seed: int,
    epoch: int,
    step: int,
    skipped: Iterable[int] = (),
) -> list[int]:
    """Returns which examples make the batch of a step of an epoch (of all workers), in their order."""
    positions = tf.range(step * recipe.batch_size, (step + 1) * recipe.batch_size, dtype=tf.int64)
    indices = _order(positions, seed, epoch, len(split)).numpy()
    return (_replacements(len(split), skipped)[indices] if skipped else indices).tolist()


def _order(positions: tf.Tensor, seed: int, epoch: int | tf.Tensor, num_examples: int) -> tf.Tensor:
    """Returns which examples stand at some positions of an epoch: a bijection that needs no memory."""
    return tf.random.experimental.index_shuffle(positions, _seeds(seed, epoch), num_examples - 1)


def _seeds(seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
