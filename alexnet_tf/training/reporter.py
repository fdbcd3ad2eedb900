"""What a training run prints: the start, the progress bar, an epoch's results, warnings, and what to do next."""

import contextlib
import logging
import math
import shlex
import sys
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tqdm

from alexnet_tf.data import datasets
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import schedules
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import shell
from alexnet_tf.training import tensorboard, transfer_learning
from alexnet_tf.training.loop import TrainState, Watcher
from alexnet_tf.training.train_step import TrainStep

_LOGGER = logging.getLogger(__name__)

# Seconds between two lines of progress where there is no terminal for a bar.
_LINE_SECONDS = 20

_INITIALIZED = {
    "source": "as its source states",
    "he": "as He et al. propose, which learns on small data (--initialization=source: the source's own)",
}


# A long epoch is checked this often for a loss that does not fall; ImageNet's has 10,009 steps.
_STUCK_STEPS = 5000

_MIN_VALIDATION_IMAGES = 50


class Reporter(Watcher):
    """Prints what a run does, and writes its pictures and curves. Workers other than the first print why they stop.

    Args:
        run: The run's directory.
        config: The run's config.
        data: What it is trained on.
        steps: Steps in an epoch.
        is_chief: Whether this process is the first worker.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, data: datasets.DataSet, *, steps: int, is_chief: bool
    ) -> None:
        self._run, self._config, self._recipe = run, config, config.train.recipe
        self._steps, self._is_chief = steps, is_chief
        self._chance_loss = chance_loss(data.splits["train"], len(data.class_names))
        self._caveat = validation_caveat(data.splits[data.validation], len(data.class_names))
        self._log = tensorboard.Log(run, data.class_names, steps) if is_chief else None
        self._bar: tqdm.tqdm | None = None
        self._started = self._printed = 0.0
        self._first_step = 0

    def _print(self, *lines: str) -> None:
        if self._is_chief:
            _LOGGER.info("\n".join(lines))

    def start(self, step: TrainStep) -> None:
        """Prints the network, the recipe, the precision and the devices."""
        config, recipe, architecture = self._config.train, self._recipe, self._config.architecture
        parameters = sum(
            math.prod(v.shape) for name in architecture.layer_names for v in step.model.get_layer(name).weights
        )
        start = f", initialised {_INITIALIZED.get(config.initialization, f'as {config.initialization} states')}"
        if config.init_from:
            start = f"\n{transfer_learning.describe(step.model, self._config)}"
        warm_up = f", warm-up of {shell.count(recipe.warmup_steps, 'step')}" if recipe.warmup_steps else ""
        clip = f", gradient norm at most {recipe.clip_norm:g}" if recipe.clip_norm else ""
        weights = ", balanced class weights" if config.class_weight == "balanced" else ""
        self._model = step.model
        self._print(
            f"Network: {architecture.name}, {parameters:,} parameters{start}",
            f"Recipe: batches of {recipe.batch_size}, {shell.count(recipe.epochs, 'epoch')} of "
            f"{shell.count(self._steps, 'step')}, rate {recipe.learning_rate:g} "
            f"({schedules.make(recipe).description}){warm_up}, {recipe.optimizer}, momentum {recipe.momentum:g}, "
            f"weight decay {recipe.weight_decay:g}{clip}{weights}",
            f"Precision: {config.precision}{', compiled by XLA' if config.jit else ''}; "
            f"{'' if config.deterministic else 'not '}deterministic",
            step.placement.summary(step.variables, recipe.batch_size),
        )

    def new_run(self, model: keras.Model) -> None:
        """Prints that the run begins, and keeps what it begins with."""
        if self._log:
            self._log.start(model)
        self._print(f"A new run in {self._run}.")

    def resumed(self, state: TrainState, is_complete: bool) -> None:
        """Prints where the run goes on, or that it is complete."""
        if is_complete:
            is_over = schedules.make(self._recipe, state.schedule).is_over
            more = "" if is_over else " With more --epochs it goes on from here."
            self._print(f"The run in {self._run} is complete.{more}")
        else:
            self._print(f"Resuming {self._run} at epoch {state.epoch + 1}, step {state.step + 1} of {self._steps}.")

    def begin_epoch(self, state: TrainState) -> tqdm.tqdm:
        """Returns the epoch's progress bar, to be closed at its end."""
        self._started = self._printed = time.monotonic()
        self._first_step = state.step
        self._bar = self._new_bar(
            total=self._steps,
            initial=state.step,
            unit="step",
            desc=f"Epoch {state.epoch + 1}/{self._recipe.epochs}",
            dynamic_ncols=True,
        )
        return self._bar

    def _new_bar(self, **options: Any) -> tqdm.tqdm:
        """Returns a bar that vanishes at its end; only the first worker shows it, and only in a terminal."""
        return tqdm.tqdm(leave=False, file=sys.stdout, disable=None if self._is_chief else True, **options)

    def first_batch(self, step: TrainStep, batch: Any) -> None:
        """Writes a picture of the images as the network sees them."""
        if self._log:
            self._log.input_pictures(step.images_of(batch))

    def step(self, state: TrainState, step: int, loss: float, error: float, learning_rate: float) -> None:
        """Adds a point to the curves, and shows the progress on the bar or, without a terminal, in a line at times."""
        now, total = time.monotonic(), state.epoch * self._steps + step
        if self._log:
            self._log.step(total, loss, error, learning_rate)
        loss, error = state.means(step, self._recipe.batch_size)
        images_per_second = (step - self._first_step) * self._recipe.batch_size / (now - self._started)
        progress = f"loss {loss:.3f}, error {error:.3f}, {images_per_second:.0f} images/s"
        assert self._bar is not None
        self._bar.set_postfix_str(progress, refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._printed > _LINE_SECONDS and step < self._steps:
            self._printed = now
            self._print(f"Epoch {state.epoch + 1}/{self._recipe.epochs}, step {step}/{self._steps}: {progress}")
        if step % _STUCK_STEPS == 0:
            self._warn_if_stuck(loss, total)

    def validation_bar(self, batches: Iterable, total: int) -> tqdm.tqdm:
        """Returns the batches of the validation with a progress bar."""
        return self._new_bar(iterable=batches, total=total, desc="Validation", unit="batch")

    def end_epoch(
        self, state: TrainState, result: metrics.Evaluation | None, waited: float, is_best: bool, note: str | None
    ) -> None:
        """Prints and draws an epoch's results."""
        row = state.history[-1]
        if self._log and result:
            self._log.epoch(row, waited, self._model, result.confusion)
        top5 = "" if row["val_top5_error"] is None else f", top-5 error {row['val_top5_error']:.4f}"
        self._print(
            f"Epoch {row['epoch']}/{self._recipe.epochs}: train loss {row['train_loss']:.4f}, "
            f"error {row['train_top1_error']:.4f}; validation loss {row['val_loss']:.4f}, "
            f"error {row['val_top1_error']:.4f}{top5}, accuracy {1 - row['val_top1_error']:.4f}"
            f"{' (best)' if is_best else ''}; rate {row['learning_rate']:.2g}; "
            f"{row['images_per_second']:.0f} images/s, {waited:.0%} of the time waiting for input"
        )
        if note:
            self._print(note)
        self._warn_if_stuck(row["train_loss"], row["step"])

    def _warn_if_stuck(self, loss: float, step: int) -> None:
        """Prints what to try if the training loss is that of guessing."""
        if not is_stuck(loss, self._chance_loss, step):
            return
        classes, config = len(self._config.data.classes), self._config.train
        advice = f"a lower rate: --learning_rate={self._recipe.learning_rate / 3:.2g}"
        if config.initialization != "he":
            advice = "--initialization=he --learning_rate=0.008 --clip_norm=5, which gets it going on small data"
        self._print(
            f"The loss is stuck at {loss:.3f}: guessing gives {self._chance_loss:.3f} (ln({classes}) = "
            f"{math.log(classes):.3f}). The network has learned nothing yet with "
            f"--initialization={config.initialization} and --learning_rate={self._recipe.learning_rate:g}. Try, in "
            f"another --workdir, {advice}."
        )

    def stopped(self, signal_name: str | None) -> None:
        """Prints, in every worker, who stopped the run and how to go on."""
        writes = "a checkpoint is written" if self._is_chief else "worker 1 writes a checkpoint"
        _LOGGER.info(f"Stopped by {signal_name or 'another worker'}; {writes}. The same command goes on from here.")

    def complete(self, state: TrainState) -> None:
        """Prints the result and the next commands."""
        caveat = f", {self._caveat}" if self._caveat else ""
        self._print(
            f"Done: {shell.count(state.epoch, 'epoch')}, lowest validation error {state.best_error:.4f} (accuracy "
            f"{1 - state.best_error:.4f}){caveat}. Next:",
            f"  {shell.command_line('evaluate', workdir=self._run, checkpoint='best')}",
            f"  {shell.command_line('predict', 'IMAGE...', workdir=self._run)}",
            f"  {shell.command_line('export', workdir=self._run)}",
            f"  tensorboard --logdir={shlex.quote(str(self._run))}   (or look into "
            f"{self._run.path / tensorboard.PICTURES})",
        )


def is_stuck(train_loss: float, chance_loss: float, steps: int) -> bool:
    """Returns whether a network has learned nothing: its cross-entropy is that of guessing by the classes' frequencies.

    Args:
        train_loss: Mean cross-entropy over an epoch, in nats.
        chance_loss: Entropy of the classes, ln(classes) if they are equally frequent.
        steps: Steps done; before 100 it is too early to tell.
    """
    return steps >= 100 and 0.98 * chance_loss < train_loss < 1.1 * chance_loss


def chance_loss(split: datasets.ImageSource, num_classes: int) -> float:
    """Returns the entropy of the classes of a split in nats; of a sample where the labels are inside the records."""
    labels = split.labels
    if labels is None:
        sample = []
        for index in np.linspace(0, len(split) - 1, min(len(split), 2000)).astype("int64"):
            with contextlib.suppress(OSError):  # Reported when it is read in training.
                sample.append(split.label(index))
        labels = np.array(sample, "int32")
    frequencies = np.bincount(labels, minlength=num_classes) / len(labels)
    return float(-(frequencies[frequencies > 0] * np.log(frequencies[frequencies > 0])).sum())


def validation_caveat(split: datasets.ImageSource, num_classes: int) -> str:
    """Returns what limits the meaning of a validation error, or nothing."""
    if len(split) < _MIN_VALIDATION_IMAGES:
        return f"of {len(split)} images only: one image more or less is {1 / len(split):.3f}"
    if split.labels is not None and (missing := num_classes - len(np.unique(split.labels))):
        return f"without any image of {missing} of the {num_classes} classes"
    return ""
