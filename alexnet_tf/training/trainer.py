"""Trains a network: epochs, validation, checkpoints and exact resume.

An epoch's data begins at its first step to do, so that a run can be killed anywhere and ends with the same bits. What
a batch is, is in `input_pipeline`; what a step computes, and where, in `train_step`; how fast it learns, in
`schedules`; what is printed, in `reporter`; what a checkpoint holds, in `state`.
"""

import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations, datasets, input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import xla
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import MEAN_IMAGE, RunConfig, TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import devices
from alexnet_tf.training import distribution, run_setup, schedules, tensorboard, transfer_learning
from alexnet_tf.training.checkpoint_writer import CheckpointWriter
from alexnet_tf.training.reporter import Reporter, TrainingError
from alexnet_tf.training.state import TrainState
from alexnet_tf.training.stop_signal import StopSignal
from alexnet_tf.training.train_step import StepResult, TrainStep

_EVALUATION_BATCH_SIZE = 128

# A long epoch is checked this often for a loss that does not fall; ImageNet's has 10,009 steps.
_STUCK_STEPS = 5000

# Called after each step with the state and the step; for tests and for programs that watch a run.
StepCallback = Callable[[TrainState, TrainStep], None]


def train(
    train_config: TrainConfig,
    data: datasets.DataSet,
    path: str | pathlib.Path,
    *,
    placement: distribution.Placement | None = None,
    checkpoint_minutes: float = 10.0,
    on_bad_image: str = "fail",
    on_step_end: StepCallback | None = None,
) -> bool:
    """Trains to the end, going on from the run's last checkpoint if there is one.

    Args:
        train_config: How to train.
        data: What to train on.
        path: The run's directory; many workers must all see it.
        placement: Where to compute; by default as `distribution.make_placement` finds best.
        checkpoint_minutes: Longest time between checkpoints; there is one at each epoch's end anyway.
        on_bad_image: "fail", or "skip": an image that cannot be read is reported, and the next one takes its place.
        on_step_end: Called after each step.

    Returns:
        Whether the run is complete; False if a signal ended it early, after a checkpoint.

    Raises:
        errors.RunError: If the directory holds another run or cannot be written.
        errors.DataError: If an image cannot be read.
        transfer_learning.TransferError: If the weights of another run cannot be taken over as asked.
        TrainingError: If the loss is no longer finite, or the run's settings contradict each other.
    """
    if train_config.jit and train_config.deterministic:
        raise TrainingError("--jit does not go with --deterministic: XLA has no max-pooling gradient that is.")
    if train_config.jit and not xla.is_usable():
        raise TrainingError("--jit needs XLA, which cannot be used here. Leave it out.")
    placement = (placement or distribution.make_placement()).for_batch_size(train_config.recipe.batch_size)
    keras.utils.set_random_seed(train_config.seed)
    devices.set_numerics(tf32=True, deterministic=train_config.deterministic)
    run = RunDirectory(path)
    is_chief = placement.worker == 0
    with (
        StopSignal() as stop,
        run.locked() if is_chief else contextlib.nullcontext(),
        run_setup.lost_workers_reported(placement),
    ):
        if train_config.precision == "auto":
            begun = run.read_config()
            precision = begun.train.precision if begun else devices.default_precision(placement.devices)
            train_config = dataclasses.replace(train_config, precision=precision)
        run_config = run_setup.make_run_config(
            train_config, data, transfer_learning.find_source(train_config.init_from, run)
        )
        run.check_same_config(run_config)
        run_setup.check_that_workers_agree(placement, run, run_config)
        # Before anything is written: fails where there is not one whole batch.
        input_pipeline.steps_per_epoch(data.splits["train"], train_config.recipe.batch_size)
        augmentations.check(train_config.recipe.crop, train_config.recipe.augmentations)
        mean = run_setup.input_mean(run, run_config, data)
        step = _make_step(run_config, placement, mean, data)
        if is_chief:
            run.check_disk_space(checkpoints.num_bytes((v.shape, v.dtype) for v in step.variables))
            if run_config.mean == MEAN_IMAGE:
                run.write_mean_image(np.asarray(mean))
            run.write_config(run_config, data.class_names)
        return _Trainer(run, run_config, data, step, stop, checkpoint_minutes, on_bad_image, on_step_end).run()


def _make_step(run_config: RunConfig, placement: distribution.Placement, mean, data: datasets.DataSet) -> TrainStep:
    config, is_balanced = run_config.train, run_config.train.class_weight == "balanced"
    weights = run_setup.balanced_class_weights(data.splits["train"], data.class_names) if is_balanced else None
    new = transfer_learning.new_layers(run_config) if run_config.source else ()
    return TrainStep(
        run_config.architecture,
        config.recipe,
        placement,
        mean=mean,
        seed=config.seed,
        precision=config.precision,
        jit=config.jit,
        frozen=config.freeze,
        class_weights=weights,
        layer_multipliers=dict.fromkeys(new, config.recipe.new_layer_learning_rate_multiplier),
    )


class _SignalCame(Exception):
    """Ends a validation early."""


class _Trainer:
    """Orders what happens in a run: steps, checkpoints, validations, epochs."""

    def __init__(
        self,
        run: RunDirectory,
        run_config: RunConfig,
        data: datasets.DataSet,
        step: TrainStep,
        stop: StopSignal,
        checkpoint_minutes: float,
        on_bad_image: str,
        on_step_end: StepCallback | None,
    ):
        self._directory, self._run_config, self._data, self._step = run, run_config, data, step
        self._config, self._recipe, self._placement = run_config.train, run_config.train.recipe, step.placement
        self._is_chief, self._is_alone = self._placement.worker == 0, self._placement.num_workers == 1
        self._checkpoint_seconds, self._on_bad_image = checkpoint_minutes * 60, on_bad_image
        self._on_step_end, self._stop, self._writer = on_step_end, stop, CheckpointWriter()
        self._train_split, self._validation_split = data.splits["train"], data.splits[data.validation]
        self._steps = input_pipeline.steps_per_epoch(self._train_split, self._recipe.batch_size)
        self._predict = metrics.make_predictor(step.model)
        self._reporter = Reporter(
            run,
            run_config,
            steps=self._steps,
            is_chief=self._is_chief,
            chance_loss=run_setup.chance_loss(self._train_split, len(data.class_names)),
            caveat=run_setup.validation_caveat(self._validation_split, len(data.class_names)),
        )
        self._log = tensorboard.Log(run, data.class_names, self._steps) if self._is_chief else None
        self._state = TrainState()
        # A result is read when the next step has begun, so that a GPU never waits for Python; but a callback sees the
        # variables as its step left them, and workers must stop at the same step.
        self._is_pipelined = self._is_alone and on_step_end is None
        self._is_stopping = False
        self._saved_at = self._validation_seconds = self._waited_seconds = 0.0
        # (Batches that are being read already, the epoch before which they end); None if they must be begun anew.
        self._batches: tuple[Iterator, int] | None = None

    def run(self) -> bool:
        """Runs what is left to do; returns whether the run is complete."""
        self._reporter.start(self._step)
        self._resume()
        try:
            self._is_stopping = self._is_alone and self._stop.number is not None
            while not self._is_complete() and not self._is_stopping:
                self._run_epoch()
        except tf.errors.ResourceExhaustedError as error:
            raise self._reporter.out_of_memory() from error
        finally:
            self._batches = None  # At a process' end, a thread that still reads may hang it.
            self._writer.wait()
        if self._is_complete():
            self._reporter.complete(self._state)
            return True
        self._reporter.stopped(self._stop.name)
        return False

    def _is_complete(self) -> bool:
        return self._state.epoch >= self._recipe.epochs or self._state.is_over

    def _resume(self) -> None:
        checkpoint = self._directory.read_checkpoint()
        if checkpoint is None:
            if self._config.init_from:
                transfer_learning.load_weights(self._step.model, self._run_config)
                self._save()  # From here on the source is not needed.
            if self._log:
                self._log.start(self._step.model)
            self._reporter.new_run()
            return
        arrays, state = checkpoint
        checkpoints.restore(self._step.variables, arrays)
        self._state = TrainState.from_json(state)
        if self._is_chief:
            self._directory.mark_best(self._state.best_step)
            if self._state.history:
                self._directory.write_history(self._state.history)
        self._reporter.resumed(self._state, self._is_complete())

    def _save(self) -> None:
        """Starts to write a checkpoint; within an epoch, with the sums over its steps so far."""
        if not self._is_chief:
            return
        arrays = {variable.path: np.asarray(variable).copy() for variable in self._step.variables}
        for name, array in arrays.items():  # A ReLU may hide it from the loss.
            if not np.isfinite(array).all():
                raise self._reporter.diverged(f"{name} is no longer finite at step {self._total_step()}")
        step, state, best_step = self._total_step(), self._state.to_json(), self._state.best_step
        self._writer.start(lambda: self._directory.write_checkpoint(step, arrays, state, best_step))
        self._saved_at = time.monotonic()

    def _total_step(self) -> int:
        return self._state.epoch * self._steps + self._state.step

    def _run_epoch(self) -> None:
        state, started, first_step = self._state, time.monotonic(), self._state.step
        self._saved_at, self._waited_seconds = started, 0.0
        with self._reporter.begin_epoch(state):
            while state.step < self._steps and not self._is_stopping:
                try:
                    self._train_steps()
                except input_pipeline.READ_ERRORS as error:
                    self._skip_bad_images(error)
        if state.step == self._steps:  # Also where a checkpoint is from between the last step and the validation.
            self._end_epoch(max(time.monotonic() - started, 1e-6), first_step)

    def _train_steps(self) -> None:
        """Does the steps of the epoch that are left, until a signal comes or an image cannot be read."""
        state, running = self._state, None  # A step that has begun and is not counted yet.
        while not self._is_stopping and state.step + (running is not None) < self._steps:
            try:
                batch = self._next_batch()
            except input_pipeline.READ_ERRORS:
                self._batches = None
                self._count(running)
                raise
            if self._log and not self._total_step() and running is None:
                self._log.input_pictures(self._step.images_of(batch))
            self._step.set_rates(
                schedules.rates(
                    self._recipe,
                    self._total_step() + (running is not None),
                    self._recipe.epochs * self._steps,
                    state.plateau.divisions,
                )
            )
            begun = self._step(batch, is_stop=self._stop.number is not None)
            self._count(running)
            running = begun
            if not self._is_pipelined or self._stop.number or self._is_checkpoint_due():
                self._count(running)
                self._settle(running)
                running = None
        self._count(running)

    def _next_batch(self) -> Any:
        """Returns the next batch of the epoch, and adds up how long it was waited for."""
        start = time.perf_counter()
        if self._batches is None or self._state.epoch >= self._batches[1]:
            num_epochs = schedules.epochs_alike(self._recipe, self._state.epoch)
            self._batches = self._step.batches(self._make_dataset(num_epochs)), self._state.epoch + num_epochs
        try:
            return next(self._batches[0])
        finally:
            self._waited_seconds += time.perf_counter() - start

    def _make_dataset(self, num_epochs: int) -> Callable[[int, int], tf.data.Dataset]:
        """Returns the function from (worker, number of workers) to the batches of so many epochs, from here on."""
        recipe, pca = self._recipe, self._run_config.colour_pca
        assert pca  # Only an imported run has none.
        epoch, first_step, skipped = self._state.epoch, self._state.step, tuple(self._state.skipped["train"])
        is_noisy = schedules.has_colour_noise(recipe, epoch)

        def make_dataset(worker: int, num_workers: int) -> tf.data.Dataset:
            return input_pipeline.make_train_dataset(
                self._train_split,
                recipe,
                image_size=self._run_config.image_size,
                seed=self._config.seed,
                epoch=epoch,
                num_epochs=num_epochs,
                first_step=first_step,
                colour_pca=(pca.stdevs, pca.vectors) if is_noisy else None,
                skipped=skipped,
                worker=worker,
                num_workers=num_workers,
            )

        return make_dataset

    def _skip_bad_images(self, error: Exception) -> None:
        """Finds what could not be read in the current batch, and skips it or fails as asked."""
        state = self._state
        batch = input_pipeline.batch_indices(
            self._train_split,
            self._recipe,
            seed=self._config.seed,
            epoch=state.epoch,
            step=state.step,
            skipped=state.skipped["train"],
        )
        input_pipeline.bad_images(self._train_split, batch, error, self._on_bad_image, state.skipped["train"])

    def _count(self, result: StepResult | None) -> None:
        """Adds a step's result to the epoch's, if there is one; waits until it is known."""
        if result is None:
            return
        state = self._state
        state.count(result.loss, result.wrong)
        if not math.isfinite(result.loss):
            raise self._reporter.diverged(
                f"The loss is {result.loss} at step {self._total_step()} (epoch {state.epoch + 1})"
            )
        if self._total_step() % _STUCK_STEPS == 0:
            self._reporter.warn_if_stuck(self._reporter.means(state)[0], self._total_step())
        if self._log:
            batch_error = result.wrong / self._recipe.batch_size
            self._log.step(self._total_step(), result.loss, batch_error, self._step.sgd.learning_rate)
        self._reporter.step(state)

    def _settle(self, result: StepResult) -> None:
        """Does what may follow a step while no other runs: a checkpoint, the callback, and the end after a signal."""
        self._writer.check()
        is_last = self._state.step == self._steps  # The checkpoint is then that of the epoch's end.
        is_saved = not is_last and self._is_checkpoint_due()
        if is_saved:
            self._save()
        if self._on_step_end:
            self._on_step_end(self._state, self._step)
        if not is_last:
            # Workers stop together: all learn of a signal from the result of the step after it.
            self._is_stopping = self._stop.number is not None if self._is_alone else result.is_stop
            if self._is_stopping and not is_saved:
                self._save()

    def _is_checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved_at > self._checkpoint_seconds

    def _end_epoch(self, seconds: float, first_step: int) -> None:
        state = self._state
        loss, error = self._reporter.means(state)
        result = self._validate()
        if result is None:
            return
        step, divisions = self._total_step(), state.plateau.divisions
        row = {
            "epoch": state.epoch + 1,
            "step": step,
            "learning_rate": float(f"{self._step.sgd.learning_rate.numpy():.6g}"),
            "train_loss": loss,
            "train_top1_error": error,
            "val_loss": result.loss,
            "val_top1_error": result.top1_error,
            "val_top5_error": result.top5_error,
            "images_per_second": round((self._steps - first_step) * self._recipe.batch_size / seconds, 1),
        }
        is_best = state.end_epoch(
            row, step=step, patience=self._recipe.patience if self._recipe.schedule == "plateau" else None
        )
        self._save()
        if self._log:
            self._directory.write_history(state.history)
            waited = self._waited_seconds / seconds
            self._log.epoch(row, waited, self._step.model, result.confusion)
            self._reporter.end_epoch(state, waited, is_best=is_best, has_divided=state.plateau.divisions > divisions)

    def _validate(self) -> metrics.Evaluation | None:
        """Measures the validation split; None if a signal came, after a checkpoint from before the measurement."""
        split, started = self._validation_split, time.monotonic()
        if not self._is_alone:
            split = split.subset(np.arange(self._placement.worker, len(split), self._placement.num_workers))
        if started - self._saved_at + self._validation_seconds > self._checkpoint_seconds:
            self._save()
        batches = self._reporter.validation_bar(
            input_pipeline.evaluation_batches(
                split,
                batch_size=_EVALUATION_BATCH_SIZE,
                image_size=self._run_config.image_size,
                resize=self._recipe.resize,
                on_bad_image=self._on_bad_image,
                skipped=self._state.skipped["validation"],
            ),
            total=-(-len(split) // _EVALUATION_BATCH_SIZE),
        )
        try:
            result = metrics.evaluate(
                self._predict, self._until_signal(batches), len(self._data.class_names), total=self._placement.total
            )
        except _SignalCame:
            self._save()
            self._is_stopping = True
            return None
        self._validation_seconds = time.monotonic() - started
        if not math.isfinite(result.loss):
            raise self._reporter.diverged(f"The validation loss is {result.loss} after epoch {self._state.epoch + 1}")
        return result

    def _until_signal(self, batches: Iterable) -> Iterator:
        for batch in batches:
            if self._stop.number and self._is_alone:  # Else the others would wait for this one's part.
                raise _SignalCame
            yield batch
