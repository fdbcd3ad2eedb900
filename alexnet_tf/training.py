"""Trains a row of the table: epochs, validation, checkpoints and exact resume.

Keras' `fit` is called once an epoch, on the epoch's data from its first step to do, so that a run can be killed
anywhere and ends with the same bits. What a batch is, is in `input_pipeline`; what a step does to a weight and an
epoch to the rate, in `optimization`; what is written, in `workdir`.
"""

import contextlib
import dataclasses
import math
import os
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf import (
    alexnet, config, datasets, distribution, evaluation, input_pipeline, monitoring, optimization, preprocessing,
    transfer, workdir)

_EVALUATION_BATCH_SIZE = 128

# A long epoch is looked at this often for a loss that does not fall; ImageNet's has 10,009 steps.
_STUCK_STEPS = 5000


class TrainingError(config.UserError):
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
    train_config: config.TrainConfig, data: datasets.DataSet, path, *, checkpoint_minutes: float = 10.0,
    on_bad_image: str = "fail") -> bool:
    """Trains to the end, going on from the run's last checkpoint if there is one.

    Args:
        train_config: The decided run.
        data: What to train on.
        path: The run's directory.
        checkpoint_minutes: Longest time between checkpoints; there is one at each epoch's end anyway.
        on_bad_image: "fail", or "skip": an image that cannot be read is told, and the next one comes in its place.

    Returns:
        Whether the run is complete; False if a signal ended it early, after a checkpoint.

    Raises:
        workdir.WorkdirError: If the directory holds another run or cannot be written.
        datasets.DataError: If an image cannot be read.
        transfer.TransferError: If the weights of another run cannot be taken over as asked.
        TrainingError: If the loss is no longer finite.
    """
    keras.utils.set_random_seed(train_config.seed)
    if train_config.deterministic:
        tf.config.experimental.enable_op_determinism()
    run = workdir.Workdir(path)
    with run.locked():
        if train_config.precision == "auto":
            precision = (run.read_config() or {}).get("precision") or distribution.default_precision()
            train_config = dataclasses.replace(train_config, precision=precision)
        source = transfer.find_source(train_config.init_from, run)
        run_config = make_run_config(train_config, data, source)
        run.check_same_config(run_config)
        # Before anything is written: fails where there is not one whole batch.
        input_pipeline.steps_per_epoch(data.splits["train"], train_config.recipe.batch_size)
        if source and source.mean == workdir.MEAN_IMAGE and not run.steps():
            run.write_mean_image(transfer.read_mean_image(source))
        elif run_config["mean"] == workdir.MEAN_IMAGE and not source:
            run.write_mean_image(preprocessing.center_crop(data.statistics.mean_image, run_config["image_size"]))
        run.write_config(run_config, data.class_names)
        return _Training(run, run_config, train_config, data, checkpoint_minutes, on_bad_image).run()


def make_run_config(train_config: config.TrainConfig, data: datasets.DataSet, source=None) -> dict:
    """Returns config.json: all that is needed to evaluate, export or resume the run.

    Args:
        train_config: The decided run.
        data: What it trains on.
        source: A `transfer.Source`, if the weights come from another run.
    """
    row, statistics = config.ARCHITECTURES[train_config.architecture], data.statistics
    if train_config.mean == "image" and statistics is None:
        raise TrainingError(
            f"--mean=image needs images whose mean image is known; {data.directory} is not prepared. Type\n  python -m "
            f"alexnet_tf prepare --data_dir={data.directory} --output_dir=OUT\nand train with --data_dir=OUT.")
    mean = list(statistics.mean_pixel if statistics else row.mean)
    run_config = dataclasses.asdict(train_config) | {
        "image_size": row.image_size,
        "mean": workdir.MEAN_IMAGE if train_config.mean == "image" else mean,
        "colour_pca": {
            "stdevs": list(statistics.pca_stdevs if statistics else config.IMAGENET_PCA_STDEVS),
            "vectors": [list(row) for row in (statistics.pca_vectors if statistics else config.IMAGENET_PCA_VECTORS)]},
        "data": {
            "name": data.name, "directory": data.directory, "classes": list(data.class_names),
            "images": {name: len(split) for name, split in data.splits.items()},
            "validation": data.validation, "fingerprint": data.fingerprint()},
    } | (transfer.conventions(source) if source else {})
    if source:
        transfer.new_layers(run_config)  # Fails where one of them is frozen.
    return run_config


class _SignalCame(Exception):
    """Ends a validation early."""


class _TimedModel(keras.Model):
    """A functional model whose batches are fetched in Python, so that waiting for input can be told from computing.

    Colour noise comes beside the images, and is added here: what is fetched, and goes to a GPU, is a quarter of it.
    """

    waited_seconds = 0.0

    def train_step(self, data):
        images, labels = data
        if isinstance(images, tuple):
            images = input_pipeline.add_noise(*images)
        return super().train_step((images, labels))

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        step = tf.function(self.train_step, jit_compile=self.jit_compile, reduce_retracing=True)

        def fetch_and_step(iterator):
            start = time.perf_counter()
            batch = next(iterator)
            self.waited_seconds += time.perf_counter() - start
            return step(batch)

        self.train_function = fetch_and_step


class _Training(keras.callbacks.Callback):
    """One run: the epochs, and as a Keras callback what happens between two steps."""

    def __init__(self, run, run_config, train_config, data, checkpoint_minutes, on_bad_image):
        super().__init__()
        self.run_directory, self.config, self.recipe, self.data = run, train_config, train_config.recipe, data
        self.checkpoint_seconds = checkpoint_minutes * 60
        self.train_split, self.validation_split = data.splits["train"], data.splits[data.validation]
        self.steps = input_pipeline.steps_per_epoch(self.train_split, self.recipe.batch_size)
        self.chance_loss = chance_loss(self.train_split, len(data.class_names))
        self.row, self.run_config = config.architecture_of(run_config), run_config
        self.validation_seconds = 0.0
        pca = run_config["colour_pca"]
        self.colour_pca = pca["stdevs"], pca["vectors"]
        self.network = self._make_network(run.read_mean(run_config))
        self.predict = evaluation.make_predictor(self.network)
        self.log = monitoring.Log(run, data.class_names)
        self.epoch, self.first_step, self.saved_metrics = 0, 0, None
        self.plateau, self.history, self.best, self.best_step = optimization.Plateau(), [], [math.inf, math.inf], None
        self.is_over, self.signal, self.done = False, None, 0
        self.on_bad_image, self.skipped = on_bad_image, {"train": {}, "validation": {}}

    def _make_network(self, mean):
        model = alexnet.build_model(
            self.row, mean=mean, seed=self.config.seed, precision=self.config.precision,
            learns_from=transfer.first_learning_stage(self.row, self.config.freeze))
        model = _TimedModel(model.inputs, model.outputs[0], name=model.name)
        transfer.freeze(model, self.config.freeze)
        new = transfer.new_layers(self.run_config) if self.config.init_from else ()
        self.error = keras.metrics.MeanMetricWrapper(_is_wrong, name="top1_error")
        optimizer = self.sgd = optimization.MomentumSGD(
            self.recipe.learning_rate, momentum=self.recipe.momentum, kernel_decay=self.recipe.weight_decay,
            layer_multipliers=dict.fromkeys(new, self.recipe.new_layer_learning_rate_multiplier),
            global_clipnorm=self.recipe.clip_norm or None, name="sgd")
        if self.config.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        model.compile(
            optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            auto_scale_loss=False,
            metrics=[self.error])
        # Keras lists the second one under `metrics_variables` only after the first step.
        self.metric_variables = [*model.metrics[0].variables, *self.error.variables]
        model.optimizer.build(model.trainable_variables)
        return model

    def run(self) -> bool:
        """Runs what is left to do; returns whether the run is complete."""
        self._announce()
        self._resume()
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._is_complete() and not self.signal:
                self._run_epoch()
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(
                f"Memory ran out at batch_size={self.recipe.batch_size}. Start anew in another --workdir with "
                f"--batch_size={max(1, self.recipe.batch_size // 2)}.") from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signal and not self._is_complete():
            print(f"Stopped by {signal.Signals(self.signal).name}; a checkpoint is written. The same command goes on "
                  "from here.", flush=True)
            return False
        print(f"Done: {self.epoch} epochs, lowest validation error {self.best[0]:.4f}. Next:\n"
              f"  python -m alexnet_tf evaluate --workdir={self.run_directory} --checkpoint=best\n"
              f"  python -m alexnet_tf predict --workdir={self.run_directory} IMAGE...\n"
              f"  python export.py --workdir={self.run_directory}\n"
              f"  tensorboard --logdir={self.run_directory}   (or look into {self.run_directory.path / monitoring.PICTURES})")
        return True

    def _is_complete(self) -> bool:
        return self.epoch >= self.recipe.epochs or self.is_over

    def _announce(self):
        recipe, parameters = self.recipe, sum(
            math.prod(v.shape) for name in alexnet.layer_names(self.row) for v in self.network.get_layer(name).weights)
        start = {
            "row": "as its source states",
            "he": "by He's rule, which was measured to learn on small data (--initialization=row: the source's own)",
        }.get(self.config.initialization, f"as {self.config.initialization} states")
        schedule = recipe.schedule + (f", patience {recipe.patience} epochs" if recipe.schedule == "plateau" else "")
        clip = f", gradient norm at most {recipe.clip_norm:g}" if recipe.clip_norm else ""
        start = f", initialised {start}"
        if self.config.init_from:
            start = f"\n{transfer.describe(self.network, self.run_config)}"
        print(f"Network: {self.row.name}, {parameters:,} parameters{start}\n"
              f"Recipe: batches of {recipe.batch_size}, {recipe.epochs} epochs of {self.steps} steps, rate "
              f"{recipe.learning_rate:g} ({schedule}), momentum {recipe.momentum:g}, weight decay "
              f"{recipe.weight_decay:g}{clip}\n"
              f"Precision: {self.config.precision}; {'' if self.config.deterministic else 'not '}deterministic")

    def _resume(self):
        checkpoint = self.run_directory.read_checkpoint()
        if checkpoint is None:
            if self.config.init_from:
                transfer.load_weights(self.network, self.run_config)
                self._save(0, 0)  # From here on the source is not needed.
            print(f"A new run in {self.run_directory}.")
            return
        arrays, state = checkpoint
        workdir.restore(self._variables(), arrays)
        self.epoch, self.first_step, self.is_over = state["epoch"], state["step"], state["is_over"]
        self.plateau, self.best = optimization.Plateau(**state["plateau"]), [state["best_error"], state["best_loss"]]
        self.best_step = state["best_step"]
        self.run_directory.mark_best(self.best_step)
        self.history, self.saved_metrics = state["history"], state["metrics"]
        # JSON has made the indices strings.
        self.skipped = {name: {int(i): why for i, why in bad.items()} for name, bad in state["skipped"].items()}
        if self.history:
            self.run_directory.write_history(self.history)
        if self._is_complete():
            print(f"The run in {self.run_directory} is complete."
                  + ("" if self.is_over else " With more --epochs it goes on from here."))
        else:
            print(f"Resuming {self.run_directory} at epoch {self.epoch + 1}, step {self.first_step + 1} of {self.steps}.")

    def _variables(self):
        return [*self.network.variables, *self.network.optimizer.variables]

    def _metric_values(self):
        return [np.asarray(variable).tolist() for variable in self.metric_variables]

    def _save(self, epoch: int, step: int):
        """Writes a checkpoint; within an epoch, up to its last step, with the sums of the metrics."""
        metrics = self._metric_values() if step else None
        state = {
            "epoch": epoch, "step": step, "is_over": self.is_over, "plateau": dataclasses.asdict(self.plateau),
            "best_error": self.best[0], "best_loss": self.best[1], "best_step": self.best_step,
            "history": self.history, "metrics": metrics, "skipped": self.skipped}
        arrays = {variable.path: np.asarray(variable) for variable in self._variables()}
        for name, array in arrays.items():  # A ReLU may hide it from the loss.
            if not np.isfinite(array).all():
                raise self._diverged(f"{name} is no longer finite at step {epoch * self.steps + step}")
        self.run_directory.write_checkpoint(epoch * self.steps + step, arrays, state, self.best_step)
        self.saved_at = time.monotonic()

    def _run_epoch(self):
        self.started_at = self.saved_at = self.told_at = time.monotonic()
        self.done, self.network.waited_seconds = self.first_step, 0.0
        if self.first_step < self.steps:  # Else the checkpoint is from between the last step and the validation.
            self._fit()
        else:
            self._restore_metrics()
        if self.done == self.steps:
            self._end_epoch(max(time.monotonic() - self.started_at, 1e-6))

    def _fit(self):
        with self._progress_bar() as self.bar:
            while self.done < self.steps and not self.signal:
                try:
                    self._fit_from(self.done)
                except input_pipeline.READ_ERRORS as error:
                    self._skip(error)

    def _fit_from(self, step):
        recipe = self.recipe
        is_noisy = recipe.colour_noise and (
            recipe.schedule != "steps" or self.epoch / recipe.epochs < recipe.colour_noise_until)
        dataset = input_pipeline.make_train_dataset(
            self.train_split, recipe, image_size=self.row.image_size, seed=self.config.seed, epoch=self.epoch,
            first_step=step, colour_pca=self.colour_pca if is_noisy else None, skipped=self.skipped["train"])
        if not self.history and not step:
            images, _ = next(iter(dataset))
            self.log.input_pictures(input_pipeline.add_noise(*images) if is_noisy else images)
        self.network.fit(
            dataset, initial_epoch=self.epoch, epochs=self.epoch + 1, callbacks=[self], shuffle=False, verbose=0)

    def _skip(self, error):
        """Finds what made the batch fail; the epoch goes on at that batch, without it."""
        skipped = self.skipped["train"]
        batch = input_pipeline.batch_indices(
            self.train_split, self.recipe, seed=self.config.seed, epoch=self.epoch, step=self.done, skipped=skipped)
        input_pipeline.bad_images(self.train_split, batch, error, self.on_bad_image, skipped)
        if self.done and self.saved_metrics is None:
            self.saved_metrics = self._metric_values()

    def _progress_bar(self):
        return tqdm.tqdm(
            total=self.steps, initial=self.first_step, unit="step", leave=False, disable=None, file=sys.stdout,
            desc=f"Epoch {self.epoch + 1}/{self.recipe.epochs}", dynamic_ncols=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.error.reset_state()  # Keras has done so for the loss, and for this one only after its first step.
        self._restore_metrics()

    def _restore_metrics(self):
        if self.saved_metrics is not None:
            for variable, value in zip(self.metric_variables, self.saved_metrics, strict=True):
                variable.assign(np.asarray(value, variable.dtype))
            self.saved_metrics = None

    def on_train_batch_begin(self, batch, logs=None):
        recipe = self.recipe
        step = self.epoch * self.steps + self.done
        progress = step / (recipe.epochs * self.steps)
        factor = optimization.rate_factor(recipe, progress, self.plateau.divisions)
        multiplier = recipe.bias_learning_rate_multiplier
        if recipe.schedule == "steps" and recipe.bias_steps is not None:
            multiplier *= optimization.step_factor(recipe.bias_steps, progress) / factor
        conv1 = optimization.step_factor(recipe.conv1_steps, progress) if recipe.schedule == "steps" else 1.0
        self.sgd.bias_multiplier.assign(multiplier)
        self.sgd.conv1_multiplier.assign(conv1)
        warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        self.sgd.learning_rate = recipe.learning_rate * factor * warm_up

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        step = self.epoch * self.steps + self.done
        if not math.isfinite(logs["loss"]):
            raise self._diverged(f"The loss is {logs['loss']} at step {step} (epoch {self.epoch + 1})")
        if step % _STUCK_STEPS == 0:
            self._tell_if_stuck(logs["loss"], step)
        self.bar.set_postfix_str(
            f"loss {logs['loss']:.3f}, error {logs['top1_error']:.3f}, {self._images_per_second():.0f} images/s",
            refresh=False)
        self.bar.update()
        if self.done == self.steps:
            return
        now = time.monotonic()
        if self.signal or now - self.saved_at > self.checkpoint_seconds:
            self._save(self.epoch, self.done)
            self.network.stop_training = bool(self.signal)
        if self.bar.disable and now - self.told_at > 20:
            self.told_at = now
            print(f"Epoch {self.epoch + 1}/{self.recipe.epochs}, step {self.done}/{self.steps}: "
                  f"loss {logs['loss']:.3f}, error {logs['top1_error']:.3f}, "
                  f"{self._images_per_second():.0f} images/s", flush=True)

    def _images_per_second(self) -> float:
        seconds = time.monotonic() - self.started_at
        return (self.done - self.first_step) * self.recipe.batch_size / seconds

    def _diverged(self, what: str) -> TrainingError:
        kept = f"The last checkpoint in {self.run_directory} is from before. " if self.run_directory.steps() else ""
        return TrainingError(
            f"{what}: the run has diverged. {kept}Start anew in another --workdir with a lower rate "
            f"(--learning_rate={self.recipe.learning_rate / 3:.2g}), with --clip_norm=1, or with --warmup_steps=200.")

    def _validate(self) -> evaluation.Evaluation | None:
        """Measures the validation split; None if a signal came, after a checkpoint from before the measurement."""
        split, seconds = self.validation_split, time.monotonic() - self.saved_at
        if seconds + self.validation_seconds > self.checkpoint_seconds:
            self._save(self.epoch, self.steps)
        started = time.monotonic()
        batches = input_pipeline.evaluation_batches(
            split, batch_size=_EVALUATION_BATCH_SIZE, image_size=self.row.image_size, resize=self.recipe.resize,
            on_bad_image=self.on_bad_image, skipped=self.skipped["validation"])
        batches = tqdm.tqdm(
            batches, total=-(-len(split) // _EVALUATION_BATCH_SIZE), desc="Validation", unit="batch", leave=False,
            disable=None, file=sys.stdout)
        try:
            result = evaluation.evaluate(self.predict, self._until_signal(batches), len(self.data.class_names))
        except _SignalCame:
            self._save(self.epoch, self.steps)
            return None
        self.validation_seconds = time.monotonic() - started
        if not math.isfinite(result.loss):
            raise self._diverged(f"The validation loss is {result.loss} after epoch {self.epoch + 1}")
        return result

    def _until_signal(self, batches):
        for batch in batches:
            if self.signal:
                raise _SignalCame
            yield batch

    def _end_epoch(self, seconds):
        images_per_second = (self.steps - self.first_step) * self.recipe.batch_size / seconds
        waited = self.network.waited_seconds / seconds
        result = self._validate()
        if result is None:
            return
        loss, error = self.network.metrics[0], self.error
        row = {
            "epoch": self.epoch + 1, "step": (self.epoch + 1) * self.steps,
            "learning_rate": float(f"{float(self.sgd.learning_rate):.6g}"),
            "train_loss": float(loss.result()), "train_top1_error": float(error.result()), "val_loss": result.loss,
            "val_top1_error": result.top1_error, "val_top5_error": result.top5_error,
            "images_per_second": round(images_per_second, 1)}
        self.history.append(row)
        is_best = [result.top1_error, result.loss] < self.best
        if is_best:
            self.best, self.best_step = [result.top1_error, result.loss], (self.epoch + 1) * self.steps
        divisions = self.plateau.divisions
        if self.recipe.schedule == "plateau":
            self.is_over = self.plateau.update(result.top1_error, self.recipe.patience)
        self.epoch, self.first_step = self.epoch + 1, 0
        self._save(self.epoch, 0)
        self.run_directory.write_history(self.history)
        self.log.epoch(row, waited, self.network, result.confusion)
        self._tell(row, waited, is_best, self.plateau.divisions > divisions)

    def _tell(self, row, waited, is_best, has_divided):
        top5 = "" if row["val_top5_error"] is None else f", top-5 error {row['val_top5_error']:.4f}"
        print(f"Epoch {row['epoch']}/{self.recipe.epochs}: train loss {row['train_loss']:.4f}, "
              f"error {row['train_top1_error']:.4f}; validation loss {row['val_loss']:.4f}, "
              f"error {row['val_top1_error']:.4f}{top5}{' (best)' if is_best else ''}; rate {row['learning_rate']:.2g}; "
              f"{row['images_per_second']:.0f} images/s, {waited:.0%} of the time waiting for input", flush=True)
        if self.is_over:
            print(f"The validation error has not fallen for {self.recipe.patience} epochs after the rate was divided "
                  f"{optimization.Plateau.MAX_DIVISIONS} times: training ends here (Section 5).")
        elif has_divided:
            print(f"The validation error has not fallen for {self.recipe.patience} epochs: the rate is divided by 10.")
        self._tell_if_stuck(row["train_loss"], row["step"])

    def _tell_if_stuck(self, loss, step):
        if optimization.is_stuck(loss, self.chance_loss, step):
            print(f"The loss is stuck at {loss:.3f}: guessing gives {self.chance_loss:.3f} "
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


def _is_wrong(labels, logits):
    """Returns 1.0 for each example whose highest logit is another class."""
    return tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) != labels, tf.float32)
