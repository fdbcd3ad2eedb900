"""CIFAR-10 in memory, and the training of a network on it by the loop of every other run.

The input pipeline of the other networks brings every image to 256 x 256 pixels and cuts windows from there. These
networks read all 32 x 32 pixels, or windows of 24 cut from those, so they have a small input of their own.
"""

import dataclasses
import functools
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations, datasets, discovery, preprocessing
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments.catalogue import Options
from alexnet_tf.network.architectures import Architecture
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, devices, errors
from alexnet_tf.training import loop
from alexnet_tf.training.configure import TrainingError
from alexnet_tf.training.train_step import TrainStep

_LOGGER = logging.getLogger(__name__)

IMAGE_SIZE = 32

# Training errors are averaged over each of so many parts of an epoch.
PARTS = 4


@dataclasses.dataclass(frozen=True)
class Split:
    """Images uint8 [examples, 32, 32, 3], RGB, and their labels int32 [examples]."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class CifarImages:
    """Both splits of CIFAR-10, or of anything of its shape."""

    train: Split
    test: Split

    def mean_image(self, size: int = IMAGE_SIZE) -> np.ndarray:
        """Returns the centre of the training images' mean, float32 [size, size, 3]: what the author subtracts."""
        border = (IMAGE_SIZE - size) // 2
        mean = self.train.images.mean(axis=0, dtype="float64").astype("float32")
        return mean[border : border + size, border : border + size]

    @functools.cached_property
    def colour_pca(self) -> tuple[np.ndarray, np.ndarray]:
        """The training pixels' principal colours: (standard deviations [3], vectors as columns [3, 3])."""
        pixels = self.train.images.reshape(-1, 3).astype("float64")
        variances, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
        return np.sqrt(variances), vectors


def load(options: Options) -> CifarImages:
    """Reads the images that an experiment is asked to use.

    Raises:
        errors.DataError: If there are none, an image has another size, or there are not ten classes.
    """
    if not options.data_dir:
        raise errors.DataError("This experiment needs CIFAR-10: --data_dir=DIR")
    data = discovery.find_dataset(options.data_dir)
    if len(data.class_names) != 10:
        raise errors.DataError(
            f"The CIFAR-10 networks tell ten classes apart; {data.directory} has {len(data.class_names)}."
        )
    return CifarImages(
        _decode(data.splits["train"], data.directory), _decode(data.splits[data.validation], data.directory)
    )


def _decode(split: datasets.ImageSource, directory: str) -> Split:
    def decode(image_bytes: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = preprocessing.decode(image_bytes)
        return tf.image.resize_with_crop_or_pad(image, IMAGE_SIZE, IMAGE_SIZE), label, tf.shape(image)

    batches = split.examples(tf.data.Dataset.range(len(split)).batch(1024), decode).batch(500)
    images, labels, shapes = (np.concatenate(each) for each in zip(*batches.as_numpy_iterator()))
    if (is_other := (shapes[:, :2] != IMAGE_SIZE).any(axis=1)).any():
        place = int(is_other.argmax())
        raise errors.DataError(
            f"The CIFAR-10 networks read images of 32 x 32 pixels; {split.describe(place)} in {directory} has "
            f"{shapes[place, 1]} x {shapes[place, 0]}."
        )
    return Split(images, labels)


def train_batches(images: CifarImages, architecture: Architecture, seed: int, epoch: int) -> Iterator:
    """Yields the whole batches of an epoch: the same ones for the same seed and epoch.

    The examples left over at the end of an epoch are not used in it. Below 32 pixels, each is a random window, mirrored
    half the time, as the author's.

    Yields:
        (uint8 [batch, size, size, 3], int32 [batch]), or with colour noise ((uint8, float32 [batch, 3]), int32), as
        `TrainStep` takes them.
    """
    generator, of_noise = np.random.default_rng([seed, epoch]), np.random.default_rng([seed, epoch, 1])
    size, batch_size = architecture.image_size, architecture.recipe.batch_size
    order = generator.permutation(len(images.train.labels))
    for begin in range(0, len(order) - batch_size + 1, batch_size):
        chosen = np.sort(order[begin : begin + batch_size])
        pixels: Any = images.train.images[chosen]
        if size < IMAGE_SIZE:
            pixels = _random_windows(pixels, size, generator)
        pixels = tf.constant(pixels)
        if architecture.recipe.colour_noise:
            normals = tf.constant(of_noise.normal(size=(batch_size, 3)), tf.float32)
            pixels = pixels, augmentations.colour_noise(normals, *images.colour_pca)  # type: ignore[arg-type]
        yield pixels, tf.constant(images.train.labels[chosen])


def _random_windows(images: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    top, left = generator.integers(0, IMAGE_SIZE - size + 1, (2, len(images)))
    every = np.lib.stride_tricks.sliding_window_view(images, (size, size), (1, 2))
    windows = every[np.arange(len(images)), top, left].transpose(0, 2, 3, 1)
    is_mirrored = generator.random(len(images)) < 0.5
    windows[is_mirrored] = windows[is_mirrored][:, :, ::-1]
    return windows


def evaluation_batches(split: Split, size: int, batch_size: int = 500) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields all examples with the author's nine views of each: top, middle, bottom; left, centre, right.

    Yields:
        (uint8 [batch, 9, size, size, 3], or one view, the whole image, at 32 pixels; int32 [batch]).
    """
    starts = range(0, IMAGE_SIZE - size + 1, (IMAGE_SIZE - size) // 2 or 1)
    for begin in range(0, len(split.labels), batch_size):
        images, labels = (each[begin : begin + batch_size] for each in (split.images, split.labels))
        views = [images[:, top : top + size, left : left + size] for top in starts for left in starts]
        yield tf.constant(np.stack(views, axis=1)), tf.constant(labels)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network of an experiment, which is trained once for each seed.

    Attributes:
        name: For tables and directories; says what distinguishes it from the experiment's others.
        architecture: The network and its recipe, but for the number of epochs. An image size of 32 means whole images,
            a smaller one random windows.
        claim: What the paper says of the difference to the experiment's first network, if it says something.
        paper: The paper's numbers.
        layer_decays: (layer, weight decay) where it is not the recipe's.
    """

    name: str
    architecture: Architecture
    claim: str = ""
    paper: str = ""
    layer_decays: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Curve:
    """What a training has found so far.

    Attributes:
        history: A row for each epoch, as `loop.Loop` keeps it. Its training errors are those before each update:
            "train_top1_error" over all, "train_errors" by part of the epoch.
        has_diverged: Whether the epochs end because the loss is no longer finite.
    """

    history: list[dict]
    has_diverged: bool = False

    def error_after(self, epochs: int) -> float:
        """Returns the training error in the last part of an epoch, or of the last; 1 if the loss is not finite."""
        rows = self.history[:epochs]
        return 1.0 if self.has_diverged and len(rows) < epochs else rows[-1]["train_errors"][-1]

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the training error over time: (epochs at the middle of each part, errors)."""
        values = np.array([error for row in self.history for error in row["train_errors"]])
        return (np.arange(len(values)) + 0.5) / PARTS, values

    def epochs_to(self, error: float) -> float | None:
        """Returns when the training error falls below a value, in epochs, interpolated; None if it does not."""
        times, values = self.points()
        below = np.flatnonzero(values < error)
        if not len(below):
            return None
        around = [below[0], max(below[0] - 1, 0)]
        return float(np.interp(error, values[around], times[around]))


# (variant, seed, epochs) -> curve.
Trainer = Callable[[Variant, int, int], Curve]

# What is trained so far: of each variant, the curves by seed.
Curves = Mapping[Variant, Sequence[Curve]]


def make_trainer(options: Options, folder: str = "trials", **settings: Any) -> Trainer:
    """Returns `train` on an experiment's images, in a folder of its output and in its precision."""
    return functools.partial(
        train,
        images=load(options),
        directory=pathlib.Path(options.output or "") / folder,
        precision=devices.chosen_precision(options.precision),
        **settings,
    )


def train_all(trainer: Trainer, variants: Iterable[Variant], seeds: int, epochs: int) -> Iterator[Curves]:
    """Trains every variant once for each seed, one seed of all variants after the other; yields after each network."""
    curves: dict[Variant, list[Curve]] = {}
    for seed, variant in itertools.product(range(seeds), variants):
        curves.setdefault(variant, []).append(trainer(variant, seed, epochs))
        yield curves


def train(
    variant: Variant,
    seed: int,
    epochs: int,
    *,
    images: CifarImages,
    directory: pathlib.Path,
    precision: str,
    stop_below: float = 0.0,
    test_every: int = 1,
) -> Curve:
    """Trains until a number of epochs is done, or the training error is low enough; goes on from the last checkpoint.

    Args:
        variant: What to train.
        seed: Of the weights, the dropout, and the order and windows of the images.
        epochs: How many in all; those of earlier calls count.
        images: What to train on.
        directory: Where the training's own directory is, or is made.
        precision: Keras dtype policy.
        stop_below: Ends after an epoch whose training error is below this fraction.
        test_every: Epochs from one test error to the next; 0 measures none. The last epoch has one unless this is 0.

    Raises:
        errors.RunError: If the directory holds a training with other settings.
    """
    architecture, name = variant.architecture, f"{variant.name}-seed{seed}".replace(" ", "-")
    run = RunDirectory(directory / name)
    config, has_diverged = TrainConfig(recipe=architecture.recipe, seed=seed, precision=precision), False
    settings = json.dumps([dataclasses.asdict(each) for each in (architecture, config)] + [variant.layer_decays])
    with run.locked():
        if (file := run.path / "trial.json").exists() and file.read_text() != settings:
            raise errors.RunError(
                f"{run} holds a training with other settings. Use another --output, or remove that directory."
            )
        atomic_files.write_bytes(file, settings.encode())
        mean = images.mean_image(architecture.image_size)
        step = TrainStep(architecture, config, mean=mean, layer_decays=dict(variant.layer_decays))
        steps, predict = len(images.train.labels) // config.recipe.batch_size, metrics.make_predictor(step.model)
        feed = _Feed(steps, architecture, seed, epochs, images, test_every, predict)
        recipe = dataclasses.replace(architecture.recipe, epochs=epochs)
        training = loop.Loop(run, step, recipe, feed, _Watcher(name), parts=PARTS, stop_below=stop_below)
        training.resume()
        try:
            training.run()
        except TrainingError as error:
            _LOGGER.info(f"{name}: {error}")
            has_diverged = True
        return Curve(training.state.history, has_diverged)


@dataclasses.dataclass(frozen=True)
class _Watcher(loop.Watcher):
    """Prints a line for each epoch."""

    name: str

    def end_epoch(self, state: loop.TrainState, *_: Any) -> None:
        row = state.history[-1]
        test = "" if row["val_top1_error"] is None else f", test error {row['val_top1_error']:.1%}"
        _LOGGER.info(f"{self.name}: epoch {row['epoch']}, training error {row['train_top1_error']:.1%}{test}")


@dataclasses.dataclass
class _Feed:
    """Feeds a loop from arrays; the arguments are those of `train`."""

    steps: int
    architecture: Architecture
    seed: int
    epochs: int
    images: CifarImages
    test_every: int
    predict: Callable[[tf.Tensor], tf.Tensor]

    def batches(self, state: loop.TrainState, num_epochs: int, has_noise: bool) -> Iterator:
        epochs = range(state.epoch, state.epoch + num_epochs)
        each = (train_batches(self.images, self.architecture, self.seed, epoch) for epoch in epochs)
        return itertools.islice(itertools.chain.from_iterable(each), state.step, None)

    def skip(self, state: loop.TrainState, error: Exception) -> None:
        raise error

    def validate(
        self, state: loop.TrainState, until_signal: Callable[[Iterable], Iterator]
    ) -> metrics.Evaluation | None:
        number = state.epoch + 1
        if not self.test_every or (number % self.test_every and number < self.epochs):
            return None
        batches = evaluation_batches(self.images.test, self.architecture.image_size)
        return metrics.evaluate(self.predict, until_signal(batches), 10)
