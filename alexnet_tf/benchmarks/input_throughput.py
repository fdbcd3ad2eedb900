"""How fast is the training input, against the bare decode and the pipeline that most programs have?"""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from alexnet_tf import architectures, errors, recipes, timing
from alexnet_tf.benchmarks import rounds, worker_process
from alexnet_tf.data import datasets, input_pipeline, preprocessing, tfrecords

# Encoded images of the bare decode, in memory.
_SAMPLE = 2048


@dataclasses.dataclass(frozen=True)
class InputThroughput:
    """What `benchmark_input` measured."""

    pipeline: rounds.Speed  # What `train.py` reads with.
    decode: rounds.Speed  # The bare decode of the same crops, from bytes in memory: the limit.
    baseline: rounds.Speed  # Decode whole, resize, random crop, flip, on the originals.
    peak_bytes: int  # Memory of the pipeline and the index of its epoch.
    first_batch_seconds: tuple[float, float]  # At the first step of an epoch and at its last.
    images: int  # In the epoch.


def benchmark_input(
    data: datasets.DataSet, originals: datasets.DataSet, *, recipe: recipes.Recipe, image_size: int, num_images: int,
    num_rounds: int = 5, seconds: float = 2.0) -> InputThroughput:
    """Measures the training input in interleaved rounds with the decoder and the baseline pipeline.

    Args:
        data: What to read; its training split is repeated.
        originals: What the baseline reads: the same, or what it was prepared from.
        recipe: Batch size, crop and resize; with colour noise, if the recipe has it.
        image_size: Side of the crop in pixels.
        num_images: Length of the epoch.
        num_rounds: How many rounds follow the warm-up.
        seconds: Least duration of a trial.
    """
    split, size = data.splits["train"], recipe.batch_size
    pca = (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS) if recipe.colour_noise else None

    def epoch(examples, first_step=0):
        return input_pipeline.make_train_dataset(
            examples, recipe, image_size=image_size, seed=0, epoch=0, first_step=first_step, colour_pca=pca)

    def measure_pipeline():
        repeated = split.subset(np.resize(np.arange(len(split)), max(num_images, size)))
        first = tuple(timing.seconds(lambda step=step: next(iter(epoch(repeated, step)))) for step in (
            0, input_pipeline.steps_per_epoch(repeated, size) - 1))
        trial = _trial(epoch(repeated), size)
        trial(seconds)
        return trial, first, len(repeated)

    # Time and memory that TensorFlow needs once in a process are not the pipeline's.
    next(iter(epoch(split.subset(np.resize(np.arange(len(split)), size)))))
    _, before = worker_process.peak_host_memory(lambda: None)
    (trial, first, images), peak = worker_process.peak_host_memory(measure_pipeline)
    speeds = rounds.interleave({
        "pipeline": trial, "decode": _trial(_bare_decode(split, image_size, recipe), size),
        "baseline": _trial(_baseline(originals.splits["train"], image_size, size), size)}, num_rounds, seconds)
    return InputThroughput(**speeds, peak_bytes=max(0, peak - before), first_batch_seconds=first, images=images)


def _trial(dataset, batch_size) -> rounds.Trial:
    batches = iter(dataset.repeat())
    run = rounds.repeat(lambda: next(batches), batch_size)

    def drained(seconds: float) -> float:
        for _ in range(3):  # What was made in advance, while another was measured.
            next(batches)
        return run(seconds)

    return drained


def _bare_decode(split, image_size, recipe) -> tf.data.Dataset:
    """Decodes random windows of JPEG images in memory into batches: no reading, mirroring or resizing.

    Windows of originals have many sizes, which make no batch: of them one pixel is passed on.
    """
    rng = np.random.default_rng(0)
    images, windows = [], []
    for index in range(min(len(split), _SAMPLE)):
        image_bytes = split.image_bytes(index)
        if image_bytes[:2] == b"\xff\xd8":
            whole = tf.io.extract_jpeg_shape(image_bytes).numpy()[:2]
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
    return _batched(dataset.repeat().map(decode, num_parallel_calls=2 * (os.cpu_count() or 1)), recipe.batch_size)


def _baseline(split, image_size, batch_size) -> tf.data.Dataset:
    """What most programs do: shuffle, decode whole, resize the shorter side to 256, random crop, random flip."""
    def augment(image_bytes, _):
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = architectures.SQUARE_SIZE / tf.reduce_min(shape)
        image = tf.image.resize(image, tf.cast(tf.round(shape * scale), tf.int32))
        image = tf.image.random_crop(image, [image_size, image_size, 3])
        return tf.image.random_flip_left_right(image)

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(split)),)).repeat().shuffle(len(split))
    return _batched(split.examples(indices.batch(tfrecords.BLOCK_SIZE), augment), batch_size)


def _batched(examples, batch_size) -> tf.data.Dataset:
    """Batches, without autotuning, which would go on filling buffers while another is measured."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    return examples.batch(batch_size, drop_remainder=True).prefetch(2).with_options(options)
