"""What a training run prints: the start, the progress bar, an epoch's results, warnings, and what to do next."""

import logging
import math
import shlex
import sys
import time
from collections.abc import Iterable

import tqdm

from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, shell
from alexnet_tf.training import schedules, tensorboard, transfer_learning
from alexnet_tf.training.state import TrainState
from alexnet_tf.training.train_step import TrainStep

_LOGGER = logging.getLogger(__name__)

# Seconds between two lines of progress where there is no terminal for a bar.
_LINE_SECONDS = 20

_INITIALIZED = {
    "row": "as its source states",
    "he": "as He et al. propose, which learns on small data (--initialization=row: the source's own)",
}


class TrainingError(errors.UserError):
    """Training cannot go on; the message says why and what to try."""


class Reporter:
    """Prints what a run does. Workers other than the first print only why they stop.

    Args:
        run: The run's directory.
        config: The run's config.
        steps: Steps in an epoch.
        chance_loss: Cross-entropy of guessing by the classes' frequencies, in nats.
        is_chief: Whether this process is the first worker.
        caveat: What limits the meaning of the validation error, or nothing.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, *, steps: int, chance_loss: float, is_chief: bool, caveat: str = ""
    ):
        self._run, self._config, self._recipe = run, config, config.train.recipe
        self._steps, self._chance_loss, self._is_chief = steps, chance_loss, is_chief
        self._caveat = caveat
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
        schedule = recipe.schedule + (f", patience {recipe.patience} epochs" if recipe.schedule == "plateau" else "")
        warm_up = f", warm-up of {shell.count(recipe.warmup_steps, 'step')}" if recipe.warmup_steps else ""
        clip = f", gradient norm at most {recipe.clip_norm:g}" if recipe.clip_norm else ""
        weights = ", balanced class weights" if config.class_weight == "balanced" else ""
        self._print(
            f"Network: {architecture.name}, {parameters:,} parameters{start}",
            f"Recipe: batches of {recipe.batch_size}, {shell.count(recipe.epochs, 'epoch')} of "
            f"{shell.count(self._steps, 'step')}, rate {recipe.learning_rate:g} ({schedule}){warm_up}, momentum "
            f"{recipe.momentum:g}, weight decay {recipe.weight_decay:g}{clip}{weights}",
            f"Precision: {config.precision}{', compiled by XLA' if config.jit else ''}; "
            f"{'' if config.deterministic else 'not '}deterministic",
            step.placement.summary(step.variables, recipe.batch_size),
        )

    def new_run(self) -> None:
        """Prints that the run begins."""
        self._print(f"A new run in {self._run}.")

    def resumed(self, state: TrainState, is_complete: bool) -> None:
        """Prints where the run goes on, or that it is complete."""
        if is_complete:
            more = "" if state.is_over else " With more --epochs it goes on from here."
            self._print(f"The run in {self._run} is complete.{more}")
        else:
            self._print(f"Resuming {self._run} at epoch {state.epoch + 1}, step {state.step + 1} of {self._steps}.")

    def begin_epoch(self, state: TrainState) -> tqdm.tqdm:
        """Returns the epoch's progress bar, to be closed at its end."""
        self._started = self._printed = time.monotonic()
        self._first_step = state.step
        self._bar = tqdm.tqdm(
            total=self._steps,
            initial=state.step,
            unit="step",
            leave=False,
            file=sys.stdout,
            disable=None if self._is_chief else True,
            desc=f"Epoch {state.epoch + 1}/{self._recipe.epochs}",
            dynamic_ncols=True,
        )
        return self._bar

    def step(self, state: TrainState) -> None:
        """Shows a step's progress on the bar or, where there is no terminal, in a line now and then."""
        now = time.monotonic()
        images_per_second = (state.step - self._first_step) * self._recipe.batch_size / (now - self._started)
        loss, error = self.means(state)
        progress = f"loss {loss:.3f}, error {error:.3f}, {images_per_second:.0f} images/s"
        assert self._bar is not None
        self._bar.set_postfix_str(progress, refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._printed > _LINE_SECONDS and state.step < self._steps:
            self._printed = now
            self._print(f"Epoch {state.epoch + 1}/{self._recipe.epochs}, step {state.step}/{self._steps}: {progress}")

    def means(self, state: TrainState) -> tuple[float, float]:
        """Returns the mean loss and top-1 error over the current epoch's steps so far."""
        return state.loss_sum / state.step, state.wrong / (state.step * self._recipe.batch_size)

    def validation_bar(self, batches: Iterable, total: int) -> tqdm.tqdm:
        """Returns the batches of the validation with a progress bar."""
        return tqdm.tqdm(
            batches,
            total=total,
            desc="Validation",
            unit="batch",
            leave=False,
            disable=None if self._is_chief else True,
            file=sys.stdout,
        )

    def end_epoch(self, state: TrainState, waited: float, *, is_best: bool, has_divided: bool) -> None:
        """Prints an epoch's results.

        Args:
            state: At the epoch's end.
            waited: Share of the time that was spent waiting for input, in [0, 1].
            is_best: Whether the epoch is the best so far.
            has_divided: Whether the "plateau" schedule has just divided the rate.
        """
        row = state.history[-1]
        top5 = "" if row["val_top5_error"] is None else f", top-5 error {row['val_top5_error']:.4f}"
        self._print(
            f"Epoch {row['epoch']}/{self._recipe.epochs}: train loss {row['train_loss']:.4f}, "
            f"error {row['train_top1_error']:.4f}; validation loss {row['val_loss']:.4f}, "
            f"error {row['val_top1_error']:.4f}{top5}, accuracy {1 - row['val_top1_error']:.4f}"
            f"{' (best)' if is_best else ''}; rate {row['learning_rate']:.2g}; "
            f"{row['images_per_second']:.0f} images/s, {waited:.0%} of the time waiting for input"
        )
        stalled = f"The validation error has not fallen for {self._recipe.patience} epochs"
        if state.is_over:
            self._print(
                f"{stalled} after the rate was divided {schedules.Plateau.MAX_DIVISIONS} times: training ends here "
                "(Section 5)."
            )
        elif has_divided:
            self._print(f"{stalled}: the rate is divided by 10.")
        self.warn_if_stuck(row["train_loss"], row["step"])

    def warn_if_stuck(self, loss: float, step: int) -> None:
        """Prints what to try if the training loss is that of guessing."""
        if not schedules.is_stuck(loss, self._chance_loss, step):
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

    def diverged(self, what: str) -> TrainingError:
        """Returns the error that ends a run whose numbers are no longer finite."""
        kept = f"The last checkpoint in {self._run} is from before. " if self._run.steps() else ""
        return TrainingError(
            f"{what}: the run has diverged. {kept}Start anew in another --workdir with a lower rate "
            f"(--learning_rate={self._recipe.learning_rate / 3:.2g}), with --clip_norm=1, or with --warmup_steps=200."
        )

    def out_of_memory(self) -> TrainingError:
        """Returns the error that ends a run whose batch does not fit into memory."""
        return TrainingError(
            f"Memory ran out at batch_size={self._recipe.batch_size}. Start anew in another --workdir with "
            f"--batch_size={max(1, self._recipe.batch_size // 2)}."
        )
