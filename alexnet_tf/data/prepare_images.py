"""What `prepare` does with each image: the square as JPEG, and its share of the statistics."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, image_headers, image_statistics, other_formats, preprocessing
from alexnet_tf.support import errors, processors


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """A prepared image; `jpeg` is None where it cannot be read, for the reason in `problem`."""

    name: str
    label: int = -1
    jpeg: bytes | None = None
    is_rotated: bool = False
    problem: str | None = None


# Some examples, how to resize them, the JPEG quality, and whether they count for the statistics.
Chunk = tuple[datasets.ImageSource, str, int, bool]

Result = tuple[list[PreparedImage], image_statistics.Sums]


def set_up_process() -> None:
    """Makes a worker process use one core and no GPU, and end when its parent is gone, also by SIGKILL."""
    processors.hide_gpus()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    processors.end_with_parent()


@contextlib.contextmanager
def processed(chunks: Sequence[Chunk], processes: int, initializer: Callable[[], None]) -> Iterator[Iterator[Result]]:
    """Gives an iterator over the results of the chunks, in order; several processes work a few chunks ahead."""
    if processes == 1 or len(chunks) < 2:
        yield map(prepare_images, chunks)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(chunks)), multiprocessing.get_context("spawn"), initializer
    )

    def results() -> Iterator[Result]:
        futures: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        to_do = iter(chunks)
        while True:
            ahead = itertools.islice(to_do, 2 * processes - len(futures))
            futures.extend(pool.submit(prepare_images, chunk) for chunk in ahead)
            if not futures:
                return
            yield futures.popleft().result()

    try:
        yield results()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise errors.DataError(
            "A process was killed, for lack of memory perhaps. What is done is kept: go on with "
            f"--processes={max(1, processes // 2)}."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prepare_images(chunk: Chunk) -> Result:
    """Prepares some examples."""
    examples, resize, quality, is_train = chunk
    images, sums = [], image_statistics.Sums()
    for index in range(len(examples)):
        name = examples.describe(index)
        try:
            pixels, jpeg, is_rotated = _prepare_image(examples.image_bytes(index), resize, quality)
            images.append(PreparedImage(name, examples.label(index), jpeg, is_rotated))
        except (other_formats.UnreadableImage, OSError) as error:
            images.append(PreparedImage(name, problem=getattr(error, "strerror", None) or str(error)))
            continue
        if is_train:
            sums.add_image(pixels)
    return images, sums


def _prepare_image(image_bytes: bytes, resize: str, quality: int) -> tuple[np.ndarray, bytes, bool]:
    """Returns (the square, uint8 [256, 256, 3]; the same as JPEG; whether EXIF had it rotated)."""
    image_bytes = other_formats.as_readable(image_bytes)
    try:
        pixels, orientation = _graph_of_square(resize)(tf.constant(image_bytes))
        jpeg = tf.io.encode_jpeg(pixels, quality=quality, chroma_downsampling=True)
    except tf.errors.OpError as error:
        reason = preprocessing.why_unreadable(image_bytes) or preprocessing.DAMAGED
        raise other_formats.UnreadableImage(reason) from error
    return pixels.numpy(), jpeg.numpy(), int(orientation) > 1


@functools.cache
def _graph_of_square(resize: str) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def square(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return preprocessing.square(image_bytes, resize), image_headers.inspect_header(image_bytes)[2]

    return tf.function(square, input_signature=[tf.TensorSpec([], tf.string)])
