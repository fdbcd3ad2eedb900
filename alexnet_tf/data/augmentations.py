"""How training images vary: random crops, and what is done to a crop: a table of each.

Each is a pure function with a seed of its own, int32 [2], which depends on (training seed, epoch, example, place in the
list) only: so the same seed gives the same pixels on any number of threads and after any resume, and
`tf.random.stateless_*` and `tf.image.stateless_*` give as many random numbers as it likes. A recipe names an
augmentation, "mirror", or sets its keyword arguments too: "NAME:probability=0.5:area=0.2".
"""

import functools
import inspect
from collections.abc import Callable, Sequence

import tensorflow as tf

from alexnet_tf.network import architectures
from alexnet_tf.support import errors


def window_crop(
    shape: tf.Tensor, region: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor, image_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns one of the windows of the 256 x 256 square, every offset with the same probability (Section 4.1).

    Args:
        shape: int32 [2], height and width of the image.
        region: (begin, extent), float32 [2] each, the part of the image that becomes the square.
        seed: int32 [2].
        image_size: Side of the crop in pixels.

    Returns:
        (begin, extent), float32 [2] each, in pixels of the image.
    """
    begin, extent = region
    offsets = tf.cast(window_offsets(seed, image_size), tf.float32)
    return begin + offsets / architectures.SQUARE_SIZE * extent, extent * image_size / architectures.SQUARE_SIZE


def window_offsets(seed: tf.Tensor, image_size: int) -> tf.Tensor:
    """Returns how far down and to the right the window of a square is, int32 [2], ends included."""
    return tf.cast(_uniform(seed) * (architectures.SQUARE_SIZE - image_size + 1), tf.int32)


def random_resized_crop(
    shape: tf.Tensor, region: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor, image_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns 8 to 100 % of the image's area at an aspect ratio of 3/4 to 4/3, as torchvision does."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], 0),
        tf.zeros([1, 0, 4]),
        tf.bitcast(_uniform(seed), tf.int32),
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.cast(begin[:2], tf.float32), tf.cast(size[:2], tf.float32)


def _uniform(seed: tf.Tensor) -> tf.Tensor:
    """Returns the two numbers in [0, 1) that a seed's own bits are, float32 [2]: as `tf.random` makes them of bits."""
    return tf.cast(seed & 0x7FFFFF, tf.float32) / 2**23


# The values of `recipes.Recipe.crop`.
CROPS: dict[str, Callable[..., tuple[tf.Tensor, tf.Tensor]]] = {
    "window": window_crop,
    "random_resized": random_resized_crop,
}


def mirror(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors an image half of the time (Section 4.1)."""
    # tf.reverse is ten times as fast as a slice with a negative step.
    return tf.cond(_uniform(seed)[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


# What `recipes.Recipe.augmentations` names: functions of a training crop, uint8 [size, size, 3], and of a seed, int32
# [2]; keyword arguments are numbers, and have defaults.
AUGMENTATIONS: dict[str, Callable[..., tf.Tensor]] = {
    "mirror": mirror,
}


def parse(texts: Sequence[str]) -> list[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Returns the functions that a recipe names, in its order.

    Raises:
        UserError: If there is no such augmentation or argument; lists those that there are.
    """
    functions: list[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = []
    for text in texts:
        name, *settings = text.split(":")
        if name not in AUGMENTATIONS:
            raise errors.UserError(f"augmentations must be of {', '.join(AUGMENTATIONS)}; got {text!r}.")
        known = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
        try:
            arguments = {key: float(value) for key, value in (each.split("=") for each in settings)}
        except ValueError as error:
            raise errors.UserError(f"Write an augmentation as NAME or NAME:KEY=NUMBER; got {text!r}.") from error
        if not arguments.keys() <= set(known):
            raise errors.UserError(f"{name} has the arguments {', '.join(known) or 'none'}; got {text!r}.")
        functions.append(functools.partial(AUGMENTATIONS[name], **arguments))
    return functions


def check(crop: str, texts: Sequence[str]) -> None:
    """Refuses a crop or an augmentation that there is not.

    Raises:
        UserError: Lists those that there are.
    """
    if crop not in CROPS:
        raise errors.UserError(f"crop must be one of {', '.join(CROPS)}; got {crop!r}.")
    parse(texts)


def augment(image: tf.Tensor, seeds: tf.Tensor, texts: Sequence[str]) -> tf.Tensor:
    """Applies augmentations to a crop.

    Args:
        image: uint8 [size, size, 3], RGB.
        seeds: int32 [number of augmentations, 2].
        texts: As for `parse`, in the order in which they are applied.
    """
    for number, function in enumerate(parse(texts)):
        image = function(image, seeds[number])
    return image


def colour_noise(normals: tf.Tensor, stdevs: tuple[float, ...], vectors: tuple[tuple[float, ...], ...]) -> tf.Tensor:
    """Returns the colours that are added to all pixels of each image, float32 [n, 3] in grey levels.

    Section 4.1 multiplies the eigenvectors by a * eigenvalue, a ~ N(0, 0.1); the author's code has the eigenvalue's
    square root, without which the noise would be a thousand grey levels.

    Args:
        normals: float32 [n, 3], standard normal.
        stdevs: Standard deviations of the three colour components, in grey levels.
        vectors: Components as columns, rows R, G, B.
    """
    components = 0.1 * normals * tf.constant(stdevs, tf.float32)
    matrix = tf.constant(vectors, tf.float32)
    # A matrix product would round differently for another n.
    return sum((components[:, i : i + 1] * matrix[:, i] for i in range(1, 3)), components[:, :1] * matrix[:, 0])


def add_noise(images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Adds each image's colour to all its pixels: float32 [batch, height, width, 3], unclipped (Section 4.1)."""
    return tf.cast(images, tf.float32) + noise[:, None, None]
