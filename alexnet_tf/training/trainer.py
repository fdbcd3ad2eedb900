"""Trains a row of the table: epochs, validation, checkpoints and exact resume.

An epoch's data begins at its first step to do, so that a run can be killed anywhere and ends with the same bits. What
a batch is, is in `input_pipeline`; what a step computes, and where, in `steps`; what it does to a weight and an epoch to
the rate, in `optimization`; what is written, in `workdir`.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf import alexnet, architectures, errors, runs
from alexnet_tf.data import datasets, input_pipeline, preprocessing
from alexnet_tf.evaluation import metrics
from alexnet_tf.run_config import MEAN_IMAGE, ColourPCA, RunConfig, RunData, TrainConfig
from alexnet_tf.training import distribution, schedules, tensorboard, train_step, transfer_learning

_EVALUATION_BATCH_SIZE = 128

# A long epoch is looked at this often for a loss that does not fall; ImageNet's has 10,009 steps.
_STUCK_STEPS = 5000

# What a step raises when another worker is gone.
_LOST_WORKER = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError,
    tf.errors.DeadlineExceededError, *input_pipeline.READ_ERRORS)


class TrainingError(errors.UserError):
    """Training cannot go on; the message says why and what to try."""


def chance_loss(split, num_classes: int) -> float:
    """Returns the entropy of the classes of a split in nats; of a sample where the labels are inside the records."""
    labels = split.labels
    if labels is None:
        indices = np.linspace(0, len(split) - 1, min(len(split), 2000)).astype("int64")
        labels = []
        for index in indices:
            with contextlib.suppress(OSError):  # Told when it is its turn.
                labels.append(split.label(index))
    frequencies = np.bincount(labels, minlength=num_classes) / len(labels)
    return float(-(frequencies[frequencies > 0] * np.log(frequencies[frequencies > 0])).sum())


def train(
    train_config: TrainConfig, data: datasets.DataSet, path, *,
    placement: distribution.Placement | None = None, checkpoint_minutes: float = 10.0, on_bad_image: str = "fail") -> bool:
    """Trains to the end, going on from the run's last checkpoint if there is one.

    Args:
        train_config: The decided run.
        data: What to train on.
        path: The run's directory; many workers must all see it.
        placement: Where to compute; by default as `distribution.make_placement` finds best.
        checkpoint_minutes: Longest time between checkpoints; there is one at each epoch's end anyway.
        on_bad_image: "fail", or "skip": an image that cannot be read is told, and the next one comes in its place.

    Returns:
        Whether the run is complete; False if a signal ended it early, after a checkpoint.

    Raises:
        errors.RunError: If the directory holds another run or cannot be written.
        datasets.DataError: If an image cannot be read.
        transfer.TransferError: If the weights of another run cannot be taken over as asked.
        TrainingError: If the loss is no longer finite, or the run's settings contradict each other.
    """
    if train_config.jit and train_config.deterministic:
        raise TrainingError("--jit does not go with --deterministic: XLA has no max-pooling gradient that is.")
    placement = placement or distribution.make_placement()
    keras.utils.set_random_seed(train_config.seed)
    if train_config.deterministic:
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
    run = runs.RunDirectory(path)
    is_chief = placement.worker == 0
    with run.locked() if is_chief else contextlib.nullcontext(), _lost_workers_told(placement):
        if train_config.precision == "auto":
            old = run.read_config()
            precision = old.train.precision if old else distribution.default_precision()
            train_config = dataclasses.replace(train_config, precision=precision)
        source = transfer_learning.find_source(train_config.init_from, run)
        run_config = make_run_config(train_config, data, source)
        run.check_same_config(run_config)
        _check_that_workers_agree(placement, run, run_config)
        # Before anything is written: fails where there is not one whole batch.
        input_pipeline.steps_per_epoch(data.splits["train"], train_config.recipe.batch_size)
        mean = run_config.mean
        if mean == MEAN_IMAGE:
            mean = _mean_image(run, run_config, source, data)
        new = transfer_learning.new_layers(run_config) if source else ()
        step = train_step.TrainStep(
            run_config.architecture, train_config.recipe, placement, mean=mean, seed=train_config.seed,
            precision=train_config.precision, jit=train_config.jit, frozen=train_config.freeze,
            layer_multipliers=dict.fromkeys(new, train_config.recipe.new_layer_learning_rate_multiplier))
        if is_chief:
            if run_config.mean == MEAN_IMAGE:
                run.write_mean_image(mean)
            run.write_config(run_config, data.class_names)
        return _Training(run, run_config, train_config, data, step, checkpoint_minutes, on_bad_image).run()


@contextlib.contextmanager
def _lost_workers_told(placement):
    """Makes of what TensorFlow raises when another worker is gone a line that says so."""
    try:
        yield
    except _LOST_WORKER as error:
        if placement.num_workers == 1:
            raise
        raise TrainingError(
            "The other workers cannot be reached any more: one has ended, or the network is cut. Start all of them again "
            "with the same commands: the run goes on from its last checkpoint, if there is one.\n  TensorFlow says: "
            + (str(error).rpartition("}} ")[2].splitlines() or [type(error).__name__])[0]) from error


def _check_that_workers_agree(placement, run, run_config):
    """Refuses workers that would each train another run: they would wait for each other for ever, or learn nonsense."""
    content = run_config.to_json()
    for name in ("directory", "name"):
        del content["data"][name]
    digest = hashlib.sha256(json.dumps([content, run.steps()], sort_keys=True).encode()).digest()
    own = int.from_bytes(digest[:5], "big")  # Exact in float64, as is the sum.
    if placement.total(own) != own * placement.num_workers:
        raise TrainingError(
            "The workers were not started alike. All need the same flags, the same images, the same --precision, and one "
            f"--workdir that they share; this one, worker {placement.worker + 1}, sees {run} "
            + (f"with a checkpoint of step {run.steps()[0]}." if run.steps() else "without a checkpoint."))


def _mean_image(run, run_config, source, data):
    """Returns the mean image that the first layer subtracts: the run's, that of its weights' source, or the data's."""
    if source:
        return run.read_mean(run_config) if run.steps() else transfer_learning.read_mean_image(source)
    return preprocessing.center_crop(data.statistics.mean_image, run_config.image_size)


def make_run_config(train_config: TrainConfig, data: datasets.DataSet, source=None) -> RunConfig:
    """Returns config.json: all that is needed to evaluate, export or resume the run.

    Args:
        train_config: The decided run.
        data: What it trains on.
        source: A `transfer.Source`, if the weights come from another run.
    """
    row, statistics = architectures.ARCHITECTURES[train_config.architecture], data.statistics
    if train_config.mean == "image" and statistics is None:
        raise TrainingError(
            f"--mean=image needs images whose mean image is known; {data.directory} is not prepared. Type\n  python -m "
            f"alexnet_tf prepare --data_dir={data.directory} --output_dir=OUT\nand train with --data_dir=OUT.")
    image_size, mean, scale = row.image_size, statistics.mean_pixel if statistics else row.mean, None
    if train_config.mean == "image":
        mean = MEAN_IMAGE
    if source:
        mean, scale = source.mean, source.scale
    run_config = RunConfig(
        train=train_config, image_size=image_size, mean=mean, scale=scale, source=source,
        colour_pca=ColourPCA(
            statistics.pca_stdevs if statistics else architectures.IMAGENET_PCA_STDEVS,
            statistics.pca_vectors if statistics else architectures.IMAGENET_PCA_VECTORS),
        data=RunData(
            name=data.name, directory=data.directory, classes=tuple(data.class_names),
            images={name: len(split) for name, split in data.splits.items()}, validation=data.validation,
            fingerprint=data.fingerprint()))
    if source:
        transfer_learning.new_layers(run_config)  # Fails where one of them is frozen.
    return run_config


class _SignalCame(Exception):
    """Ends a validation early."""


class _Training:
    """One run: its epochs, and what happens between two steps."""

    def __init__(self, run, run_config, train_config, data, step, checkpoint_minutes, on_bad_image):
        self.run_directory, self.config, self.recipe, self.data = run, train_config, train_config.recipe, data
        self.run_config, self.train_step, self.placement = run_config, step, step.placement
        self.is_chief, self.is_alone = self.placement.worker == 0, self.placement.num_workers == 1
        self.checkpoint_seconds = checkpoint_minutes * 60
        self.train_split, self.validation_split = data.splits["train"], data.splits[data.validation]
        self.steps = input_pipeline.steps_per_epoch(self.train_split, self.recipe.batch_size)
        self.chance_loss = chance_loss(self.train_split, len(data.class_names))
        self.row = run_config.architecture
        self.validation_seconds = self.waited_seconds = 0.0
        self.colour_pca = run_config.colour_pca.stdevs, run_config.colour_pca.vectors
        self.predict = metrics.make_predictor(step.model)
        self.log = tensorboard.Log(run, data.class_names) if self.is_chief else None
        # Of the epoch: its number, where it began, steps done, and the sums of what these found.
        self.epoch, self.first_step, self.done, self.loss_sum, self.wrong = 0, 0, 0, 0.0, 0
        self.plateau, self.history, self.best, self.best_step = schedules.Plateau(), [], [math.inf, math.inf], None
        self.is_over, self.is_stopping, self.signal = False, False, None
        self.on_bad_image, self.skipped = on_bad_image, {"train": {}, "validation": {}}

    def _say(self, *lines):
        if self.is_chief:
            print(*lines, sep="\n", flush=True)

    def run(self) -> bool:
        """Runs what is left to do; returns whether the run is complete."""
        self._announce()
        self._resume()
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._is_complete() and not self.is_stopping:
                self._run_epoch()
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(
                f"Memory ran out at batch_size={self.recipe.batch_size}. Start anew in another --workdir with "
                f"--batch_size={max(1, self.recipe.batch_size // 2)}.") from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if not self._is_complete():
            by = signal.Signals(self.signal).name if self.signal else "another worker"
            writes = "a checkpoint is written" if self.is_chief else "worker 1 writes a checkpoint"
            print(f"Stopped by {by}; {writes}. The same command goes on from here.", flush=True)
            return False
        self._say(f"Done: {self.epoch} epochs, lowest validation error {self.best[0]:.4f}. Next:\n"
                  f"  python -m alexnet_tf evaluate --workdir={self.run_directory} --checkpoint=best\n"
                  f"  python -m alexnet_tf predict --workdir={self.run_directory} IMAGE...\n"
                  f"  python export.py --workdir={self.run_directory}\n"
                  f"  tensorboard --logdir={self.run_directory}   (or look into {self.run_directory.path / tensorboard.PICTURES})")
        return True

    def _is_complete(self) -> bool:
        return self.epoch >= self.recipe.epochs or self.is_over

    def _announce(self):
        model = self.train_step.model
        recipe, parameters = self.recipe, sum(
            math.prod(v.shape) for name in alexnet.layer_names(self.row) for v in model.get_layer(name).weights)
        start = {
            "row": "as its source states",
            "he": "by He's rule, which was measured to learn on small data (--initialization=row: the source's own)",
        }.get(self.config.initialization, f"as {self.config.initialization} states")
        schedule = recipe.schedule + (f", patience {recipe.patience} epochs" if recipe.schedule == "plateau" else "")
        clip = f", gradient norm at most {recipe.clip_norm:g}" if recipe.clip_norm else ""
        start = f", initialised {start}"
        if self.config.init_from:
            start = f"\n{transfer_learning.describe(model, self.run_config)}"
        self._say(
            f"Network: {self.row.name}, {parameters:,} parameters{start}\n"
            f"Recipe: batches of {recipe.batch_size}, {recipe.epochs} epochs of {self.steps} steps, rate "
            f"{recipe.learning_rate:g} ({schedule}), momentum {recipe.momentum:g}, weight decay "
            f"{recipe.weight_decay:g}{clip}\n"
            f"Precision: {self.config.precision}{', compiled by XLA' if self.config.jit else ''}; "
            f"{'' if self.config.deterministic else 'not '}deterministic",
            self.placement.summary(self.train_step.variables, recipe.batch_size))

    def _resume(self):
        checkpoint = self.run_directory.read_checkpoint()
        if checkpoint is None:
            if self.config.init_from:
                transfer_learning.load_weights(self.train_step.model, self.run_config)
                self._save(0, 0)  # From here on the source is not needed.
            self._say(f"A new run in {self.run_directory}.")
            return
        arrays, state = checkpoint
        runs.restore(self.train_step.variables, arrays)
        self.epoch, self.first_step, self.is_over = state["epoch"], state["step"], state["is_over"]
        self.done, self.loss_sum, self.wrong = state["step"], state["loss_sum"], state["wrong"]
        self.plateau, self.best = schedules.Plateau(**state["plateau"]), [state["best_error"], state["best_loss"]]
        self.best_step, self.history = state["best_step"], state["history"]
        # JSON has made the indices strings.
        self.skipped = {name: {int(i): why for i, why in bad.items()} for name, bad in state["skipped"].items()}
        if self.is_chief:
            self.run_directory.mark_best(self.best_step)
            if self.history:
                self.run_directory.write_history(self.history)
        if self._is_complete():
            self._say(f"The run in {self.run_directory} is complete."
                      + ("" if self.is_over else " With more --epochs it goes on from here."))
        else:
            self._say(
                f"Resuming {self.run_directory} at epoch {self.epoch + 1}, step {self.first_step + 1} of {self.steps}.")

    def _save(self, epoch: int, step: int):
        """Writes a checkpoint; within an epoch, up to its last step, with the sums over it."""
        if not self.is_chief:
            return
        state = {
            "epoch": epoch, "step": step, "is_over": self.is_over, "plateau": dataclasses.asdict(self.plateau),
            "best_error": self.best[0], "best_loss": self.best[1], "best_step": self.best_step,
            "history": self.history, "loss_sum": self.loss_sum if step else 0.0, "wrong": self.wrong if step else 0,
            "skipped": self.skipped}
        arrays = {variable.path: np.asarray(variable) for variable in self.train_step.variables}
        for name, array in arrays.items():  # A ReLU may hide it from the loss.
            if not np.isfinite(array).all():
                raise self._diverged(f"{name} is no longer finite at step {epoch * self.steps + step}")
        self.run_directory.write_checkpoint(epoch * self.steps + step, arrays, state, self.best_step)
        self.saved_at = time.monotonic()

    def _run_epoch(self):
        self.started_at = self.saved_at = self.told_at = time.monotonic()
        self.waited_seconds = 0.0
        with self._progress_bar() as self.bar:
            while self.done < self.steps and not self.is_stopping:
                try:
                    self._train_from(self.done)
                except input_pipeline.READ_ERRORS as error:
                    batch = input_pipeline.batch_indices(
                        self.train_split, self.recipe, seed=self.config.seed, epoch=self.epoch, step=self.done,
                        skipped=self.skipped["train"])
                    input_pipeline.bad_images(
                        self.train_split, batch, error, self.on_bad_image, self.skipped["train"])
        if self.done == self.steps:  # Also where a checkpoint is from between the last step and the validation.
            self._end_epoch(max(time.monotonic() - self.started_at, 1e-6))

    def _train_from(self, first_step):
        recipe = self.recipe
        is_noisy = recipe.colour_noise and (
            recipe.schedule != "steps" or self.epoch / recipe.epochs < recipe.colour_noise_until)

        def make_dataset(worker, num_workers):
            return input_pipeline.make_train_dataset(
                self.train_split, recipe, image_size=self.row.image_size, seed=self.config.seed, epoch=self.epoch,
                first_step=first_step, colour_pca=self.colour_pca if is_noisy else None, skipped=self.skipped["train"],
                worker=worker, num_workers=num_workers)

        if self.is_chief and not self.history and not first_step:
            images, _ = next(iter(make_dataset(self.placement.worker, self.placement.num_workers)))
            self.log.input_pictures(input_pipeline.add_noise(*images) if is_noisy else images)
        batches = self.train_step.batches(make_dataset)
        while self.done < self.steps and not self.is_stopping:
            start = time.perf_counter()
            batch = next(batches)
            self.waited_seconds += time.perf_counter() - start
            self._set_rates()
            self._end_step(self.train_step(batch, is_stop=self.signal is not None))

    def _progress_bar(self):
        return tqdm.tqdm(
            total=self.steps, initial=self.first_step, unit="step", leave=False, file=sys.stdout,
            disable=None if self.is_chief else True,
            desc=f"Epoch {self.epoch + 1}/{self.recipe.epochs}", dynamic_ncols=True)

    def _set_rates(self):
        recipe = self.recipe
        step = self.epoch * self.steps + self.done
        progress = step / (recipe.epochs * self.steps)
        factor = schedules.rate_factor(recipe, progress, self.plateau.divisions)
        multiplier = recipe.bias_learning_rate_multiplier
        if recipe.schedule == "steps" and recipe.bias_steps is not None:
            multiplier *= schedules.step_factor(recipe.bias_steps, progress) / factor
        conv1 = schedules.step_factor(recipe.conv1_steps, progress) if recipe.schedule == "steps" else 1.0
        self.train_step.sgd.bias_multiplier.assign(multiplier)
        self.train_step.sgd.conv1_multiplier.assign(conv1)
        warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        self.train_step.sgd.learning_rate = recipe.learning_rate * factor * warm_up

    def _end_step(self, result):
        self.done += 1
        self.loss_sum, self.wrong = self.loss_sum + result.loss, self.wrong + result.wrong
        step, loss, error = self.epoch * self.steps + self.done, *self._means()
        if not math.isfinite(result.loss):
            raise self._diverged(f"The loss is {result.loss} at step {step} (epoch {self.epoch + 1})")
        if step % _STUCK_STEPS == 0:
            self._tell_if_stuck(loss, step)
        course = f"loss {loss:.3f}, error {error:.3f}, {self._images_per_second():.0f} images/s"
        self.bar.set_postfix_str(course, refresh=False)
        self.bar.update()
        if self.done == self.steps:
            return
        # Workers stop together: all hear of a signal in the result of the step after it.
        self.is_stopping = self.signal is not None if self.is_alone else result.is_stop
        now = time.monotonic()
        if self.is_stopping or now - self.saved_at > self.checkpoint_seconds:
            self._save(self.epoch, self.done)
        if self.bar.disable and now - self.told_at > 20:
            self.told_at = now
            self._say(f"Epoch {self.epoch + 1}/{self.recipe.epochs}, step {self.done}/{self.steps}: {course}")

    def _means(self):
        """Returns the mean loss and error over the epoch's steps that are done."""
        return self.loss_sum / self.done, self.wrong / (self.done * self.recipe.batch_size)

    def _images_per_second(self) -> float:
        seconds = time.monotonic() - self.started_at
        return (self.done - self.first_step) * self.recipe.batch_size / seconds

    def _diverged(self, what: str) -> TrainingError:
        kept = f"The last checkpoint in {self.run_directory} is from before. " if self.run_directory.steps() else ""
        return TrainingError(
            f"{what}: the run has diverged. {kept}Start anew in another --workdir with a lower rate "
            f"(--learning_rate={self.recipe.learning_rate / 3:.2g}), with --clip_norm=1, or with --warmup_steps=200.")

    def _validate(self) -> metrics.Evaluation | None:
        """Measures the validation split; None if a signal came, after a checkpoint from before the measurement."""
        split, seconds = self.validation_split, time.monotonic() - self.saved_at
        if not self.is_alone:
            split = split.subset(np.arange(self.placement.worker, len(split), self.placement.num_workers))
        if seconds + self.validation_seconds > self.checkpoint_seconds:
            self._save(self.epoch, self.steps)
        started = time.monotonic()
        batches = input_pipeline.evaluation_batches(
            split, batch_size=_EVALUATION_BATCH_SIZE, image_size=self.row.image_size, resize=self.recipe.resize,
            on_bad_image=self.on_bad_image, skipped=self.skipped["validation"])
        batches = tqdm.tqdm(
            batches, total=-(-len(split) // _EVALUATION_BATCH_SIZE), desc="Validation", unit="batch", leave=False,
            disable=None if self.is_chief else True, file=sys.stdout)
        try:
            result = metrics.evaluate(
                self.predict, self._until_signal(batches), len(self.data.class_names), total=self.placement.total)
        except _SignalCame:
            self._save(self.epoch, self.steps)
            self.is_stopping = True
            return None
        self.validation_seconds = time.monotonic() - started
        if not math.isfinite(result.loss):
            raise self._diverged(f"The validation loss is {result.loss} after epoch {self.epoch + 1}")
        return result

    def _until_signal(self, batches):
        for batch in batches:
            if self.signal and self.is_alone:  # Else the others would wait for this one's part.
                raise _SignalCame
            yield batch

    def _end_epoch(self, seconds):
        images_per_second = (self.steps - self.first_step) * self.recipe.batch_size / seconds
        waited = self.waited_seconds / seconds
        result = self._validate()
        if result is None:
            return
        loss, error = self._means()
        row = {
            "epoch": self.epoch + 1, "step": (self.epoch + 1) * self.steps,
            "learning_rate": float(f"{self.train_step.sgd.learning_rate.numpy():.6g}"),
            "train_loss": loss, "train_top1_error": error, "val_loss": result.loss,
            "val_top1_error": result.top1_error, "val_top5_error": result.top5_error,
            "images_per_second": round(images_per_second, 1)}
        self.history.append(row)
        is_best = [result.top1_error, result.loss] < self.best
        if is_best:
            self.best, self.best_step = [result.top1_error, result.loss], (self.epoch + 1) * self.steps
        divisions = self.plateau.divisions
        if self.recipe.schedule == "plateau":
            self.is_over = self.plateau.update(result.top1_error, self.recipe.patience)
        self.epoch, self.first_step, self.done, self.loss_sum, self.wrong = self.epoch + 1, 0, 0, 0.0, 0
        self._save(self.epoch, 0)
        if not self.is_chief:
            return
        self.run_directory.write_history(self.history)
        self.log.epoch(row, waited, self.train_step.model, result.confusion)
        self._tell(row, waited, is_best, self.plateau.divisions > divisions)

    def _tell(self, row, waited, is_best, has_divided):
        top5 = "" if row["val_top5_error"] is None else f", top-5 error {row['val_top5_error']:.4f}"
        print(f"Epoch {row['epoch']}/{self.recipe.epochs}: train loss {row['train_loss']:.4f}, "
              f"error {row['train_top1_error']:.4f}; validation loss {row['val_loss']:.4f}, "
              f"error {row['val_top1_error']:.4f}{top5}{' (best)' if is_best else ''}; rate {row['learning_rate']:.2g}; "
              f"{row['images_per_second']:.0f} images/s, {waited:.0%} of the time waiting for input", flush=True)
        if self.is_over:
            print(f"The validation error has not fallen for {self.recipe.patience} epochs after the rate was divided "
                  f"{schedules.Plateau.MAX_DIVISIONS} times: training ends here (Section 5).")
        elif has_divided:
            print(f"The validation error has not fallen for {self.recipe.patience} epochs: the rate is divided by 10.")
        self._tell_if_stuck(row["train_loss"], row["step"])

    def _tell_if_stuck(self, loss, step):
        if schedules.is_stuck(loss, self.chance_loss, step):
            self._say(
                f"The loss is stuck at {loss:.3f}: guessing gives {self.chance_loss:.3f} "
                f"(ln({len(self.data.class_names)}) = {math.log(len(self.data.class_names)):.3f}). The network has "
                f"learned nothing yet with --initialization={self.config.initialization} and "
                f"--learning_rate={self.recipe.learning_rate:g}. Try, in another --workdir, {self._advice()}.")

    def _advice(self) -> str:
        if self.config.initialization != "he":
            return "--initialization=he --learning_rate=0.008 --clip_norm=5, which gets it going on small data"
        return f"a lower rate: --learning_rate={self.recipe.learning_rate / 3:.2g}"

    def _on_signal(self, number, frame):
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        # Not print(): the signal may have come in the middle of one.
        os.write(1, f"\n{signal.Signals(number).name}: stopping; a second one stops at once.\n".encode())
