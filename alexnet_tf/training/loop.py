"""The loop: steps, epochs, checkpoints and exact resume, whatever it trains on.

The data of an epoch starts at the first step that is still to be done, so that a run can be killed anywhere and ends
with the same bits. What a step computes, and where, is in `train_step`; how fast it learns, in `network.schedules`.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from alexnet_tf.data import input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import recipes, schedules
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.training.configure import TrainingError
from alexnet_tf.training.train_step import TrainStep


@dataclasses.dataclass
class TrainState:
    """How far a run is: what a checkpoint holds beside the arrays.

    Attributes:
        epoch: Epochs done.
        step: Steps done in the current epoch.
        loss_sum: Sum of their mean losses, in nats.
        wrong: How many of their examples were classified wrongly, in each part of the epoch.
        schedule: What the schedule remembers.
        history: A row of history.csv for each epoch.
        best_error: Lowest top-1 validation error.
        best_loss: Validation loss in the same epoch.
        best_step: Step of that epoch's end; None before the first.
        skipped: By split, "train" and "validation": why images could not be read, by their index.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wrong: list[int] = dataclasses.field(default_factory=list)
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict] = dataclasses.field(default_factory=list)
    best_error: float = math.inf
    best_loss: float = math.inf
    best_step: int | None = None
    skipped: dict[str, dict[int, str]] = dataclasses.field(default_factory=lambda: {"train": {}, "validation": {}})

    def means(self, steps: int, batch_size: int) -> tuple[float, float]:
        """Returns the mean loss and top-1 error over so many first steps of the epoch, all whose results are read."""
        return self.loss_sum / steps, sum(self.wrong) / (steps * batch_size)

    @classmethod
    def from_json(cls, content: dict) -> "TrainState":
        """Returns the state that a checkpoint holds; JSON has turned the images' indices into strings."""
        skipped = {
            split: {int(index): why for index, why in images.items()} for split, images in content["skipped"].items()
        }
        return cls(**content | {"skipped": skipped})


class Feed(Protocol):
    """What a loop is trained and measured on: the steps of an epoch, its batches, and a validation."""

    steps: int

    def batches(self, state: TrainState, num_epochs: int, has_noise: bool) -> Iterator:
        """Returns the batches of so many epochs, from the state's step on, as `TrainStep` takes them."""

    def skip(self, state: TrainState, error: Exception) -> None:
        """Adds what could not be read in the state's batch to `state.skipped`, or raises why not."""

    def validate(self, state: TrainState, until_signal: Callable[[Iterable], Iterator]) -> metrics.Evaluation | None:
        """Measures an error after an epoch, or none; `until_signal` ends the batches early, by an exception."""


class Watcher:
    """Is told what happens in a loop; this one takes no notice."""

    def first_batch(self, step: TrainStep, batch: Any) -> None:
        """The first batch of the run is there."""

    def begin_epoch(self, state: TrainState) -> contextlib.AbstractContextManager:
        """An epoch begins; what is returned is entered for it."""
        return contextlib.nullcontext()

    def step(self, state: TrainState, step: int, loss: float, error: float, learning_rate: float) -> None:
        """A step of the epoch has had this loss and top-1 error in its batch; the state's sums have it."""

    def end_epoch(
        self, state: TrainState, result: metrics.Evaluation | None, waited: float, is_best: bool, note: str | None
    ) -> None:
        """An epoch is done, and in `state.history`; its input was waited for in so large a share of the time.

        `note` says what the schedule changes.
        """


class _SignalCame(Exception):
    """Ends a validation early."""


class Loop:
    """Orders what happens in a run: steps, checkpoints, validations, epochs.

    Args:
        run: The run's directory; only the first worker writes.
        step: The network and its optimizer.
        recipe: The rates and the number of epochs.
        feed: What to train on.
        watcher: Is told about it.
        is_stop: Asked whether to end the run after the current step.
        checkpoint_minutes: Longest time between checkpoints.
        on_step_end: Called after each step with the state and the step.
        parts: In how many parts of an epoch its training errors are counted: "train_errors" of its row.
        stop_below: Ends the run after an epoch whose training error is below this fraction.

    Attributes:
        state: How far the run is.
    """

    def __init__(
        self,
        run: RunDirectory,
        step: TrainStep,
        recipe: recipes.Recipe,
        feed: Feed,
        watcher: Watcher,
        *,
        is_stop: Callable[[], bool] = lambda: False,
        checkpoint_minutes: float = 10.0,
        on_step_end: Callable[[TrainState, TrainStep], None] | None = None,
        parts: int = 1,
        stop_below: float = 0.0,
    ):
        self.state = TrainState()
        self._run, self._step, self._recipe, self._feed, self._watcher = run, step, recipe, feed, watcher
        self._schedule, self._is_stop, self._on_step_end = schedules.make(recipe), is_stop, on_step_end
        self._checkpoint_seconds, self._parts, self._stop_below = checkpoint_minutes * 60, parts, stop_below
        self._is_chief, self._is_alone = step.placement.worker == 0, step.placement.num_workers == 1
        self._is_stopping = False
        # Learning rate and result of the last steps; read when the next one has begun: a GPU never waits for Python.
        self._unread: list[tuple[float, tf.Tensor]] = []
        self._saved_at = self._validation_seconds = self._waited_seconds = 0.0
        self._batches: tuple[Iterator, int] | None = None  # Being read already, and the epoch before which they end.
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        is_low = any(row["train_top1_error"] < self._stop_below for row in self.state.history)
        return self.state.epoch >= self._recipe.epochs or self._schedule.is_over or is_low

    @property
    def total_step(self) -> int:
        """Steps done since the start."""
        return self.state.epoch * self._feed.steps + self.state.step

    def resume(self) -> bool:
        """Goes on from the last checkpoint; returns whether there is one."""
        checkpoint = self._run.read_checkpoint()
        if checkpoint is None:
            return False
        checkpoints.restore(self._step.variables, checkpoint[0])
        self.state = TrainState.from_json(checkpoint[1])
        self._schedule = schedules.make(self._recipe, self.state.schedule)
        if self._is_chief:
            self._run.mark_best(self.state.best_step)
            if self.state.history:
                self._run.write_history(self.state.history)
        return True

    def run(self) -> bool:
        """Does what is left to do; returns whether the run is complete."""
        try:
            self._is_stopping = self._is_alone and self._is_stop()
            while not self.is_complete and not self._is_stopping:
                self._run_epoch()
        except tf.errors.ResourceExhaustedError as error:
            size = self._recipe.batch_size
            advice = f"Start anew in another --workdir with --batch_size={max(1, size // 2)}."
            raise TrainingError(f"Memory ran out at batch_size={size}. {advice}") from error
        finally:
            self._batches = None  # At a process' end, a thread that still reads may hang it.
            self._wait_for_checkpoint()
            self._writer.shutdown()
        return self.is_complete

    def save(self) -> None:
        """Starts to write a checkpoint; within an epoch, with the sums over its steps so far."""
        self._read_results()
        if not self._is_chief:
            return
        step, arrays = self.total_step, {v.path: np.asarray(v).copy() for v in self._step.variables}
        for name, array in arrays.items():  # A ReLU may hide it from the loss.
            if not np.isfinite(array).all():
                raise self._diverged(f"{name} is no longer finite at step {step}")
        self.state.schedule = self._schedule.state
        state, best_step = dataclasses.asdict(self.state), self.state.best_step
        self._wait_for_checkpoint()
        self._writing = self._writer.submit(lambda: self._run.write_checkpoint(step, arrays, state, best_step))
        self._saved_at = time.monotonic()

    def _wait_for_checkpoint(self) -> None:
        """Waits for the checkpoint that is being written, and raises why it could not be."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _run_epoch(self) -> None:
        state, started, first_step = self.state, time.monotonic(), self.state.step
        self._saved_at, self._waited_seconds = started, 0.0
        with self._watcher.begin_epoch(state):
            while state.step < self._feed.steps and not self._is_stopping:
                try:
                    batch = self._next_batch()
                except input_pipeline.READ_ERRORS as error:
                    self._batches = None
                    self._read_results()
                    self._feed.skip(state, error)
                    continue
                self._do_step(batch)
        if state.step == self._feed.steps:  # Also where a checkpoint is from between the last step and the validation.
            self._end_epoch(max(time.monotonic() - started, 1e-6), first_step)

    def _next_batch(self) -> Any:
        """Returns the next batch of the epoch, and adds up how long it was waited for."""
        start, epoch = time.perf_counter(), self.state.epoch
        if self._batches is None or epoch >= self._batches[1]:
            count = self._schedule.epochs_alike(epoch)
            batches = self._feed.batches(self.state, count, self._schedule.has_colour_noise(epoch))
            self._batches = batches, epoch + count
        batch = next(self._batches[0])
        self._waited_seconds += time.perf_counter() - start
        return batch

    def _do_step(self, batch: Any) -> None:
        """Does a step, and what may follow it: a checkpoint, the callback, and the end after a signal."""
        state = self.state
        if not self.total_step:
            self._watcher.first_batch(self._step, batch)
        rates = self._schedule.rates(self.total_step, self._recipe.epochs * self._feed.steps)
        self._step.set_rates(rates)
        self._unread.append((rates.kernels, self._step(batch, is_stop=self._is_stop())))
        state.step += 1
        is_last = state.step == self._feed.steps
        # The epoch's end has a checkpoint of its own.
        is_due = not is_last and time.monotonic() - self._saved_at > self._checkpoint_seconds
        # A callback sees the state as its step left it, and workers must stop at the same step.
        is_watched = not self._is_alone or self._on_step_end is not None
        self._read_results(but=0 if is_last or is_watched else 1)
        if is_due:
            self.save()
        if self._on_step_end:
            self._on_step_end(state, self._step)
        self._is_stopping |= self._is_alone and self._is_stop()
        if self._is_stopping and not (is_last or is_due):
            self.save()

    def _read_results(self, but: int = 0) -> None:
        """Adds the results of all steps but the last so many to the state, in order; waits until they are known.

        Workers stop together: all learn of a signal from the result of the step after it.
        """
        state = self.state
        if self._writing and self._writing.done():
            self._wait_for_checkpoint()
        while len(self._unread) > but:
            state.wrong = state.wrong or [0] * self._parts
            place = state.step - len(self._unread)
            learning_rate, result = self._unread.pop(0)
            loss, wrong, stop = result.numpy().tolist()
            total = state.epoch * self._feed.steps + place + 1
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss} at step {total} (epoch {state.epoch + 1})")
            state.loss_sum += loss
            state.wrong[place * self._parts // self._feed.steps] += int(wrong)
            self._is_stopping |= stop > 0
            self._watcher.step(state, place + 1, loss, wrong / self._recipe.batch_size, learning_rate)

    def _diverged(self, what: str) -> TrainingError:
        """Returns the error that ends a run whose numbers are no longer finite."""
        kept = f"The last checkpoint in {self._run} is from before. " if self._run.steps() else ""
        return TrainingError(
            f"{what}: the run has diverged. {kept}Start anew in another --workdir with a lower rate "
            f"(--learning_rate={self._recipe.learning_rate / 3:.2g}), with --clip_norm=1, or with --warmup_steps=200."
        )

    def _end_epoch(self, seconds: float, first_step: int) -> None:
        """Validates, adds a row to the history, and begins the next epoch."""
        state, recipe, steps, step = self.state, self._recipe, self._feed.steps, self.total_step
        started = time.monotonic()
        if started - self._saved_at + self._validation_seconds > self._checkpoint_seconds:
            self.save()
        try:
            result = self._feed.validate(state, self._until_signal)
        except _SignalCame:  # The checkpoint is from before the measurement.
            self.save()
            self._is_stopping = True
            return
        self._validation_seconds = time.monotonic() - started
        if result and not math.isfinite(result.loss):
            raise self._diverged(f"The validation loss is {result.loss} after epoch {state.epoch + 1}")
        loss, error = state.means(steps, recipe.batch_size)
        rate = np.float32(self._schedule.rates(step - 1, recipe.epochs * steps).kernels)
        row: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "step": step,
            "learning_rate": float(f"{rate:.6g}"),
            "train_loss": loss,
            "train_top1_error": error,
            "val_loss": result and result.loss,
            "val_top1_error": result and result.top1_error,
            "val_top5_error": result and result.top5_error,
            "images_per_second": round((steps - first_step) * recipe.batch_size / seconds, 1),
        }
        if self._parts > 1:
            sizes = np.bincount(np.arange(steps) * self._parts // steps, minlength=self._parts) * recipe.batch_size
            row["train_errors"] = [wrong / size for wrong, size in zip(state.wrong, sizes.tolist()) if size]
        state.history.append(row)
        is_best, note = False, None
        if result:
            note = self._schedule.end_epoch(result.top1_error)
            is_best = (result.top1_error, result.loss) < (state.best_error, state.best_loss)
            if is_best:
                state.best_error, state.best_loss, state.best_step = result.top1_error, result.loss, step
        state.epoch, state.step, state.loss_sum, state.wrong = state.epoch + 1, 0, 0.0, []
        self.save()
        if self._is_chief:
            self._run.write_history(state.history)
        self._watcher.end_epoch(state, result, self._waited_seconds / seconds, is_best, note)

    def _until_signal(self, batches: Iterable) -> Iterator:
        for batch in batches:
            if self._is_alone and self._is_stop():  # Otherwise the others would wait for this one's part.
                raise _SignalCame
            yield batch
