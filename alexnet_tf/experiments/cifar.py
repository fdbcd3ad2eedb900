"""CIFAR-10 in memory, and the training of a network on it by the loop of every other run.

The input pipeline of the other networks brings every image to 256 x 256 pixels and cuts windows from there. These
networks read all 32 x 32 pixels, or windows of 24 cut from those, so they have a small input of their own.
"""

import dataclasses
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations, datasets, discovery, preprocessing
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments.catalogue import Options
from alexnet_tf.network import recipes
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

_SETTINGS, _DIVERGED = "trial.json", "diverged"


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

    def colour_pca(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the training pixels' principal colours: (standard deviations [3], vectors as columns [3, 3])."""
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
    blocks = tf.data.Dataset.range(len(split)).batch(1024)
    examples = split.examples(blocks, lambda image_bytes, label: (preprocessing.decode(image_bytes), label))
    images: list[np.ndarray] = []
    labels: list[int] = []
    # One by one would take four times as long.
    for part, part_labels in examples.ragged_batch(500).as_numpy_iterator():
        for place, image in enumerate(part, len(images)):
            if np.shape(image) != (IMAGE_SIZE, IMAGE_SIZE, 3):
                height, width = np.shape(image)[:2]
                raise errors.DataError(
                    f"The CIFAR-10 networks read images of 32 x 32 pixels; {split.describe(place)} in {directory} has "
                    f"{width} x {height}."
                )
        images += list(part)
        labels += part_labels.tolist()
    return Split(np.array(images, "uint8"), np.array(labels, "int32"))


def train_batches(
    split: Split, batch_size: int, size: int, *, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the whole batches of an epoch: the same ones for the same seed and epoch.

    The examples left over at the end of an epoch are not used in it. Below 32 pixels, `size`, each is a random window,
    mirrored half the time, as the author's.

    Yields:
        (uint8 [batch_size, size, size, 3], int32 [batch_size]).
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(split.labels))
    for begin in range(0, len(order) - batch_size + 1, batch_size):
        chosen = np.sort(order[begin : begin + batch_size])
        images = split.images[chosen]
        if size < IMAGE_SIZE:
            images = _random_windows(images, size, generator)
        yield images, split.labels[chosen]


def _random_windows(images: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    top, left = generator.integers(0, IMAGE_SIZE - size + 1, (2, len(images), 1, 1))
    pixels = np.arange(size)
    windows = images[np.arange(len(images))[:, None, None], top + pixels[:, None], left + pixels]
    is_mirrored = generator.random(len(images)) < 0.5
    windows[is_mirrored] = windows[is_mirrored][:, :, ::-1]
    return windows


def views(images: np.ndarray, size: int) -> np.ndarray:
    """Returns the author's nine windows of each image (top, middle, bottom; left, centre, right), or the whole image.

    From uint8 [batch, 32, 32, 3] to uint8 [batch, views, size, size, 3].
    """
    border = (IMAGE_SIZE - size) // 2
    starts = [0, border, 2 * border] if border else [0]
    return np.stack([images[:, top : top + size, left : left + size] for top in starts for left in starts], axis=1)


def evaluation_batches(split: Split, size: int, batch_size: int = 500) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields all examples with their views, as `metrics.evaluate` takes them."""
    for begin in range(0, len(split.labels), batch_size):
        part = slice(begin, begin + batch_size)
        yield tf.constant(views(split.images[part], size)), tf.constant(split.labels[part])


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network that is trained once.

    Attributes:
        name: Its directory's name; says what distinguishes it from the experiment's other trials.
        architecture: The network. An image size of 32 means whole images, a smaller one random windows.
        recipe: Batch size, rates and schedule.
        seed: Of the weights, the dropout, and the order and windows of the images.
        precision: Keras dtype policy.
        layer_decays: (layer, weight decay) where it is not the recipe's.
    """

    name: str
    architecture: Architecture
    recipe: recipes.Recipe
    seed: int = 0
    precision: str = "float32"
    layer_decays: tuple[tuple[str, float], ...] = ()

    def settings(self) -> str:
        """Returns all that decides about the result, but for the number of epochs, as JSON."""
        recipe = dataclasses.replace(self.recipe, epochs=1)
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, recipe=recipe)))


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch of a trial found: errors are fractions in [0, 1], the loss is in nats, seconds are of its steps.

    The training errors are those before each update, by part of the epoch; a test error may not have been measured.
    """

    train_errors: tuple[float, ...]
    train_loss: float
    test_error: float | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """The epochs of a trial so far, and whether they end because the loss is no longer finite."""

    epochs: tuple[Epoch, ...] = ()
    has_diverged: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def error(self) -> float:
        """Training error in the last part of the last epoch; 1 if nothing was learned or the loss is not finite."""
        return 1.0 if self.has_diverged or not self.epochs else self.epochs[-1].train_errors[-1]

    def first(self, epochs: int) -> "Curve":
        """Returns the curve as it was after so many epochs."""
        return Curve(self.epochs[:epochs], self.has_diverged and len(self.epochs) < epochs)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the training error over time: (epochs at the middle of each part, errors)."""
        values = np.array([error for epoch in self.epochs for error in epoch.train_errors])
        return (np.arange(len(values)) + 0.5) / PARTS, values

    def epochs_to(self, error: float) -> float | None:
        """Returns when the training error falls below a value, in epochs, interpolated; None if it does not."""
        times, values = self.points()
        below = np.flatnonzero(values < error)
        if not len(below):
            return None
        if (last := below[0]) == 0:
            return float(times[0])
        fraction = (values[last - 1] - error) / (values[last - 1] - values[last])
        return float(times[last - 1] + fraction * (times[last] - times[last - 1]))


def run_trial(
    trial: Trial,
    images: CifarImages,
    directory: str | pathlib.Path,
    epochs: int,
    *,
    stop_below: float = 0.0,
    test_every: int = 1,
) -> Curve:
    """Trains until a number of epochs is done, or the training error is low enough; goes on from the last checkpoint.

    Args:
        trial: What to train.
        images: What to train on.
        directory: Where the trial's own directory is, or is made.
        epochs: How many in all; those of earlier calls count.
        stop_below: Ends after an epoch whose training error is below this fraction.
        test_every: Epochs from one test error to the next; 0 measures none. The last epoch has one unless this is 0.

    Raises:
        errors.RunError: If the directory holds a trial with other settings.
    """
    run = RunDirectory(pathlib.Path(directory) / trial.name)
    recipe = dataclasses.replace(trial.recipe, epochs=epochs)
    curve = _read_curve(run, trial)
    if curve.has_diverged or len(curve.epochs) >= epochs:
        return curve
    step = TrainStep(
        trial.architecture,
        TrainConfig(recipe=recipe, seed=trial.seed, precision=trial.precision),
        mean=images.mean_image(trial.architecture.image_size),
        layer_decays=dict(trial.layer_decays),
    )
    with run.locked():
        atomic_files.write_bytes(run.path / _SETTINGS, trial.settings().encode())
        feed = _Feed(trial, images, step, epochs, test_every)
        training = loop.Loop(run, step, recipe, feed, _Watcher(trial.name), parts=PARTS, stop_below=stop_below)
        training.resume()
        try:
            training.run()
        except TrainingError as error:
            _LOGGER.info(f"{trial.name}: {error}")
            (run.path / _DIVERGED).touch()
    return _read_curve(run, trial)


def _read_curve(run: RunDirectory, trial: Trial) -> Curve:
    """Returns what a trial has found so far."""
    settings = run.path / _SETTINGS
    if settings.exists() and settings.read_text() != trial.settings():
        raise errors.RunError(
            f"{run} holds a trial with other settings. Use another --output, or remove that directory."
        )
    checkpoint = run.read_checkpoint(is_wanted=lambda name: False)
    history = checkpoint[1]["history"] if checkpoint else []
    images = trial.recipe.batch_size
    return Curve(
        tuple(
            Epoch(
                tuple(row["train_errors"]),
                row["train_loss"],
                row["val_top1_error"],
                row["step"] / row["epoch"] * images / row["images_per_second"],
            )
            for row in history
        ),
        (run.path / _DIVERGED).exists(),
    )


class _Watcher(loop.Watcher):
    """Prints a line for each epoch."""

    def __init__(self, name: str):
        self._name = name

    def end_epoch(self, state: loop.TrainState, *_: Any) -> None:
        row = state.history[-1]
        test = "" if row["val_top1_error"] is None else f", test error {row['val_top1_error']:.1%}"
        _LOGGER.info(f"{self._name}: epoch {row['epoch']}, training error {row['train_top1_error']:.1%}{test}")


class _Feed:
    """Feeds a loop from arrays."""

    def __init__(self, trial: Trial, images: CifarImages, step: TrainStep, epochs: int, test_every: int) -> None:
        self.steps = len(images.train.labels) // trial.recipe.batch_size
        self._trial, self._images, self._epochs, self._test_every = trial, images, epochs, test_every
        self._predict = metrics.make_predictor(step.model)
        self._pca = images.colour_pca() if trial.recipe.colour_noise else None

    def batches(self, state: loop.TrainState, num_epochs: int, has_noise: bool) -> Iterator:
        epochs = map(self._epoch, range(state.epoch, state.epoch + num_epochs))
        return itertools.islice(itertools.chain.from_iterable(epochs), state.step, None)

    def _epoch(self, epoch: int) -> Iterator:
        trial = self._trial
        size, batch_size = trial.architecture.image_size, trial.recipe.batch_size
        generator = np.random.default_rng([trial.seed, epoch, 1])
        for pixels, labels in train_batches(self._images.train, batch_size, size, seed=trial.seed, epoch=epoch):
            batch = tf.constant(pixels)
            if self._pca:
                normals = tf.constant(generator.normal(size=(batch_size, 3)), tf.float32)
                batch = batch, augmentations.colour_noise(normals, *self._pca)  # type: ignore[arg-type]
            yield batch, tf.constant(labels)

    def skip(self, state: loop.TrainState, error: Exception) -> None:
        raise error

    def validate(
        self, state: loop.TrainState, until_signal: Callable[[Iterable], Iterator]
    ) -> metrics.Evaluation | None:
        number = state.epoch + 1
        if not self._test_every or (number % self._test_every and number < self._epochs):
            return None
        batches = evaluation_batches(self._images.test, self._trial.architecture.image_size)
        return metrics.evaluate(self._predict, until_signal(batches), 10)


def trials_of(options: Options) -> tuple[pathlib.Path, str]:
    """Returns the directory of an experiment's trials and the precision that they are trained in."""
    return pathlib.Path(options.output or ".") / "trials", devices.chosen_precision(options.precision)
