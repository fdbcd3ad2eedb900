"""What the writer of a format works from, a trained network with images, and what it yields: measured artifacts."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from alexnet_tf.exporting.options import ExportOptions
from alexnet_tf.exporting.sample_images import SampleImages
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors

# From images uint8 [n, size, size, 3] to probabilities float32 [n, classes].
Predictor = Callable[[np.ndarray], np.ndarray]


class ExportError(errors.UserError):
    """Something cannot be exported; the message says what and what to do."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One line of the report.

    Attributes:
        name: What it is, for a person.
        path: Where it is; None for the Keras model.
        size_bytes: On the disk, or of the weights.
        agreement: Fraction of the images whose most probable class is the Keras model's.
        difference: Largest difference of a probability from the Keras model's.
        top1_error: Its own, on the same images; None where they are not of the run's classes.
        milliseconds: {threads: for one image}.
        runtime: The oldest runtime that reads the file, as the file itself states it.
        details: What else a person should know of it.
    """

    name: str
    path: str | None
    size_bytes: int
    agreement: float
    difference: float
    top1_error: float | None
    milliseconds: dict[int, float]
    runtime: str | None = None
    details: str | None = None


@dataclasses.dataclass(frozen=True)
class ExportJob:
    """A trained network that is being exported.

    Attributes:
        run: Its run's directory.
        run_config: Its run's config.
        model: The network in float32: RGB images in [0, 255] to logits.
        epoch: How many epochs the network was trained for.
        class_names: In the order of the logits.
        options: What was asked for.
        images: What every artifact is compared on.
        expected: The Keras model's probabilities on them, float32 [n, classes].
        calibration: Training images that int8 ranges are found on, uint8 [n, size, size, 3]; None if there are none.
        report: Called with each line for the screen.
    """

    run: RunDirectory
    run_config: RunConfig
    model: keras.Model
    epoch: int
    class_names: tuple[str, ...]
    options: ExportOptions
    images: SampleImages
    expected: np.ndarray
    calibration: np.ndarray | None
    report: Callable[[str], None]

    @property
    def directory(self) -> pathlib.Path:
        """Where everything of this run is exported to."""
        return self.run.path / "export"

    @property
    def resize(self) -> str:
        """How images become square, as in `preprocessing.square`."""
        return self.run_config.train.recipe.resize

    def compare(
        self,
        name: str,
        path: str | os.PathLike[str] | None,
        predict: Predictor,
        *,
        size_bytes: int | None = None,
        milliseconds: dict[int, float] | None = None,
        runtime: str | None = None,
        details: str | None = None,
    ) -> Artifact:
        """Runs an artifact on the job's images and returns its line of the report."""
        return compare(
            name,
            path,
            predict(self.images.pixels),
            self.expected,
            self.images.labels,
            size_bytes=size_bytes,
            milliseconds=milliseconds,
            runtime=runtime,
            details=details,
        )


def compare(
    name: str,
    path: str | os.PathLike[str] | None,
    probabilities: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray | None,
    *,
    size_bytes: int | None = None,
    milliseconds: dict[int, float] | None = None,
    runtime: str | None = None,
    details: str | None = None,
) -> Artifact:
    """Returns the figures of an artifact whose probabilities are compared with the Keras model's."""
    winners = probabilities.argmax(axis=-1)
    if size_bytes is None:
        size_bytes = size_on_disk(path) if path is not None else 0
    return Artifact(
        name=name,
        path=None if path is None else str(path),
        size_bytes=int(size_bytes),
        agreement=float((winners == expected.argmax(axis=-1)).mean()),
        difference=float(np.abs(probabilities - expected).max()),
        top1_error=None if labels is None else float((winners != labels).mean()),
        milliseconds=milliseconds or {},
        runtime=runtime,
        details=details,
    )


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Returns the bytes of a file, or of all files in a directory."""
    root = pathlib.Path(path)
    return sum(each.stat().st_size for each in (root, *root.rglob("*")) if each.is_file())
