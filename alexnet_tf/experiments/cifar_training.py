"""Trains a network for images of 32 pixels, in memory, and goes on where it was stopped.

The step (network, loss, SGD) and the checkpoints are those of every other run. The loop is its own, for three reasons:
`trainer` reads windows of 256 x 256 images, validates after each epoch only and stops at a number of epochs, where
Figure 1 needs whole images of 32 pixels, the training error four times an epoch and an end at 25 %.
"""

import dataclasses
import logging
import pathlib
import time

import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments import cifar_data
from alexnet_tf.network import recipes
from alexnet_tf.network.architectures import Architecture
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from alexnet_tf.training import schedules
from alexnet_tf.training.train_step import TrainStep

_LOG = logging.getLogger(__name__)

# Training errors are averaged over each of so many parts of an epoch.
PARTS = 4


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network that is trained once.

    Attributes:
        name: Its directory's name; says what distinguishes it from the experiment's other trials.
        architecture: The network. An image size of 32 means whole images, a smaller one random windows.
        recipe: Batch size, rates and schedule; "plateau" is not for this loop.
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

    def settings(self) -> dict:
        """Returns all that decides about the result, but for the number of epochs; as JSON."""
        recipe = dataclasses.replace(self.recipe, epochs=recipes.Recipe().epochs)
        return {
            "architecture": _described(self.architecture),
            "recipe": _described(recipe),
            "seed": self.seed,
            "precision": self.precision,
            "layer_decays": [list(each) for each in self.layer_decays],
        }


def _described(value: object) -> object:
    """Returns a dataclass as JSON, without fields at their default: one that is added later changes nothing."""
    if isinstance(value, tuple):
        return [_described(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    changed = {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    }
    return {name: _described(each) for name, each in changed.items()}


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch of a trial found.

    Attributes:
        train_errors: Fractions in [0, 1] of examples classified wrongly before the update, by part of the epoch.
        train_loss: Mean cross-entropy over the epoch, in nats.
        test_error: Fraction of the test images, after the epoch; None if it was not measured.
        seconds: Wall time, with that of the test.
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
        stop_below: Ends after an epoch whose mean training error is below this fraction.
        test_every: Epochs from one test error to the next; 0 measures none. The last epoch has one unless this is 0.

    Returns:
        All epochs, those of earlier calls included.

    Raises:
        errors.RunError: If the directory holds a trial with other settings.
    """
    run = RunDirectory(pathlib.Path(directory) / trial.name)
    curve = read_curve(trial, directory)
    if _is_over(curve, epochs, stop_below):
        return curve
    step = TrainStep(
        trial.architecture,
        trial.recipe,
        mean=images.mean_image(trial.architecture.image_size),
        seed=trial.seed,
        precision=trial.precision,
        layer_decays=dict(trial.layer_decays),
    )
    if checkpoint := run.read_checkpoint():
        checkpoints.restore(step.variables, checkpoint[0])
    predict = metrics.make_predictor(step.model)
    with run.locked():
        while not _is_over(curve, epochs, stop_below):
            curve = _run_epoch(trial, images, step, curve, epochs)
            number = len(curve.epochs)
            if (
                test_every
                and not curve.has_diverged
                and (number % test_every == 0 or _is_over(curve, epochs, stop_below))
            ):
                begin = time.perf_counter()
                test = metrics.evaluate(
                    predict, cifar_data.evaluation_batches(images.test, trial.architecture.image_size), 10
                ).top1_error
                *earlier, last = curve.epochs
                seconds = last.seconds + time.perf_counter() - begin
                curve = Curve((*earlier, dataclasses.replace(last, test_error=test, seconds=seconds)))
            arrays = {variable.path: variable.numpy() for variable in step.variables}
            run.write_checkpoint(number, arrays, {"settings": trial.settings(), **dataclasses.asdict(curve)})
            _report(trial, curve)
    return curve


def read_curve(trial: Trial, directory: str | pathlib.Path) -> Curve:
    """Returns what a trial has found so far, without its weights.

    Raises:
        errors.RunError: If the directory holds a trial with other settings.
    """
    run = RunDirectory(pathlib.Path(directory) / trial.name)
    checkpoint = run.read_checkpoint(is_wanted=lambda name: False)
    if checkpoint is None:
        return Curve()
    state = checkpoint[1]
    if state["settings"] != trial.settings():
        raise errors.RunError(
            f"{run} holds a trial with other settings. Use another --output, or remove that directory."
        )
    return Curve(
        tuple(Epoch(**epoch | {"train_errors": tuple(epoch["train_errors"])}) for epoch in state["epochs"]),
        state["has_diverged"],
    )


def _is_over(curve: Curve, epochs: int, stop_below: float) -> bool:
    if curve.has_diverged or len(curve.epochs) >= epochs:
        return True
    return bool(curve.epochs) and float(np.mean(curve.epochs[-1].train_errors)) < stop_below


def _run_epoch(trial: Trial, images: cifar_data.CifarImages, step: TrainStep, curve: Curve, epochs: int) -> Curve:
    """Trains for an epoch and returns the curve with it; the test error is not measured here."""
    begin, batch_size = time.perf_counter(), trial.recipe.batch_size
    steps, epoch = len(images.train.labels) // batch_size, len(curve.epochs)
    batches = cifar_data.train_batches(
        images.train, batch_size, trial.architecture.image_size, seed=trial.seed, epoch=epoch
    )
    generator, pca = (
        np.random.default_rng([trial.seed, epoch, 1]),
        images.colour_pca() if trial.recipe.colour_noise else None,
    )
    losses, wrong = [], []
    for index, (pixels, labels) in enumerate(batches):
        step.set_rates(schedules.rates(trial.recipe, epoch * steps + index, epochs * steps))
        batch = tf.constant(pixels)
        if pca:
            normals = tf.constant(generator.normal(size=(batch_size, 3)), tf.float32)
            batch = batch, augmentations.colour_noise(normals, *pca)  # type: ignore[arg-type]
        result = step((batch, tf.constant(labels)))
        if not np.isfinite(result.loss):
            return Curve(curve.epochs, has_diverged=True)
        losses.append(result.loss)
        wrong.append(result.wrong / batch_size)
    parts = tuple(float(np.mean(part)) for part in np.array_split(wrong, PARTS) if len(part))
    return Curve((*curve.epochs, Epoch(parts, float(np.mean(losses)), None, time.perf_counter() - begin)))


def _report(trial: Trial, curve: Curve) -> None:
    if curve.has_diverged:
        _LOG.info(f"{trial.name}: the loss is no longer finite after epoch {len(curve.epochs)}")
        return
    last = curve.epochs[-1]
    test = "" if last.test_error is None else f", test error {last.test_error:.1%}"
    _LOG.info(
        f"{trial.name}: epoch {len(curve.epochs)}, training error {np.mean(last.train_errors):.1%}{test}, "
        f"{last.seconds:.0f} s"
    )
