"""How fast is the training input, against the bare decode of the same crops and the pipeline that others have?"""

import dataclasses
import logging
import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks import model_throughput, rounds
from alexnet_tf.data import datasets, discovery, input_pipeline, preprocessing, reading
from alexnet_tf.network import architectures
from alexnet_tf.support import errors, processors

# Encoded images of the bare decode, in memory, and the length of an epoch, which repeats the images.
_SAMPLE, _EPOCH = 2048, 20_000

_LOGGER = logging.getLogger(__name__)


def measure(options: model_throughput.Options) -> rounds.Rates:
    """Measures the training input in interleaved rounds with the bare decode and the baseline pipeline.

    Args:
        options: The fields for `input`.

    Returns:
        The rates of the bare decode, which is the limit, of the input, of the baseline, and of the input from slow
        storage if that was asked for.

    Raises:
        DataError: If there is no such data, or no JPEG file among them, whose decoder is the limit.
    """
    data = discovery.find_dataset(options.data_dir) if options.data_dir else discovery.synthetic_dataset()
    originals = discovery.find_dataset(data.source) if data.source else data
    _LOGGER.info(f"{data.summary()}\nThe baseline pipeline reads {originals.directory}.\n")
    architecture, split = architectures.ARCHITECTURES[options.architecture], data.splits["train"]
    size, batch_size, recipe = architecture.image_size, options.batch_size, architecture.recipe
    recipe = dataclasses.replace(recipe, batch_size=batch_size, resize=data.resize or recipe.resize)
    pca = (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS) if recipe.colour_noise else None
    # A long epoch, so that its end is seldom seen.
    examples = split.subset(np.resize(np.arange(len(split)), max(_EPOCH, batch_size)))

    def pipeline(examples: datasets.ImageSource) -> tf.data.Dataset:
        return input_pipeline.make_train_dataset(examples, recipe, image_size=size, seed=0, epoch=0, colour_pca=pca)

    cases = {
        "bare decode of the same crops, from memory": _bare_decode(split, size, batch_size),
        "the training input": pipeline(examples),
        "baseline: decode, resize, crop, flip": _baseline(originals.splits["train"], size, batch_size),
    }
    if options.read_latency_ms:
        cases["the training input, from slow storage"] = pipeline(_slow(examples, options.read_latency_ms))
    trials = {name: _trial(dataset, batch_size) for name, dataset in cases.items()}
    return rounds.interleave(trials, options.rounds, options.seconds)


def table(rates: rounds.Rates) -> str:
    """Returns what `measure` found as a table in Markdown."""
    decode, _, baseline, *_ = map(statistics.median, rates.values())
    columns = {"of the decode": lambda rate: rate / decode, "of the baseline": lambda rate: rate / baseline}
    return rounds.table(rates, ",.0f", columns)


def _slow(source: datasets.ImageSource, milliseconds: float) -> datasets.ImageSource:
    """Returns the same examples on slow storage: each read takes longer."""

    class Slow(type(source)):  # type: ignore[misc]
        def read(self, index: int) -> tuple[bytes, Any]:
            time.sleep(milliseconds / 1000)
            return super().read(index)

    return Slow(**{field.name: getattr(source, field.name) for field in dataclasses.fields(source)})  # type: ignore[arg-type]


def _trial(dataset: tf.data.Dataset, batch_size: int) -> rounds.Trial:
    """Returns the trial that takes batches, which are made only while it runs, but for those of buffers."""
    batches = iter(dataset.repeat())
    run = rounds.repeat(lambda: next(batches), batch_size)

    def drained(seconds: float) -> float:
        for _ in range(3):  # They were made in advance, while another case was measured.
            next(batches)
        return run(seconds)

    return drained


def _bare_decode(split: datasets.ImageSource, image_size: int, batch_size: int) -> tf.data.Dataset:
    """Decodes random crops of JPEG files in memory, and nothing else: no reading, mirroring or resizing.

    Windows of originals have many sizes, which do not fit into one batch: one pixel of each is passed on.
    """
    rng = np.random.default_rng(0)
    images, windows = [], []
    for image_bytes in map(split.image_bytes, range(min(len(split), _SAMPLE))):
        if image_bytes[:2] == b"\xff\xd8":
            shape = tf.io.extract_jpeg_shape(image_bytes).numpy()[:2]
            side = shape.min()
            offsets = rng.integers(0, architectures.SQUARE_SIZE - image_size + 1, 2) * side // architectures.SQUARE_SIZE
            extent = max(1, side * image_size // architectures.SQUARE_SIZE)
            images.append(image_bytes)
            windows.append([*(shape - side) // 2 + offsets, extent, extent])
    if not images:
        raise errors.DataError("There are no JPEG files: the decoder's limit cannot be measured.")

    def decode(image_bytes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=preprocessing.DCT_METHOD)
        return tf.ensure_shape(image, [image_size, image_size, 3]) if split.is_square else image[0, 0]

    windows_of_images = tf.data.Dataset.from_tensor_slices((images, np.array(windows, "int32"))).repeat()
    return _batched(windows_of_images.map(decode, 2 * processors.available_cpus()), batch_size)


def _baseline(split: datasets.ImageSource, image_size: int, batch_size: int) -> tf.data.Dataset:
    """The usual pipeline: shuffle, decode whole, resize the shorter side to 256, random crop, random flip."""

    def augment(image_bytes: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        shape = tf.shape(image)[:2]
        size = tf.round(architectures.SQUARE_SIZE * shape / tf.reduce_min(shape))
        image = tf.image.resize(tf.ensure_shape(image, [None, None, 3]), tf.cast(size, tf.int32))
        image = tf.image.random_crop(image, [image_size, image_size, 3])
        return tf.image.random_flip_left_right(image)

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(split)),)).repeat().shuffle(len(split))
    return _batched(split.examples(indices.batch(reading.BLOCK_SIZE), augment), batch_size)


def _batched(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches examples without autotuning, which would go on filling buffers while another case is measured."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    return examples.batch(batch_size, drop_remainder=True).prefetch(2).with_options(options)
