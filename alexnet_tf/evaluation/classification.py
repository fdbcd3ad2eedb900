"""Classifies image files in batches: read and decoded by several threads while the network computes."""

import collections
import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.data import input_pipeline, plain_images
from alexnet_tf.evaluation import image_arguments
from alexnet_tf.support import processors

# Tracing a graph takes as long as decoding this many images without one.
_TRACING_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class Classification:
    """What the network says about an image.

    Attributes:
        file: The image's file.
        error: Why it could not be read, or None.
        log_probabilities: float32 [classes], or None.
    """

    file: str
    error: str | None
    log_probabilities: np.ndarray | None = None


def classify(
    predict: Callable[[tf.Tensor], tf.Tensor],
    paths: Iterable[str],
    *,
    image_size: int,
    resize: str,
    ten_crop: bool = False,
    batch_size: int = 32,
    on_read: Callable[[str, bytes], object] | None = None,
) -> Iterator[Classification]:
    """Classifies image files, in their order; in memory are two batches.

    Args:
        predict: From `metrics.make_predictor`.
        paths: Files; they are asked for as they are needed.
        image_size: Side of the crops in pixels.
        resize: As in `preprocessing.square`.
        ten_crop: Ten crops of each image instead of the centre.
        batch_size: Crops at a time.
        on_read: Called with each file and what was read, as JPEG or PNG, by several threads.
    """

    def read(path: str) -> bytes:
        image_bytes = image_arguments.read(path)
        if on_read:
            on_read(path, image_bytes)
        return image_bytes

    size = max(1, batch_size // (10 if ten_crop else 1))
    for batch in _batched(_crops(paths, read, image_size, resize, ten_crop, 2 * size), size):
        readable = [crops for _, crops in batch if not isinstance(crops, str)]
        results = iter(predict(tf.stack(readable)).numpy() if readable else ())
        for path, crops in batch:
            yield Classification(path, crops) if isinstance(crops, str) else Classification(path, None, next(results))


def _batched(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _crops(
    paths: Iterable[str],
    read: Callable[[str], bytes],
    image_size: int,
    resize: str,
    ten_crop: bool,
    ahead: int,
) -> Iterator[tuple[str, tf.Tensor | str]]:
    """Yields (file, crops uint8 [crops, size, size, 3], or why it cannot be read), `ahead` images being prepared."""

    def crop(image_bytes: tf.Tensor) -> tf.Tensor:
        return input_pipeline.evaluation_crops(image_bytes, image_size, resize, ten_crop)

    iterator = iter(paths)
    first = list(itertools.islice(iterator, _TRACING_IMAGES))
    if len(first) == _TRACING_IMAGES:
        crop = tf.function(crop, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)

    def load(path: str) -> tf.Tensor | str:
        try:
            image_bytes = read(path)
            return crop(tf.constant(image_bytes))
        except image_arguments.UnreadableImage as error:
            return str(error)
        except tf.errors.OpError:
            return plain_images.DAMAGED

    with concurrent.futures.ThreadPoolExecutor(2 * processors.available_cpus(), "decode") as pool:
        waiting: collections.deque = collections.deque()
        for path in itertools.chain(first, iterator):
            waiting.append((path, pool.submit(load, path)))
            if len(waiting) > ahead:
                path, future = waiting.popleft()
                yield path, future.result()
        for path, future in waiting:
            yield path, future.result()
