"""Trains a network on a data set: a run's directory, its config, what the loop is fed with, and what is printed."""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import pathlib
import signal
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations, datasets, input_pipeline, preprocessing
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import xla
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import MEAN_IMAGE, RunConfig, TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import devices, processors, quiet, settings, shell
from alexnet_tf.training import cluster, configure, distribution, transfer_learning
from alexnet_tf.training.configure import RunOptions, TrainingError
from alexnet_tf.training.loop import Loop, TrainState
from alexnet_tf.training.reporter import Reporter
from alexnet_tf.training.train_step import TrainStep

_LOGGER = logging.getLogger(__name__)

_EVALUATION_BATCH_SIZE = 128

_DEFAULTS = RunOptions()


def train(
    train_config: TrainConfig,
    data: datasets.DataSet,
    path: str | pathlib.Path,
    *,
    placement: distribution.Placement | None = None,
    options: RunOptions = _DEFAULTS,
    on_step_end: Callable[[TrainState, TrainStep], None] | None = None,
) -> bool:
    """Trains to the end, going on from the run's last checkpoint if there is one.

    Args:
        train_config: How to train, as `configure.decide` decides it.
        data: What to train on.
        path: The run's directory; many workers must all see it.
        placement: Where to compute; by default as `distribution.make_placement` finds best.
        options: What does not change the result.
        on_step_end: Called after each step, with the state and the step.

    Returns:
        Whether the run is complete; False if a signal ended it early, after a checkpoint.

    Raises:
        errors.RunError: If the directory holds another run or cannot be written.
        errors.DataError: If an image cannot be read.
        transfer_learning.TransferError: If the weights of another run cannot be reused as asked.
        TrainingError: If the loss is no longer finite, or the run's settings contradict each other.
    """
    _check(train_config, options)
    placement = (placement or distribution.make_placement()).for_batch_size(train_config.recipe.batch_size)
    keras.utils.set_random_seed(train_config.seed)
    devices.set_numerics(tf32=True, deterministic=train_config.deterministic)
    run = RunDirectory(path)
    is_chief = placement.worker == 0
    with (
        quiet.lost_screens_survived(lambda error: _note_lost_screen(run, error)),
        StopSignal() as stop,
        run.locked() if is_chief else contextlib.nullcontext(),
        cluster.lost_workers_reported(placement),
    ):
        if train_config.precision == "auto":
            train_config = dataclasses.replace(train_config, precision=_precision(run, placement))
        source = transfer_learning.find_source(train_config.init_from, run)
        run_config = configure.make_run_config(train_config, data, source)
        run.check_same_config(run_config)
        cluster.check_that_workers_agree(placement, run, run_config)
        steps = input_pipeline.steps_per_epoch(data.splits["train"], train_config.recipe.batch_size)  # Or an error.
        mean = _input_mean(run, run_config, data)
        step = _make_step(run_config, placement, mean, data)
        if is_chief:
            _check_space(run, step, train_config.recipe.batch_size)
            if run_config.mean == MEAN_IMAGE:
                run.write_mean_image(np.asarray(mean))
            run.write_config(run_config, data.class_names)
        reporter = Reporter(run, run_config, data, steps=steps, is_chief=is_chief)
        loop = Loop(
            run,
            step,
            train_config.recipe,
            _Feed(run_config, data, step, steps, options.on_bad_image, reporter),
            reporter,
            is_stop=lambda: stop.number is not None,
            checkpoint_minutes=options.checkpoint_minutes,
            on_step_end=on_step_end,
        )
        reporter.start(step)
        if loop.resume():
            reporter.resumed(loop.state, loop.is_complete)
        else:
            if train_config.init_from:
                transfer_learning.load_weights(step.model, run_config)
                loop.save()  # From here on the source is not needed.
            reporter.new_run(step.model)
        if loop.run():
            reporter.complete(loop.state)
        else:
            reporter.stopped(stop.name)
        return loop.is_complete


def _check(train_config: TrainConfig, options: RunOptions) -> None:
    settings.check(train_config)
    settings.check(options)
    augmentations.check(train_config.recipe.crop, train_config.recipe.augmentations)
    if train_config.jit and train_config.deterministic:
        raise TrainingError("--jit does not go with --deterministic: XLA has no max-pooling gradient that is.")
    if train_config.jit and not xla.is_usable():
        raise TrainingError("--jit needs XLA, which cannot be used here. Leave it out.")


def _precision(run: RunDirectory, placement: distribution.Placement) -> str:
    """Returns the run's, or for a new run the fastest without a loss."""
    begun = run.read_config()
    return begun.train.precision if begun else devices.default_precision(placement.devices)


def _note_lost_screen(run: RunDirectory, error: OSError) -> None:
    with contextlib.suppress(OSError), open(run.path / "messages.txt", "a", encoding="utf-8") as file:
        file.write(f"{time.ctime()}: what is printed can no longer be shown ({error.strerror}). Training goes on.\n")


def _check_space(run: RunDirectory, step: TrainStep, batch_size: int) -> None:
    """Refuses a disk without room for checkpoints; says so if a container's memory is below what its CPUs need."""
    limit, weights = processors.cgroup_memory(), checkpoints.num_bytes((v.shape, v.dtype) for v in step.variables)
    run.check_disk_space(weights)
    outputs = keras.tree.flatten([layer.output for layer in step.model.layers])
    maps = sum(4 * batch_size * math.prod(output.shape[1:]) for output in outputs)
    needed = 3 * weights / 2 + maps  # Variables are the weights and their momentum; gradients come on top.
    if limit is not None and limit < needed and not devices.gpus():
        _LOGGER.warning(
            f"This container may use {limit / 1e9:.1f} GB of memory; weights, momentum, gradients and the maps of "
            f"{shell.count(batch_size, 'image')} take more than {needed / 1e9:.1f} GB. If training is killed (exit "
            "status 137), give the container more memory, or train with a smaller --batch_size."
        )


# What batch systems send some time before they end a job: Slurm's --signal, LSF, submitit. SIGHUP: the terminal closes.
_NOTICES = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class StopSignal:
    """Notes a signal that asks to stop, while it is entered; a second SIGINT or SIGTERM raises KeyboardInterrupt.

    Those of `_NOTICES` are left to whoever handles or ignores them already. Outside of the main thread, where Python
    handles no signals, nothing is noted.

    Attributes:
        number: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict = {}

    @property
    def name(self) -> str | None:
        """The signal's name, such as "SIGTERM"."""
        return signal.Signals(self.number).name if self.number else None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            free = [number for number in _NOTICES if signal.getsignal(number) is signal.SIG_DFL]
            for number in (signal.SIGINT, signal.SIGTERM, *free):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if self.number and number in (signal.SIGINT, signal.SIGTERM):
            raise KeyboardInterrupt
        self.number = number
        # Not print(): the signal may have come in the middle of one. The terminal may be gone.
        with contextlib.suppress(OSError):
            os.write(1, f"\n{signal.Signals(number).name}: stopping; Ctrl-C stops at once.\n".encode())


def _input_mean(
    run: RunDirectory, run_config: RunConfig, data: datasets.DataSet
) -> np.ndarray | tuple[float, ...] | str:
    """Returns what the first layer subtracts: a colour, or a mean image float32 [size, size, 3]."""
    if run_config.mean != MEAN_IMAGE:
        return run_config.mean
    if run_config.source:
        owner = run if run.steps() else RunDirectory(run_config.source.path)
        return owner.read_mean(owner.existing_config())
    assert data.statistics  # `make_run_config` has checked it.
    return preprocessing.center_crop(data.statistics.mean_image, run_config.image_size)


def _make_step(
    run_config: RunConfig, placement: distribution.Placement, mean: Any, data: datasets.DataSet
) -> TrainStep:
    config, is_balanced = run_config.train, run_config.train.class_weight == "balanced"
    return TrainStep(
        run_config.architecture,
        config,
        placement,
        mean=mean,
        class_weights=balanced_class_weights(data.splits["train"], data.class_names) if is_balanced else None,
        layer_multipliers=dict.fromkeys(
            transfer_learning.new_layers(run_config), config.recipe.new_layer_learning_rate_multiplier
        ),
    )


def balanced_class_weights(split: datasets.ImageSource, class_names: Sequence[str]) -> list[float]:
    """Returns the factor on the loss of each class's examples; its mean over the split is 1.

    Raises:
        TrainingError: If the labels are inside of records that were not prepared.
    """
    if split.labels is None:
        raise TrainingError(
            "--class_weight=balanced needs the number of images in each class, and here the labels are inside the "
            f"records. Prepare them first: {shell.command_line('prepare', data_dir='DIR', output_dir='OUT')}"
        )
    counts = np.bincount(split.labels, minlength=len(class_names))
    return [float(len(split) / (np.count_nonzero(counts) * count)) if count else 0.0 for count in counts]


class _Feed:
    """Feeds a loop from the splits of a data set."""

    def __init__(
        self,
        run_config: RunConfig,
        data: datasets.DataSet,
        step: TrainStep,
        steps: int,
        on_bad_image: str,
        reporter: Reporter,
    ):
        self.steps = steps
        self._run_config, self._data, self._step = run_config, data, step
        self._on_bad_image, self._reporter = on_bad_image, reporter
        self._predict = metrics.make_predictor(step.model)

    def batches(self, state: TrainState, num_epochs: int, has_noise: bool) -> Iterator:
        pca = self._run_config.colour_pca
        assert pca  # Only an imported run has none.
        make_dataset = functools.partial(
            input_pipeline.make_train_dataset,
            self._data.splits["train"],
            self._run_config.train.recipe,
            image_size=self._run_config.image_size,
            seed=self._run_config.train.seed,
            epoch=state.epoch,
            num_epochs=num_epochs,
            first_step=state.step,
            colour_pca=(pca.stdevs, pca.vectors) if has_noise else None,
            skipped=tuple(state.skipped["train"]),
        )
        return self._step.batches(lambda worker, count: make_dataset(worker=worker, num_workers=count))

    def skip(self, state: TrainState, error: Exception) -> None:
        split, config, skipped = self._data.splits["train"], self._run_config.train, state.skipped["train"]
        batch = input_pipeline.batch_indices(
            split, config.recipe, seed=config.seed, epoch=state.epoch, step=state.step, skipped=skipped
        )
        input_pipeline.bad_images(split, batch, error, self._on_bad_image, skipped)

    def validate(self, state: TrainState, until_signal: Callable[[Iterable], Iterator]) -> metrics.Evaluation:
        split, placement = self._data.splits[self._data.validation], self._step.placement
        if placement.num_workers > 1:
            split = split.subset(np.arange(placement.worker, len(split), placement.num_workers))
        batches: tf.data.Dataset | Iterable = input_pipeline.evaluation_batches(
            split,
            batch_size=_EVALUATION_BATCH_SIZE,
            image_size=self._run_config.image_size,
            resize=self._run_config.train.recipe.resize,
            on_bad_image=self._on_bad_image,
            skipped=state.skipped["validation"],
        )
        batches = self._reporter.validation_bar(batches, total=-(-len(split) // _EVALUATION_BATCH_SIZE))
        return metrics.evaluate(
            self._predict, until_signal(batches), len(self._data.class_names), total=placement.total
        )
