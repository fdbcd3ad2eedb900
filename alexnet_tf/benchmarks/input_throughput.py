"""How fast is the training input, against the bare decode of the same crops and the pipeline that others have?"""

import dataclasses
import logging
import time
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks import model_throughput, rounds
from alexnet_tf.data import datasets, discovery, input_pipeline, preprocessing, reading
from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, processors, report

# Encoded images of the bare decode, in memory, and the length of an epoch, which repeats the images.
_SAMPLE, _EPOCH = 2048, 20_000

_LOGGER = logging.getLogger(__name__)


def measure(options: model_throughput.Options) -> dict[str, rounds.Speed]:
    """Measures the training input in interleaved rounds with the bare decode and the baseline pipeline.

    Args:
        options: The fields for `input`.

    Returns:
        The speeds by what was measured: the bare decode, which is the limit, the input, the baseline, and the input
        from slow storage if that was asked for.

    Raises:
        DataError: If there is no such data, or no JPEG file among them, whose decoder is the limit.
    """
    data = discovery.find_dataset(options.data_dir) if options.data_dir else discovery.synthetic_dataset()
    originals = discovery.find_dataset(data.source) if data.source else data
    _LOGGER.info(f"{data.summary()}\nThe baseline pipeline reads {originals.directory}.\n")
    architecture, size, split = (
        architectures.ARCHITECTURES[options.architecture],
        options.batch_size,
        data.splits["train"],
    )
    resize = data.resize or architecture.recipe.resize
    recipe = dataclasses.replace(architecture.recipe, batch_size=size, resize=resize)
    pca = (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS) if recipe.colour_noise else None
    # A long epoch, so that its end is seldom seen.
    examples = split.subset(np.resize(np.arange(len(split)), max(_EPOCH, size)))

    def pipeline(examples: Any) -> rounds.Trial:
        epoch = input_pipeline.make_train_dataset(
            examples, recipe, image_size=architecture.image_size, seed=0, epoch=0, colour_pca=pca
        )
        return _trial(epoch, size)

    trials = {
        "bare decode of the same crops, from memory": _trial(
            _bare_decode(split, architecture.image_size, recipe), size
        ),
        "the training input": pipeline(examples),
        "baseline: decode, resize, crop, flip": _trial(
            _baseline(originals.splits["train"], architecture.image_size, size), size
        ),
    }
    if options.read_latency_ms:
        trials["the training input, from slow storage"] = pipeline(_Slow(examples, options.read_latency_ms))
    return rounds.interleave(trials, options.rounds, options.seconds)


def table(speeds: dict[str, rounds.Speed]) -> str:
    """Returns what `measure` found as a table in Markdown."""
    decode, _, baseline, *_ = (speed.median for speed in speeds.values())
    rows = [
        [name, *speed.cells(",.0f"), f"{speed.median / decode:.2f}", f"{speed.median / baseline:.2f}"]
        for name, speed in speeds.items()
    ]
    return report.markdown_table(["", "images/s", "range", "of the decode", "of the baseline"], rows)


class _Slow:
    """An image source on slow storage: each read takes longer."""

    def __init__(self, source: datasets.ImageSource, milliseconds: float):
        self._source, self._seconds = source, milliseconds / 1000

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def read(self, index):
        time.sleep(self._seconds)
        return self._source.read(index)

    def examples(self, blocks, function):
        return reading.read_examples(self, blocks, function)


def _trial(dataset: tf.data.Dataset, batch_size: int) -> rounds.Trial:
    """Returns the trial that takes batches, which are made only while it runs, but for those of buffers."""
    batches = iter(dataset.repeat())
    run = rounds.repeat(lambda: next(batches), batch_size)

    def drained(seconds: float) -> float:
        for _ in range(3):  # They were made in advance, while another case was measured.
            next(batches)
        return run(seconds)

    return drained


def _bare_decode(split: datasets.ImageSource, image_size: int, recipe: recipes.Recipe) -> tf.data.Dataset:
    """Decodes random crops of JPEG files in memory, and nothing else: no reading, mirroring or resizing.

    Windows of originals have many sizes, which do not fit into one batch: one pixel of each is passed on.
    """
    rng = np.random.default_rng(0)
    images, windows = [], []
    for index in range(min(len(split), _SAMPLE)):
        image_bytes = split.image_bytes(index)
        if image_bytes[:2] == b"\xff\xd8":
            whole = tf.io.extract_jpeg_shape(image_bytes).numpy()[:2]
            region = np.repeat(whole.min(), 2)
            offsets = rng.integers(0, architectures.SQUARE_SIZE - image_size + 1, 2)
            begin = (whole - region) // 2 + offsets * region // architectures.SQUARE_SIZE
            images.append(image_bytes)
            windows.append([*begin, *np.maximum(1, region * image_size // architectures.SQUARE_SIZE)])
    if not images:
        raise errors.DataError("There are no JPEG files: the decoder's limit cannot be measured.")

    def decode(image_bytes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=preprocessing.DCT_METHOD)
        return tf.ensure_shape(image, [image_size, image_size, 3]) if split.is_square else image[0, 0]

    windows_of_images = tf.data.Dataset.from_tensor_slices((images, np.array(windows, "int32"))).repeat()
    return _batched(windows_of_images.map(decode, 2 * processors.available_cpus()), recipe.batch_size)


def _baseline(split: datasets.ImageSource, image_size: int, batch_size: int) -> tf.data.Dataset:
    """The usual pipeline: shuffle, decode whole, resize the shorter side to 256, random crop, random flip."""

    def augment(image_bytes: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = architectures.SQUARE_SIZE / tf.reduce_min(shape)
        image = tf.image.resize(image, tf.cast(tf.round(shape * scale), tf.int32))
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
