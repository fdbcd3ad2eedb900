"""What `prepare` does with some images, in other processes: the square as JPEG, a file of records, exact sums."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, plain_images, preprocessing, reading, tfrecords
from alexnet_tf.network import architectures
from alexnet_tf.support import atomic_files, errors, processors

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """A prepared image; `jpeg` is None where it cannot be read, for the reason in `problem`."""

    name: str
    label: int = -1
    jpeg: bytes | None = None
    problem: str | None = None


@dataclasses.dataclass
class Sums:
    """Exact sums over the pixels of some images: the order in which they come does not matter.

    Attributes:
        images: How many.
        pixels: uint64 [256, 256, 3], over the images.
        products: uint64 [3, 3], over all pixels: of each colour times each colour.
    """

    images: int = 0
    pixels: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3), "uint64")
    )
    products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((3, 3), "uint64"))

    def add_image(self, image: np.ndarray) -> None:
        """Adds an image, uint8 [256, 256, 3]."""
        flat = image.reshape(-1, 3).astype("float64")  # Whole numbers below 2^53 are exact.
        self.add(Sums(1, image, (flat.T @ flat).astype("uint64")))

    def add(self, other: "Sums") -> None:
        """Adds the sums over other images."""
        self.images += other.images
        self.pixels += other.pixels
        self.products += other.products

    def statistics(self) -> datasets.Statistics:
        """Returns the mean and the components of the colours."""
        mean_image = self.pixels / self.images
        mean_pixel = mean_image.mean(axis=(0, 1))
        covariance = self.products / (self.images * architectures.SQUARE_SIZE**2) - np.outer(mean_pixel, mean_pixel)
        variances, vectors = np.linalg.eigh(covariance)
        vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(3)])  # eigh leaves the sign to chance.
        return datasets.Statistics(
            tuple(mean_pixel.tolist()),
            mean_image.astype("float32"),
            tuple(np.sqrt(np.maximum(variances, 0)).tolist()),
            tuple(map(tuple, vectors.tolist())),
        )


# Some examples, how to resize them, and whether they count for the statistics.
Chunk = tuple[datasets.ImageSource, str, bool]

Result = tuple[list[PreparedImage], Sums]


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
    pool, processes = None, min(processes, len(chunks))
    if processes > 1:
        try:
            pool = processors.pool(processes, initializer)
        except errors.UserError as error:
            _LOGGER.info(f"{error} One process works.")
    if pool is None:
        yield map(prepare_images, chunks)
        return

    def results() -> Iterator[Result]:
        futures: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        for chunk in chunks:
            futures.append(pool.submit(prepare_images, chunk))
            if len(futures) == 2 * processes:
                yield futures.popleft().result()
        yield from (future.result() for future in futures)

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
    examples, resize, is_train = chunk
    images, sums = [], Sums()
    for index in range(len(examples)):
        name = examples.describe(index)
        try:
            content, label = examples.read(index)
            pixels, jpeg = _prepare_image(content, resize)
            images.append(PreparedImage(name, label, jpeg))
        except (plain_images.UnreadableImage, OSError) as error:
            images.append(PreparedImage(name, problem=reading.reason(error)))
            continue
        if is_train:
            sums.add_image(pixels)
    return images, sums


def _prepare_image(image_bytes: bytes, resize: str) -> tuple[np.ndarray, bytes]:
    """Returns the square, uint8 [256, 256, 3], and the same as JPEG."""
    try:
        pixels = _square(tf.constant(plain_images.plain(image_bytes)), resize)
        jpeg = tf.io.encode_jpeg(pixels, quality=95, chroma_downsampling=True)
    except tf.errors.OpError as error:
        raise plain_images.UnreadableImage(plain_images.DAMAGED) from error
    return pixels.numpy(), jpeg.numpy()


_square = tf.function(preprocessing.square, autograph=False)


def write_shard(path: pathlib.Path, results: Iterable[Result], source: str) -> None:
    """Writes a TFRecord file, and last, beside it, its summary, which says that both are whole."""
    records, labels, digests, skipped, sums = [], [], [], [], Sums()
    for images, chunk_sums in results:  # Nothing is open yet: what fails here is not the writing.
        sums.add(chunk_sums)
        for image in images:
            if image.jpeg is None:
                skipped.append({"file": image.name, "reason": image.problem})
            else:
                labels.append(image.label)
                digests.append(int.from_bytes(hashlib.sha256(image.jpeg).digest()[:8]))
                records.append(tfrecords.framed(_record(image, source)))
    atomic_files.atomic_write(path, lambda file: file.writelines(records))
    arrays = {"labels": np.array(labels, "int32"), "digests": np.array(digests, "uint64")}
    summary = {**arrays, "skipped": json.dumps(skipped), **vars(sums)}
    atomic_files.atomic_write(summary_of(path), lambda file: np.savez(file, **summary))


def summary_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the file beside a shard that lists what is in it."""
    return path.with_name(f"{path.name}.npz")


def _record(image: PreparedImage, source: str) -> bytes:
    name = os.fsencode(image.name.removeprefix(f"{source}/"))
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.jpeg])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
