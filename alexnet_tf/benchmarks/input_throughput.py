"""How fast is the training input, against the bare decode and the pipeline that most programs have."""

import dataclasses
import os
import time

import numpy as np
import tensorflow as tf

from alexnet_tf import architectures, errors, recipes
from alexnet_tf.benchmarks import worker_process
from alexnet_tf.data import datasets, input_pipeline, preprocessing, tfrecords

# Encoded images that the bare decode is given, from memory.
_SAMPLE = 2048


@dataclasses.dataclass(frozen=True)
class InputSpeeds:
    """What `benchmark_input` measured.

    Attributes:
        pipeline: What `train.py` reads with.
        decode: The bare decode of the same crops, bytes in memory, nothing else: the limit.
        obvious: Decode whole, resize, random crop, flip, on the originals.
        peak_bytes: How much memory the pipeline and the index of its epoch took at most.
        first_batch_seconds: Time to the first batch at the first step of an epoch and at its last.
        images: How many the epoch had.
    """

    pipeline: worker_process.Speed
    decode: worker_process.Speed
    obvious: worker_process.Speed
    peak_bytes: int | None
    first_batch_seconds: tuple[float, float]
    images: int


def benchmark_input(
    data: datasets.DataSet, originals: datasets.DataSet, *, recipe: recipes.Recipe, image_size: int, num_images: int,
    rounds: int = 5, seconds: float = 2.0) -> InputSpeeds:
    """Measures the training input against the decoder and against the obvious pipeline.

    Args:
        data: What to read; its training split is taken again and again.
        originals: What the obvious pipeline reads: the same, or what it was prepared from.
        recipe: Batch size, crop and resize; with colour noise, if the recipe has it.
        image_size: Side of the crop in pixels.
        num_images: How long an epoch is pretended to be.
        rounds: How often each one's turn comes.
        seconds: How long a turn is.

    Returns:
        The speeds.
    """
    split = data.splits["train"]
    pca = (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS) if recipe.colour_noise else None

    def epoch(examples, first_step=0):
        return input_pipeline.make_train_dataset(
            examples, recipe, image_size=image_size, seed=0, epoch=0, first_step=first_step, colour_pca=pca)

    # What TensorFlow does once in a process, time and memory, is nobody's.
    next(iter(epoch(split.subset(np.resize(np.arange(len(split)), recipe.batch_size)))))
    before = worker_process.reset_peak()
    repeated = split.subset(np.resize(np.arange(len(split)), max(num_images, recipe.batch_size)))
    last_step = input_pipeline.steps_per_epoch(repeated, recipe.batch_size) - 1
    first = tuple(_seconds_to_first_batch(lambda step=step: epoch(repeated, step)) for step in (0, last_step))
    contestants = {"pipeline": _forever(epoch(repeated), recipe.batch_size)}
    _images_per_second(contestants["pipeline"], seconds)
    peak = None if before is None else max(0, worker_process.memory("VmHWM") - before)
    contestants["decode"] = _forever(_bare_decode(split, image_size, recipe), recipe.batch_size)
    contestants["obvious"] = _forever(_obvious(originals.splits["train"], image_size, recipe.batch_size), recipe.batch_size)
    speeds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            speeds[name].append(_images_per_second(contestant, seconds))
    return InputSpeeds(
        **{name: worker_process.Speed(name, tuple(each)) for name, each in speeds.items()}, peak_bytes=peak, first_batch_seconds=first,
        images=len(repeated))


def _forever(dataset, batch_size):
    """Yields the size of each batch as it comes."""
    for _ in dataset.repeat():
        yield batch_size


def _images_per_second(batches, seconds) -> float:
    time.sleep(0.5)  # The one before fills its buffers up.
    for _ in range(3):  # What was made in advance.
        next(batches)
    images, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        images += next(batches)
    return images / elapsed


def _seconds_to_first_batch(make) -> float:
    start = time.perf_counter()
    next(iter(make()))
    return time.perf_counter() - start


def _bare_decode(split, image_size, recipe) -> tf.data.Dataset:
    """Decodes random windows of JPEG images in memory into batches: no reading, mirroring or resizing.

    Windows of originals have many sizes, which make no batch: of them one pixel is handed on.
    """
    rng = np.random.default_rng(0)
    images, windows = [], []
    for index in range(min(len(split), _SAMPLE)):
        image_bytes = split.image_bytes(index)
        if image_bytes[:2] == b"\xff\xd8":
            height, width = tf.io.extract_jpeg_shape(image_bytes).numpy()[:2]
            whole = np.array([height, width])
            region = whole if recipe.resize == "caffe" else np.repeat(whole.min(), 2)
            offsets = rng.integers(0, architectures.SQUARE_SIZE - image_size + 1, 2)
            begin = (whole - region) // 2 + offsets * region // architectures.SQUARE_SIZE
            images.append(image_bytes)
            windows.append([*begin, *np.maximum(1, region * image_size // architectures.SQUARE_SIZE)])
    if not images:
        raise errors.DataError("The images are no JPEG files: there is no decoder's limit to compare with.")

    def decode(image_bytes, window):
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=preprocessing.DCT_METHOD)
        return tf.ensure_shape(image, [image_size, image_size, 3]) if split.is_square else image[0, 0]

    dataset = tf.data.Dataset.from_tensor_slices((images, np.array(windows, "int32")))
    return _finished(dataset.repeat().map(decode, num_parallel_calls=2 * os.cpu_count()), recipe.batch_size)


def _obvious(split, image_size, batch_size) -> tf.data.Dataset:
    """What most programs do: shuffle, decode whole, resize the shorter side to 256, random crop, random flip."""
    def augment(image_bytes):
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        size = tf.cast(tf.round(shape * architectures.SQUARE_SIZE / tf.reduce_min(shape)), tf.int32)
        image = tf.image.resize(image, size)
        image = tf.image.random_crop(image, [image_size, image_size, 3])
        return tf.image.random_flip_left_right(image)

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(split)),)).repeat().shuffle(len(split))
    return _finished(split.examples(indices.batch(tfrecords.BLOCK_SIZE), lambda image_bytes, _: augment(image_bytes)), batch_size)


def _finished(examples, batch_size) -> tf.data.Dataset:
    """Batches, without autotuning: who waits for his turn would else go on filling his buffers in another's."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    return examples.batch(batch_size, drop_remainder=True).prefetch(2).with_options(options)
