"""Trains a network for images of 32 pixels, in memory, by the loop of every other run, and goes on where it stopped."""

import dataclasses
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments import cifar_data
from alexnet_tf.network import recipes
from alexnet_tf.network.architectures import Architecture
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, errors
from alexnet_tf.training import loop
from alexnet_tf.training.configure import TrainingError
from alexnet_tf.training.train_step import TrainStep

_LOGGER = logging.getLogger(__name__)

# Training errors are averaged over each of so many parts of an epoch.
PARTS = 4

_SETTINGS, _DIVERGED = "trial.json", "diverged"


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
        return json.dumps(
            dataclasses.asdict(dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, epochs=1)))
        )


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch of a trial found.

    Attributes:
        train_errors: Fractions in [0, 1] of examples classified wrongly before the update, by part of the epoch.
        train_loss: Mean cross-entropy over the epoch, in nats.
        test_error: Fraction of the test images, after the epoch; None if it was not measured.
        seconds: Wall time of its steps.
    """

    train_errors: tuple[float, ...]
    train_loss: float
    test_error: float | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """The epochs of a trial so far.

    Attributes:
        epochs: One entry for each.
        has_diverged: Whether the loss is no longer finite; there are no further epochs then.
    """

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
    images: cifar_data.CifarImages,
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
        epochs: How many in all.
        stop_below: Ends after an epoch whose training error is below this fraction.
        test_every: Epochs from one test error to the next; 0 measures none. The last epoch has one unless this is 0.

    Returns:
        All epochs, those of earlier calls included.

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
        atomic_files.atomic_write(run.path / _SETTINGS, lambda file: file.write(trial.settings().encode()))
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

    def end_epoch(
        self,
        state: loop.TrainState,
        result: metrics.Evaluation | None,
        waited: float,
        is_best: bool,
        note: str | None,
    ) -> None:
        row = state.history[-1]
        test = f", test error {result.top1_error:.1%}" if result else ""
        _LOGGER.info(
            f"{self._name}: epoch {row['epoch']}, training error {row['train_top1_error']:.1%}{test}, "
            f"{row['images_per_second']:.0f} images/s"
        )


class _Feed:
    """Feeds a loop from arrays."""

    def __init__(
        self, trial: Trial, images: cifar_data.CifarImages, step: TrainStep, epochs: int, test_every: int
    ) -> None:
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
        for pixels, labels in cifar_data.train_batches(
            self._images.train, batch_size, size, seed=trial.seed, epoch=epoch
        ):
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
        batches = cifar_data.evaluation_batches(self._images.test, self._trial.architecture.image_size)
        return metrics.evaluate(self._predict, until_signal(batches), 10)
