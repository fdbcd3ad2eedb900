"""CIFAR-10 in memory: its images as arrays, the batches of an epoch, the views of a test image.

The input pipeline of the other networks brings every image to 256 x 256 pixels and cuts windows from there. These
networks read all 32 x 32 pixels, or windows of 24 cut from those, so they have a small input of their own.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, preprocessing
from alexnet_tf.support import errors

IMAGE_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 [examples, 32, 32, 3], RGB.
        labels: int32 [examples].
    """

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class CifarImages:
    """Both splits of CIFAR-10, or of anything of its shape.

    Attributes:
        train: What is learned from.
        test: What the test error is measured on.
    """

    train: Split
    test: Split

    def mean_image(self, size: int = IMAGE_SIZE) -> np.ndarray:
        """Returns the centre of the training images' mean, float32 [size, size, 3]: what the author subtracts."""
        border = (IMAGE_SIZE - size) // 2
        mean = self.train.images.mean(axis=0, dtype="float64").astype("float32")
        return mean[border : border + size, border : border + size]

    def colour_pca(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the training pixels' principal colours: (standard deviations [3], vectors as columns [3, 3])."""
        pixels = self.train.images.reshape(-1, 3).astype("float64")
        variances, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
        return np.sqrt(variances), vectors


def load(data: datasets.DataSet) -> CifarImages:
    """Decodes both splits.

    Args:
        data: A data set whose images have 32 x 32 pixels.

    Raises:
        errors.DataError: If an image has another size or there are not ten classes.
    """
    if len(data.class_names) != 10:
        raise errors.DataError(
            f"The CIFAR-10 networks tell ten classes apart; {data.directory} has {len(data.class_names)}."
        )
    return CifarImages(
        _decode(data.splits["train"], data.directory), _decode(data.splits[data.validation], data.directory)
    )


def _decode(split, directory: str) -> Split:
    blocks = tf.data.Dataset.range(len(split)).batch(1024)
    examples = split.examples(blocks, lambda image_bytes, label: (preprocessing.decode(image_bytes), label))
    images = np.empty((len(split), IMAGE_SIZE, IMAGE_SIZE, 3), "uint8")
    labels = np.empty(len(split), "int32")
    begin = 0
    for part, part_labels in examples.ragged_batch(
        500
    ).as_numpy_iterator():  # One by one would take four times as long.
        wrong = [index for index, image in enumerate(part) if np.shape(image) != images.shape[1:]]
        if wrong:
            height, width = np.shape(part[wrong[0]])[:2]
            raise errors.DataError(
                f"The CIFAR-10 networks read images of 32 x 32 pixels; {split.describe(begin + wrong[0])} in "
                f"{directory} has {width} x {height}."
            )
        end = begin + len(part_labels)
        images[begin:end], labels[begin:end], begin = part, part_labels, end
    return Split(images, labels)


def synthetic(train: int = 512, test: int = 128, seed: int = 0) -> CifarImages:
    """Returns images of CIFAR-10's shape that a network learns in seconds: one colour and one wave for each class."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]

    def split(count: int) -> Split:
        labels = (np.arange(count) % 10).astype("int32")
        phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
        wave = np.sin((rows * (labels % 2)[:, None, None] + columns * (1 - labels % 2)[:, None, None]) * 0.8 + phase)
        colour = np.random.default_rng(1).uniform(60, 200, (10, 3))[labels]
        images = (
            colour[:, None, None] + 40 * wave[..., None] + generator.normal(0, 12, (count, IMAGE_SIZE, IMAGE_SIZE, 3))
        )
        return Split(np.clip(images, 0, 255).astype("uint8"), labels)

    return CifarImages(split(train), split(test))


def train_batches(
    split: Split, batch_size: int, size: int, *, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the whole batches of an epoch: the same ones for the same seed and epoch.

    Args:
        split: The images.
        batch_size: Images in a batch; the examples left over at the end of an epoch are not used in it.
        size: Side of the images in pixels. Below 32, each is a random window, mirrored half the time, as the author's.
        seed: Any integer.
        epoch: Number of the epoch.

    Yields:
        (uint8 [batch_size, size, size, 3], int32 [batch_size]).
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(split.labels))
    for begin in range(0, len(order) - batch_size + 1, batch_size):
        chosen = np.sort(order[begin : begin + batch_size])
        images = split.images[chosen]
        if size < IMAGE_SIZE:
            images = _random_windows(images, size, generator)
        yield images, split.labels[chosen]


def _random_windows(images: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    top, left = generator.integers(0, IMAGE_SIZE - size + 1, (2, len(images), 1, 1))
    pixels = np.arange(size)
    windows = images[np.arange(len(images))[:, None, None], top + pixels[:, None], left + pixels]
    is_mirrored = generator.random(len(images)) < 0.5
    windows[is_mirrored] = windows[is_mirrored][:, :, ::-1]
    return windows


def views(images: np.ndarray, size: int) -> np.ndarray:
    """Returns the author's nine windows of each image (top, middle, bottom; left, centre, right), or the whole image.

    Args:
        images: uint8 [batch, 32, 32, 3].
        size: Side of a window in pixels; 32 is the whole image.

    Returns:
        uint8 [batch, views, size, size, 3].
    """
    border = (IMAGE_SIZE - size) // 2
    starts = [0, border, 2 * border] if border else [0]
    return np.stack([images[:, top : top + size, left : left + size] for top in starts for left in starts], axis=1)


def evaluation_batches(split: Split, size: int, batch_size: int = 500) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields all examples with their views, as `metrics.evaluate` takes them."""
    for begin in range(0, len(split.labels), batch_size):
        part = slice(begin, begin + batch_size)
        yield tf.constant(views(split.images[part], size)), tf.constant(split.labels[part])
