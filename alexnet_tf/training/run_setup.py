"""What is settled between the decision to train and the first step: the config, the mean, and that workers agree."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, input_pipeline, preprocessing
from alexnet_tf.network import architectures
from alexnet_tf.runs.config import MEAN_IMAGE, ColourPCA, PretrainedRun, RunConfig, RunData, TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import shell
from alexnet_tf.training import distribution, transfer_learning
from alexnet_tf.training.reporter import TrainingError

# What a step raises when another worker is gone.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    *input_pipeline.READ_ERRORS,
)

_ALIKE = "All need the same flags, the same images, the same --precision, and one --workdir that they share"

_MIN_VALIDATION_IMAGES = 50

# Network file systems show new files within a minute.
_FILE_SYSTEM_SECONDS = 90


def make_run_config(
    train_config: TrainConfig, data: datasets.DataSet, source: PretrainedRun | None = None
) -> RunConfig:
    """Returns all that is needed to evaluate, export or resume a run.

    Args:
        train_config: How to train.
        data: What to train on.
        source: The run that the weights come from, in transfer learning.

    Raises:
        TrainingError: If a mean image is asked for and not known.
        transfer_learning.TransferError: If a layer that starts anew is frozen.
    """
    architecture, statistics = architectures.ARCHITECTURES[train_config.architecture], data.statistics
    if train_config.mean == "image" and statistics is None:
        line = shell.command_line("prepare", data_dir=data.directory, output_dir="OUT")
        raise TrainingError(
            f"--mean=image needs images whose mean image is known; {data.directory} is not prepared. Type\n"
            f"  {line}\nand train with --data_dir=OUT."
        )
    mean: tuple[float, ...] | str = MEAN_IMAGE
    if train_config.mean != "image":
        mean = tuple(statistics.mean_pixel) if statistics else architecture.mean
    run_config = RunConfig(
        train=train_config,
        image_size=architecture.image_size,
        mean=source.mean if source else mean,
        scale=source.scale if source else None,
        source=source,
        colour_pca=ColourPCA(
            statistics.pca_stdevs if statistics else architectures.IMAGENET_PCA_STDEVS,
            statistics.pca_vectors if statistics else architectures.IMAGENET_PCA_VECTORS,
        ),
        data=RunData(
            name=data.name,
            directory=data.directory,
            classes=tuple(data.class_names),
            images={name: len(split) for name, split in data.splits.items()},
            validation=data.validation,
            fingerprint=data.fingerprint(),
            options=dict(data.options),
        ),
    )
    if source:
        transfer_learning.new_layers(run_config)  # Fails where one of them is frozen.
    return run_config


def input_mean(
    run: RunDirectory, run_config: RunConfig, data: datasets.DataSet
) -> np.ndarray | tuple[float, ...] | str:
    """Returns what the first layer subtracts: a colour, or a mean image float32 [size, size, 3]."""
    if run_config.mean != MEAN_IMAGE:
        return run_config.mean
    if run_config.source:
        return run.read_mean(run_config) if run.steps() else transfer_learning.read_mean_image(run_config.source)
    assert data.statistics  # `make_run_config` has checked it.
    return preprocessing.center_crop(data.statistics.mean_image, run_config.image_size)


def check_that_workers_agree(placement: distribution.Placement, run: RunDirectory, run_config: RunConfig) -> None:
    """Refuses workers that would each train another run: they would wait for each other for ever, or learn nonsense.

    Raises:
        TrainingError: If they differ in flags, data or checkpoints.
    """
    content = run_config.to_json()
    for name in ("directory", "name"):
        del content["data"][name]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    own = int.from_bytes(digest[:5], "big")  # Exact in float64, as is the sum.
    if placement.total(own) != own * placement.num_workers:
        raise TrainingError(
            f"The workers were not started alike. {_ALIKE}; this one is worker {placement.worker + 1}, with the run "
            f"{run}."
        )
    if placement.num_workers > 1:
        _wait_for_checkpoint(placement, run)


def _wait_for_checkpoint(placement: distribution.Placement, run: RunDirectory) -> None:
    """Waits until this worker sees the last checkpoint that the chief sees: a network file system may be late."""

    def last() -> int:
        return max(run.steps(), default=-1)

    expected = int(placement.total(last() + 1 if placement.worker == 0 else 0)) - 1
    deadline = time.monotonic() + _FILE_SYSTEM_SECONDS
    while last() != expected:
        if time.monotonic() > deadline:
            seen = f"a checkpoint of step {last()}" if run.steps() else "no checkpoint"
            first = f"one of step {expected}" if expected >= 0 else "none"
            raise TrainingError(
                f"The workers do not see the same run. {_ALIKE}; this one, worker {placement.worker + 1}, sees {run} "
                f"with {seen}, and the first worker {first}."
            )
        time.sleep(0.5)


@contextlib.contextmanager
def lost_workers_reported(placement: distribution.Placement) -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into a `TrainingError`."""
    try:
        yield
    except _LOST_WORKER as error:
        if placement.num_workers == 1:
            raise
        raise TrainingError(
            "The other workers cannot be reached any more: one has ended, or the network is cut. Start all of them "
            "again with the same commands: the run goes on from its last checkpoint, if there is one.\n  TensorFlow "
            "says: " + (str(error).rpartition("}} ")[2].splitlines() or [type(error).__name__])[0]
        ) from error


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


def validation_caveat(split: datasets.ImageSource, num_classes: int) -> str:
    """Returns what limits the meaning of a validation error, or nothing."""
    if len(split) < _MIN_VALIDATION_IMAGES:
        return f"of {len(split)} images only: one image more or less is {1 / len(split):.3f}"
    if split.labels is not None and (missing := num_classes - len(np.unique(split.labels))):
        return f"without any image of {missing} of the {num_classes} classes"
    return ""
