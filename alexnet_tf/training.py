"""Trains a row of the table: optimizer, schedule, epochs, checkpoints and exact resume.

Keras' `fit` is called once an epoch, on the epoch's data from its first step to do, so that a run can be killed
anywhere and ends with the same bits. What a batch is, is in `input_pipeline`; what is written, in `workdir`.
"""

import dataclasses
import math
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf import alexnet, config, datasets, evaluation, input_pipeline, monitoring, workdir

_EVALUATION_BATCH_SIZE = 128


class TrainingError(config.UserError):
    """Training cannot go on; the message says why and what to try."""


class MomentumSGD(keras.optimizers.SGD):
    """SGD with the paper's update (Section 5; Caffe's is the same).

    velocity = momentum * velocity - rate * (gradient + kernel_decay * kernel), weight += velocity. Keras'
    `weight_decay=` is applied outside the velocity, and an L2 regulariser would be in every printed loss.

    Args:
        kernel_decay: Decay of kernels; biases have none, as in cuda-convnet and Caffe.
        **kwargs: As for `keras.optimizers.SGD`.

    Attributes:
        bias_multiplier: Rate of the biases over the kernels'; a variable.
        conv1_multiplier: A further factor on conv1; at 0 it gets no update and no decay.
    """

    def __init__(self, *args, kernel_decay: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.kernel_decay = kernel_decay
        self.bias_multiplier = tf.Variable(1.0, trainable=False)
        self.conv1_multiplier = tf.Variable(1.0, trainable=False)

    def update_step(self, gradient, variable, learning_rate):
        velocity = self.momentums[self._get_variable_index(variable)]
        path = velocity.path.removesuffix("_momentum").rpartition("/")[2]
        rate = tf.cast(learning_rate, variable.dtype)
        if path.endswith("bias"):
            rate *= self.bias_multiplier
        else:
            gradient += self.kernel_decay * variable
        if path.startswith("conv1"):
            rate *= self.conv1_multiplier
        new_velocity = self.momentum * velocity - rate * gradient
        if path.startswith("conv1"):
            new_velocity = tf.where(self.conv1_multiplier == 0, tf.zeros_like(new_velocity), new_velocity)
        self.assign(velocity, new_velocity)
        self.assign_add(variable, new_velocity)


@dataclasses.dataclass
class Plateau:
    """What the "plateau" schedule remembers.

    Attributes:
        best_error: Lowest validation error so far.
        stale_epochs: Epochs since then, or since the last division.
        divisions: How often the rate was divided by 10; at most `MAX_DIVISIONS`.
    """

    MAX_DIVISIONS = 3

    best_error: float = math.inf
    stale_epochs: int = 0
    divisions: int = 0

    def update(self, error: float, patience: int) -> bool:
        """Takes an epoch's validation error; returns whether training is over: stalled after the last division."""
        if error < self.best_error:
            self.best_error, self.stale_epochs = error, 0
            return False
        self.stale_epochs += 1
        if self.stale_epochs < patience:
            return False
        self.stale_epochs = 0
        self.divisions += 1
        return self.divisions > self.MAX_DIVISIONS


def rate_factor(recipe: config.Recipe, progress: float, divisions: int = 0) -> float:
    """Returns the factor on the learning rate, warm-up left out.

    Args:
        recipe: Its schedule decides.
        progress: Fraction of the run that is done, in [0, 1].
        divisions: Of the plateau schedule.
    """
    if recipe.schedule == "plateau":
        return 0.1 ** divisions
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return _step_factor(recipe.steps, progress)


def _step_factor(steps, progress: float) -> float:
    """Returns the factor of the last step that has begun. At 25/91 of 91 epochs, epoch 25 is inside."""
    return ([1.0] + [factor for begin, factor in steps if progress >= begin - 1e-9])[-1]


def is_stuck(train_loss: float, chance_loss: float, steps: int) -> bool:
    """Says whether a network has learned nothing: its cross-entropy is that of guessing by the classes' frequencies.

    Args:
        train_loss: Mean cross-entropy over an epoch, in nats.
        chance_loss: Entropy of the classes, ln(classes) if they are equally frequent.
        steps: Steps done; before 100 nothing is said.
    """
    return steps >= 100 and 0.98 * chance_loss < train_loss < 1.1 * chance_loss


def chance_loss(labels, num_classes: int) -> float:
    """Returns the entropy of the classes in nats; ln(classes) where the labels are not known."""
    if labels is None:
        return math.log(num_classes)
    frequencies = np.bincount(labels, minlength=num_classes) / len(labels)
    return float(-(frequencies[frequencies > 0] * np.log(frequencies[frequencies > 0])).sum())


def train(train_config: config.TrainConfig, data: datasets.DataSet, path, *, checkpoint_minutes: float = 10.0) -> bool:
    """Trains to the end, going on from the run's last checkpoint if there is one.

    Args:
        train_config: The decided run.
        data: What to train on.
        path: The run's directory.
        checkpoint_minutes: Longest time between checkpoints; there is one at each epoch's end anyway.

    Returns:
        Whether the run is complete; False if a signal ended it early, after a checkpoint.

    Raises:
        workdir.WorkdirError: If the directory holds another run or cannot be written.
        datasets.DataError: If an image cannot be read.
        TrainingError: If the loss is no longer finite.
    """
    keras.utils.set_random_seed(train_config.seed)
    if train_config.deterministic:
        tf.config.experimental.enable_op_determinism()
    run = workdir.Workdir(path)
    run_config = make_run_config(train_config, data)
    with run.locked():
        check_same_run(run, run_config)
        input_pipeline.steps_per_epoch(data.splits["train"], train_config.recipe.batch_size)
        run.write_config(run_config, data.class_names)
        return _Training(run, run_config, train_config, data, checkpoint_minutes).run()


def make_run_config(train_config: config.TrainConfig, data: datasets.DataSet) -> dict:
    """Returns config.json: all that is needed to evaluate, export or resume the run."""
    row = config.ARCHITECTURES[train_config.architecture]
    return dataclasses.asdict(train_config) | {
        "image_size": row.image_size,
        "mean": list(row.mean),
        "data": {
            "name": data.name, "directory": data.directory, "classes": list(data.class_names),
            "images": {name: len(split) for name, split in data.splits.items()},
            "validation": data.validation, "fingerprint": data.fingerprint()},
    }


def check_same_run(run: workdir.Workdir, run_config: dict) -> None:
    """Refuses to go on with a run that was started differently. More epochs, or moved data, are the same run.

    Raises:
        workdir.WorkdirError: Names each difference with both values.
    """
    old = run.read_config()
    if old is None:
        return
    differences = []

    def compare(name, before, now):
        if isinstance(before, dict) and isinstance(now, dict):
            for key in {**before, **now}:
                compare(f"{name}.{key}" if name else key, before.get(key), now.get(key))
        elif name not in ("recipe.epochs", "data.directory", "data.name") and before != now:
            differences.append(f"  {name}: {_short(before)} in the run, {_short(now)} now")

    compare("", old, _through_json(run_config))
    if differences:
        raise workdir.WorkdirError(
            f"{run} holds a run that was started differently:\n" + "\n".join(differences)
            + "\nGive the same flags to resume it, or another --workdir for a new run.")


def _through_json(value):
    """Returns what JSON makes of a value: tuples become lists."""
    if isinstance(value, dict):
        return {key: _through_json(item) for key, item in value.items()}
    return [_through_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


class _TimedModel(keras.Model):
    """A functional model whose batches are fetched in Python, so that waiting for input can be told from computing."""

    waited_seconds = 0.0

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

    def __init__(self, run, run_config, train_config, data, checkpoint_minutes):
        super().__init__()
        self.run_directory, self.config, self.recipe, self.data = run, train_config, train_config.recipe, data
        self.checkpoint_seconds = checkpoint_minutes * 60
        self.train_split, self.validation_split = data.splits["train"], data.splits[data.validation]
        self.steps = input_pipeline.steps_per_epoch(self.train_split, self.recipe.batch_size)
        self.chance_loss = chance_loss(self.train_split.labels, len(data.class_names))
        self.row = config.architecture_of(run_config)
        self.network = self._make_network(run_config["mean"])
        self.predict = evaluation.make_predictor(self.network)
        self.log = monitoring.Log(run, data.class_names)
        self.epoch, self.first_step, self.saved_metrics = 0, 0, None
        self.plateau, self.history, self.best = Plateau(), [], [math.inf, math.inf]
        self.is_over, self.signal = False, None

    def _make_network(self, mean):
        model = alexnet.build_model(self.row, mean=mean, seed=self.config.seed, precision=self.config.precision)
        model = _TimedModel(model.inputs, model.outputs[0], name=model.name)
        error = keras.metrics.MeanMetricWrapper(_is_wrong, name="top1_error")
        optimizer = self.sgd = MomentumSGD(
            self.recipe.learning_rate, momentum=self.recipe.momentum, kernel_decay=self.recipe.weight_decay,
            global_clipnorm=self.recipe.clip_norm or None, name="sgd")
        if self.config.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        model.compile(
            optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            auto_scale_loss=False,
            metrics=[error])
        # Keras lists the second one under `metrics_variables` only after the first step.
        self.metric_variables = [*model.metrics[0].variables, *error.variables]
        model.optimizer.build(model.trainable_variables)
        return model

    def run(self) -> bool:
        self._announce()
        self._resume()
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.epoch < self.recipe.epochs and not self.is_over and not self.signal:
                self._run_epoch()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signal:
            print(f"Stopped by {signal.Signals(self.signal).name}; a checkpoint is written. The same command goes on "
                  "from here.", flush=True)
            return False
        print(f"Done: {self.epoch} epochs, lowest validation error {self.best[0]:.4f}. Next:\n"
              f"  python -m alexnet_tf evaluate --workdir={self.run_directory} --checkpoint=best\n"
              f"  python -m alexnet_tf predict --workdir={self.run_directory} IMAGE...\n"
              f"  tensorboard --logdir={self.run_directory}   (or look into {self.run_directory.path / monitoring.PICTURES})")
        return True

    def _announce(self):
        recipe, parameters = self.recipe, sum(math.prod(v.shape) for v in self.network.trainable_variables)
        start = {
            "row": "as its source states",
            "he": "by He's rule, which was measured to learn on small data (--initialization=row: the source's own)",
        }.get(self.config.initialization, f"as {self.config.initialization} states")
        schedule = recipe.schedule + (f", patience {recipe.patience} epochs" if recipe.schedule == "plateau" else "")
        clip = f", gradient norm at most {recipe.clip_norm:g}" if recipe.clip_norm else ""
        print(f"Network: {self.row.name}, {parameters:,} parameters, initialised {start}\n"
              f"Recipe: batches of {recipe.batch_size}, {recipe.epochs} epochs of {self.steps} steps, rate "
              f"{recipe.learning_rate:g} ({schedule}), momentum {recipe.momentum:g}, weight decay "
              f"{recipe.weight_decay:g}{clip}\n"
              f"Precision: {self.config.precision}; {'' if self.config.deterministic else 'not '}deterministic")

    def _resume(self):
        checkpoint = self.run_directory.read_checkpoint()
        if checkpoint is None:
            print(f"A new run in {self.run_directory}.")
            return
        arrays, state = checkpoint
        workdir.restore(self._variables(), arrays)
        self.epoch, self.first_step, self.is_over = state["epoch"], state["step"], state["is_over"]
        self.plateau, self.best = Plateau(**state["plateau"]), [state["best_error"], state["best_loss"]]
        self.history, self.saved_metrics = state["history"], state["metrics"]
        if self.history:
            self.run_directory.write_history(self.history)
        if self.epoch >= self.recipe.epochs or self.is_over:
            print(f"The run in {self.run_directory} is complete. More --epochs go on from here.")
        else:
            print(f"Resuming {self.run_directory} at epoch {self.epoch + 1}, step {self.first_step + 1} of {self.steps}.")

    def _variables(self):
        return [*self.network.variables, *self.network.optimizer.variables]

    def _save(self, epoch: int, step: int, metrics, is_best: bool = False):
        state = {
            "epoch": epoch, "step": step, "is_over": self.is_over, "plateau": dataclasses.asdict(self.plateau),
            "best_error": self.best[0], "best_loss": self.best[1], "history": self.history, "metrics": metrics}
        arrays = {variable.path: np.asarray(variable) for variable in self._variables()}
        self.run_directory.write_checkpoint(epoch * self.steps + step, arrays, state, is_best)
        self.saved_at = time.monotonic()

    def _run_epoch(self):
        progress = self.epoch / self.recipe.epochs
        dataset = input_pipeline.make_train_dataset(
            self.train_split, self.recipe, image_size=self.row.image_size, seed=self.config.seed, epoch=self.epoch,
            first_step=self.first_step, add_colour_noise=progress < self.recipe.colour_noise_until)
        if not self.history and not self.first_step:
            self.log.input_pictures(next(iter(dataset))[0])
        self.started_at = self.saved_at = self.told_at = time.monotonic()
        self.network.waited_seconds = 0.0

        def order():
            return input_pipeline.epoch_order(
                self.train_split, seed=self.config.seed, epoch=self.epoch,
                first_example=self.first_step * self.recipe.batch_size)

        with input_pipeline.naming_bad_images(self.train_split, order), self._progress_bar() as self.bar:
            logs = self.network.fit(
                dataset, initial_epoch=self.epoch, epochs=self.epoch + 1, callbacks=[self], shuffle=False, verbose=0)
        if self.done == self.steps:
            seconds = time.monotonic() - self.started_at
            self._end_epoch(logs.history["loss"][-1], logs.history["top1_error"][-1], seconds)

    def _progress_bar(self):
        return tqdm.tqdm(
            total=self.steps, initial=self.first_step, unit="step", leave=False, disable=None, file=sys.stdout,
            desc=f"Epoch {self.epoch + 1}/{self.recipe.epochs}", dynamic_ncols=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.done = self.first_step
        if self.saved_metrics is not None:  # Keras has just reset them.
            for variable, value in zip(self.metric_variables, self.saved_metrics, strict=True):
                variable.assign(np.asarray(value, variable.dtype))
            self.saved_metrics = None

    def on_train_batch_begin(self, batch, logs=None):
        recipe = self.recipe
        step = self.epoch * self.steps + self.done
        progress = step / (recipe.epochs * self.steps)
        factor = rate_factor(recipe, progress, self.plateau.divisions)
        multiplier = recipe.bias_learning_rate_multiplier
        if recipe.bias_steps is not None:
            multiplier *= _step_factor(recipe.bias_steps, progress) / factor
        self.sgd.bias_multiplier.assign(multiplier)
        self.sgd.conv1_multiplier.assign(_step_factor(recipe.conv1_steps, progress))
        warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        self.sgd.learning_rate = recipe.learning_rate * factor * warm_up

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        step = self.epoch * self.steps + self.done
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"The loss is {logs['loss']} at step {step} (epoch {self.epoch + 1}): the run has diverged. The last "
                f"checkpoint in {self.run_directory} is from before. Start anew in another --workdir with a lower rate "
                f"(--learning_rate={self.recipe.learning_rate / 3:.2g}), with --clip_norm=1, or with --warmup_steps=200.")
        self.bar.set_postfix_str(
            f"loss {logs['loss']:.3f}, error {logs['top1_error']:.3f}, {self._images_per_second():.0f} images/s",
            refresh=False)
        self.bar.update()
        if self.done == self.steps:
            return
        now = time.monotonic()
        if self.signal or now - self.saved_at > self.checkpoint_seconds:
            self._save(self.epoch, self.done, [np.asarray(v).tolist() for v in self.metric_variables])
            self.network.stop_training = bool(self.signal)
        if self.bar.disable and now - self.told_at > 20:
            self.told_at = now
            print(f"Epoch {self.epoch + 1}/{self.recipe.epochs}, step {self.done}/{self.steps}: "
                  f"loss {logs['loss']:.3f}, error {logs['top1_error']:.3f}, "
                  f"{self._images_per_second():.0f} images/s", flush=True)

    def _images_per_second(self) -> float:
        seconds = time.monotonic() - self.started_at
        return (self.done - self.first_step) * self.recipe.batch_size / seconds

    def _end_epoch(self, train_loss, train_error, seconds):
        images_per_second = (self.steps - self.first_step) * self.recipe.batch_size / seconds
        split = self.validation_split
        dataset = input_pipeline.make_evaluation_dataset(
            split, batch_size=_EVALUATION_BATCH_SIZE, image_size=self.row.image_size, resize=self.recipe.resize)
        with input_pipeline.naming_bad_images(split, lambda: range(len(split))):
            result = evaluation.evaluate(self.predict, dataset, len(self.data.class_names))
        row = {
            "epoch": self.epoch + 1, "step": (self.epoch + 1) * self.steps,
            "learning_rate": float(f"{float(self.sgd.learning_rate):.6g}"),
            "train_loss": train_loss, "train_top1_error": train_error, "val_loss": result.loss,
            "val_top1_error": result.top1_error, "val_top5_error": result.top5_error,
            "images_per_second": round(images_per_second, 1)}
        self.history.append(row)
        is_best = [result.top1_error, result.loss] < self.best
        if is_best:
            self.best = [result.top1_error, result.loss]
        divisions = self.plateau.divisions
        if self.recipe.schedule == "plateau":
            self.is_over = self.plateau.update(result.top1_error, self.recipe.patience)
        self.epoch, self.first_step = self.epoch + 1, 0
        self._save(self.epoch, 0, None, is_best)
        self.run_directory.write_history(self.history)
        waited = self.network.waited_seconds / seconds
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
                  f"{Plateau.MAX_DIVISIONS} times: training ends here (Section 5).")
        elif has_divided:
            print(f"The validation error has not fallen for {self.recipe.patience} epochs: the rate is divided by 10.")
        if is_stuck(row["train_loss"], self.chance_loss, row["step"]):
            print(f"The loss is stuck at {row['train_loss']:.3f}: guessing gives {self.chance_loss:.3f} "
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
        print(f"\n{signal.Signals(number).name}: stopping after this step; a second one stops at once.", flush=True)


def _is_wrong(labels, logits):
    """Returns 1.0 for each example whose highest logit is another class."""
    return tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) != labels, tf.float32)
