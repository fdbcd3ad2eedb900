"""From a run to what serves it: writes each format and compares each artifact with the Keras model.

    RUN/export/<format>/                what the formats' modules write: see `formats`
    RUN/export/report.md, report.json   sizes, agreement with the Keras model, errors, latencies

Needs nothing that trains.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation import metrics
from alexnet_tf.exporting import engines, formats, report, sample_images
from alexnet_tf.exporting.engines import Predictor
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, home, processors, settings, shell, tables


class ExportError(errors.UserError):
    """Something cannot be exported; the message says what and what to do."""


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
        data: Where images are from; a format may ask it for more.
        images: What every artifact is compared on.
        predict: Runs the Keras model.
        expected: The Keras model's probabilities on the images, float32 [n, classes].
        log: Called with each line for the screen.
        notes: Lines of the report.
    """

    run: RunDirectory
    run_config: RunConfig
    model: keras.Model
    epoch: int
    class_names: tuple[str, ...]
    options: formats.ExportOptions
    data: sample_images.Images
    images: sample_images.Sample
    predict: Predictor
    expected: np.ndarray
    log: Callable[[str], None]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def directory(self) -> pathlib.Path:
        """Where everything is exported to."""
        return home.expand(self.options.output or self.run.path / "export")

    @property
    def resize(self) -> str:
        """How images become square, as in `preprocessing.square`."""
        return self.run_config.train.recipe.resize

    def note(self, line: str) -> None:
        """Shows a line, and keeps it for the report."""
        self.log(f"  {line}")
        self.notes.append(line)

    def top1_error(self, probabilities: np.ndarray) -> float | None:
        """Returns the fraction of the images that are called wrong; None if they are not of the run's classes."""
        labels = self.images.labels
        return None if labels is None else float((probabilities.argmax(axis=-1) != labels).mean())

    def compare(
        self,
        name: str,
        path: pathlib.Path | None,
        load: Callable[[int], Predictor],
        *,
        by_threads: bool = False,
        **facts: Any,
    ) -> report.Artifact:
        """Runs an artifact on the job's images and returns its line of the report.

        Args:
            name: What it is, for a person.
            path: Where it is; None for the Keras model.
            load: Returns what runs it, with a number of threads.
            by_threads: Whether `load` heeds the number of threads, so that the time is also measured with 1.
            **facts: Further attributes of the `Artifact`.
        """
        threads = processors.available_cpus()
        predictors = {count: load(count) for count in sorted({1, threads} if by_threads else {threads})}
        probabilities = predictors[threads](self.images.pixels) if path else self.expected
        agreement, difference = report.compare(probabilities, self.expected)
        times = {
            shell.count(count, "thread"): report.milliseconds(functools.partial(predict, self.images.pixels[:1]))
            for count, predict in predictors.items()
        }
        default_facts = (
            {"path": None}
            if path is None
            else {"path": str(path.relative_to(self.directory)), "size_bytes": report.size_on_disk(path)}
        )
        return report.Artifact(
            name=name,
            network=f"{self.options.checkpoint} checkpoint, after epoch {self.epoch}; {self.images.source}",
            agreement=agreement,
            difference=difference,
            top1_error=self.top1_error(probabilities),
            milliseconds=times,
            **(default_facts | facts),
        )


def export(
    path: str | os.PathLike[str], options: formats.ExportOptions, log: Callable[[str], None] = print
) -> list[report.Artifact]:
    """Exports a run, compares every artifact with the Keras model, and writes the report.

    Everything is computed in float32, whatever the run was trained in.

    Args:
        path: The run's directory.
        options: What to export.
        log: Called with each line for the screen.

    Returns:
        The lines of the report on this export, the Keras model first.

    Raises:
        UserError: If an option is wrong.
        RunError: If there is no run or no checkpoint there.
        ExportError: If something cannot be written; what was finished before has its report.
        DataError: If the images cannot be read.
    """
    settings.check(options)
    job = prepare(path, options, log)
    weights = sum(4 * int(np.prod(variable.shape)) for variable in job.model.trainable_variables)
    artifacts = [job.compare("Keras model", None, lambda _: job.predict, size_bytes=weights)]
    try:
        for name in options.formats:
            for artifact in tables.load(formats.FORMATS, name, "format").write(job):
                log(f"Wrote {job.directory / artifact.path}")
                artifacts.append(artifact)
    except (errors.UserError, OSError) as error:
        reason, finished = str(error).rstrip("."), ", ".join(each.name for each in artifacts[1:])
        if not finished:
            raise ExportError(f"{reason}.") from error
        with contextlib.suppress(errors.UserError):  # The disk may be full.
            report.write(job.directory, artifacts, job.notes)
        raise ExportError(f"{reason}. Finished before: {finished}; see {job.directory / 'report.md'}.") from error
    report.write(job.directory, artifacts, job.notes)
    return artifacts


def prepare(path: str | os.PathLike[str], options: Any, log: Callable[[str], None]) -> ExportJob:
    """Loads a run's network and the images, and says what they are.

    Args:
        path: The run's directory.
        options: `formats.NetworkOptions` and more.
        log: Called with each line for the screen.
    """
    run = RunDirectory(path)
    model, run_config, state = load_model(run, options.checkpoint, precision="float32")
    names, precision, epoch = tuple(run.class_names()), run_config.train.precision, state["epoch"]
    trained = "" if precision == "float32" else f" (trained in {precision})"
    log(
        f"{run}: {run_config.architecture.name}, {len(names)} classes, {options.checkpoint} checkpoint, after epoch "
        f"{epoch}; in float32{trained}."
    )
    data = sample_images.Images(run_config, options)
    images, forward = data.to_compare(options.images), metrics.make_predictor(model)
    predict = engines.batched(lambda batch: np.exp(forward(tf.constant(batch[:, None])).numpy()), dtype="uint8")
    job = ExportJob(run, run_config, model, epoch, names, options, data, images, predict, predict(images.pixels), log)
    for line in (f"Compared on {images.source}.", *data.notes):
        job.note(line)
    return job
