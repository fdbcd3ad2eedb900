"""How fast is the training input, against the bare decode and a baseline pipeline, and what bounds it on more cores?"""

import dataclasses
import time

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks import rounds, worker_process
from alexnet_tf.data import datasets, input_pipeline, preprocessing, reading
from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, processors, timing

# Encoded images of the bare decode, in memory.
_SAMPLE = 2048

# Images in each measurement of the stages.
_STAGE_IMAGES = 1024


@dataclasses.dataclass(frozen=True)
class InputStage:
    """The cost of a stage of the training input."""

    name: str
    microseconds: float  # Processor time an image.
    is_serial: bool  # Whether one thread at a time works on it.


@dataclasses.dataclass(frozen=True)
class InputThroughput:
    """What `benchmark_input` measured."""

    pipeline: rounds.Speed  # The training input.
    decode: rounds.Speed  # The bare decode of the same crops, from bytes in memory: the limit.
    baseline: rounds.Speed  # Decode whole, resize, random crop, flip, on the originals.
    peak_bytes: int  # Memory of the training input and the index of its epoch.
    first_batch_seconds: tuple[float, float]  # At the first step of an epoch and at its last.
    images: int  # Length of the epoch.
    delayed: rounds.Speed | None = None  # The training input from slow storage.
    stages: tuple[InputStage, ...] = ()

    def ceilings(self, cores: int) -> tuple[float, float]:
        """Returns the most images a second on a number of such cores.

        Returns:
            (by Amdahl's law, with one serial stage at a time; with them beside each other, as they run in tf.data).
        """
        serial = [stage.microseconds for stage in self.stages if stage.is_serial]
        total = sum(stage.microseconds for stage in self.stages)
        return 1e6 / (sum(serial) + (total - sum(serial)) / cores), 1e6 / max(*serial, total / cores)


def benchmark_input(
    data: datasets.DataSet,
    originals: datasets.DataSet,
    *,
    recipe: recipes.Recipe,
    image_size: int,
    num_images: int,
    num_rounds: int = 5,
    seconds: float = 2.0,
    read_latency: float = 0.0,
) -> InputThroughput:
    """Measures the training input in interleaved rounds with the bare decode and the baseline pipeline.

    Args:
        data: The images; the training split is repeated.
        originals: What the baseline reads: the same, or what it was prepared from.
        recipe: Batch size, crop and resize, and whether there is colour noise.
        image_size: Side of the crop in pixels.
        num_images: Length of the epoch.
        num_rounds: Number of rounds after the warm-up.
        seconds: Shortest duration of a trial.
        read_latency: If positive, the training input is also measured with each read delayed by so many seconds.
    """
    split, size = data.splits["train"], recipe.batch_size
    pca = (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS) if recipe.colour_noise else None

    def repeated(count):
        return split.subset(np.resize(np.arange(len(split)), max(count, size)))

    def epoch(examples, first_step=0):
        return input_pipeline.make_train_dataset(
            examples, recipe, image_size=image_size, seed=0, epoch=0, first_step=first_step, colour_pca=pca
        )

    def measure_pipeline():
        examples = repeated(num_images)
        first = tuple(
            timing.seconds(lambda step=step: next(iter(epoch(examples, step))))
            for step in (0, input_pipeline.steps_per_epoch(examples, size) - 1)
        )
        trial = _trial(epoch(examples), size)
        trial(seconds)
        return trial, first, len(examples)

    next(iter(epoch(repeated(size))))  # Time and memory that TensorFlow needs once in a process are not the pipeline's.
    _, before = worker_process.peak_host_memory(lambda: None)
    (trial, first, images), peak = worker_process.peak_host_memory(measure_pipeline)
    cases = {
        "pipeline": trial,
        "decode": _trial(_bare_decode(split, image_size, recipe), size),
        "baseline": _trial(_baseline(originals.splits["train"], image_size, size), size),
    }
    if read_latency:
        cases["delayed"] = _trial(epoch(_Slow(repeated(num_images), read_latency)), size)
    return InputThroughput(
        **rounds.interleave(cases, num_rounds, seconds),
        peak_bytes=max(0, peak - before),
        first_batch_seconds=first,
        images=images,
        stages=_stages(repeated(_STAGE_IMAGES // size * size), epoch),
    )


def _trial(dataset, batch_size) -> rounds.Trial:
    """Returns the trial that takes batches, which are made only while it runs, but for those of buffers."""
    batches = iter(dataset.repeat())
    run = rounds.repeat(lambda: next(batches), batch_size)

    def drained(seconds: float) -> float:
        for _ in range(3):  # They were made in advance, while another case was measured.
            next(batches)
        return run(seconds)

    return drained


class _Slow:
    """An image source each of whose reads takes longer by some seconds."""

    def __init__(self, source, seconds):
        self._source, self._seconds = source, seconds

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def examples(self, blocks, function):
        return reading.read_examples(self, blocks, function)

    def read(self, index):
        time.sleep(self._seconds)
        return self._source.read(index)


class _Recorder(_Slow):
    """An image source that remembers what it was asked for."""

    def examples(self, blocks, function):
        self.arguments = blocks, function
        return self._source.examples(blocks, function)


def _stages(split, epoch) -> tuple[InputStage, ...]:
    """Measures the stages of an epoch: what each one adds to the processor time of those before it."""
    recorder = _Recorder(split, 0)
    batches = epoch(recorder)
    blocks, augment = recorder.arguments
    reads = split.examples(blocks, lambda image_bytes, label, *others: label)
    examples = split.examples(blocks, augment)
    same = tf.data.Dataset.from_tensors(next(iter(examples))).repeat(len(split))  # Batching alone, to be exact.
    batch_size = len(tf.nest.flatten(next(iter(batches)))[0])
    planned, read, augmented, batched = (
        min(_processor_seconds(dataset) for _ in range(3)) / len(split) * 1e6
        for dataset in (blocks, reads, examples, same.batch(batch_size))
    )
    return (
        InputStage("order and random numbers", planned, is_serial=True),
        InputStage("reading", max(0.0, read - planned), is_serial=True),
        InputStage("decoding and augmentation", max(0.0, augmented - read), is_serial=False),
        InputStage("batching", batched, is_serial=True),
    )


def _processor_seconds(dataset) -> float:
    """Returns the processor time of all elements of a data set; windows of them, because Python's own time counts."""
    windows = iter(_without_autotuning(dataset.window(128)))
    start = time.process_time()
    for _ in windows:
        pass
    return time.process_time() - start


def _bare_decode(split, image_size, recipe) -> tf.data.Dataset:
    """Decodes random windows of JPEG images in memory into batches: no reading, mirroring or resizing.

    Windows of originals have many sizes, which do not fit into one batch: one pixel of each is passed on.
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
        raise errors.DataError("There are no JPEG files: the decoder's limit cannot be measured.")

    def decode(image_bytes, window):
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=preprocessing.DCT_METHOD)
        return tf.ensure_shape(image, [image_size, image_size, 3]) if split.is_square else image[0, 0]

    windows_of_images = tf.data.Dataset.from_tensor_slices((images, np.array(windows, "int32"))).repeat()
    return _batched(windows_of_images.map(decode, 2 * processors.available_cpus()), recipe.batch_size)


def _baseline(split, image_size, batch_size) -> tf.data.Dataset:
    """The usual pipeline: shuffle, decode whole, resize the shorter side to 256, random crop, random flip."""

    def augment(image_bytes, _):
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = architectures.SQUARE_SIZE / tf.reduce_min(shape)
        image = tf.image.resize(image, tf.cast(tf.round(shape * scale), tf.int32))
        image = tf.image.random_crop(image, [image_size, image_size, 3])
        return tf.image.random_flip_left_right(image)

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(split)),)).repeat().shuffle(len(split))
    return _batched(split.examples(indices.batch(reading.BLOCK_SIZE), augment), batch_size)


def _batched(examples, batch_size) -> tf.data.Dataset:
    return _without_autotuning(examples.batch(batch_size, drop_remainder=True).prefetch(2))


def _without_autotuning(dataset) -> tf.data.Dataset:
    """Turns off autotuning, which would go on filling buffers while another case is measured."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)
