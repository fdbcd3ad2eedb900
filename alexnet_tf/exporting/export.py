"""From a run to what serves it: writes each format and compares each artifact with the Keras model.

    RUN/export/saved_model/<version>/   for TF Serving, with SERVING.md beside the versions
    RUN/export/tflite/alexnet_<quantization>.tflite
    RUN/export/report.md, report.json   sizes, agreement with the Keras model, errors, latencies

Needs nothing that trains. What is in the files is up to their writers: see `formats`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation import metrics
from alexnet_tf.exporting import formats, python_latency, report, sample_images
from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob
from alexnet_tf.exporting.options import ExportOptions, check_choices
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors


def export(path: str | os.PathLike[str], options: ExportOptions, log: Callable[[str], None] = print) -> list[Artifact]:
    """Exports a run, compares every artifact with the Keras model, and writes the report.

    Everything is computed in float32, whatever the run was trained in.

    Args:
        path: The run's directory.
        options: What to export.
        log: Called with each line for the screen.

    Returns:
        The report's lines, the Keras model first.

    Raises:
        UserError: If a format is not known.
        RunError: If there is no run or no checkpoint there.
        ExportError: If the run's files do not fit together, or something cannot be written; what was finished before
            has its report.
        DataError: If the images cannot be read.
    """
    check_choices("formats", options.formats, formats.FORMATS)
    job, notes = _prepare(path, options, log)
    weights = sum(4 * int(np.prod(variable.shape)) for variable in job.model.trainable_variables)
    artifacts = [job.compare(python_latency.KERAS_MODEL, None, lambda _: job.expected, size_bytes=weights)]
    try:
        for name in options.formats:
            for artifact in formats.FORMATS[name].write(job):
                log(f"Wrote {artifact.path}")
                artifacts.append(artifact)
    except errors.UserError as error:
        raise ExportError(f"{error}{_report_finished(job, artifacts, notes)}") from error
    artifacts = _with_python_latencies(job, artifacts)
    report.write_report(job.directory, artifacts, notes)
    return artifacts


def _prepare(
    path: str | os.PathLike[str], options: ExportOptions, log: Callable[[str], None]
) -> tuple[ExportJob, list[str]]:
    """Loads the run and the images, and prints what they are; returns the job and the report's notes."""
    run = RunDirectory(path)
    model, run_config, state = load_model(run, options.checkpoint, precision="float32")
    class_names = tuple(run.class_names())
    precision = run_config.train.precision
    log(
        f"{run}: {run_config.architecture.name}, {len(class_names)} classes, {options.checkpoint} checkpoint, after "
        f"epoch {state['epoch']}; exported in float32{'' if precision == 'float32' else f' (trained in {precision})'}."
    )
    data, note = sample_images.find_images(run_config, options.data_dir, options.dataset)
    images = sample_images.comparison_images(data, run_config)
    notes = [f"Compared on {images.source}.", *([note] if note else [])]
    calibration = None
    if "tflite" in options.formats and "int8" in options.quantizations:
        calibration = sample_images.calibration_images(data, run_config)
        if calibration is None:
            notes.append("int8 is left out: its ranges must be found on real images. Give some: --data_dir=DIR.")
            options = dataclasses.replace(
                options, quantizations=tuple(each for each in options.quantizations if each != "int8")
            )
    for line in notes:
        log(f"  {line}")
    expected = np.exp(np.concatenate(list(map(_predictor(model), _batches(images.pixels)))))
    return ExportJob(
        run, run_config, model, state["epoch"], class_names, options, images, expected, calibration, log
    ), notes


def _predictor(model) -> Callable[[np.ndarray], np.ndarray]:
    predict = metrics.make_predictor(model)
    return lambda images: predict(tf.constant(images[:, None])).numpy()


def _batches(images: np.ndarray, size: int = 32) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _report_finished(job: ExportJob, artifacts: list[Artifact], notes: list[str]) -> str:
    """Writes the report of what was finished before an error, and returns a sentence that says so."""
    if len(artifacts) == 1:
        return ""
    with contextlib.suppress(errors.UserError):  # The disk may be full.
        report.write_report(job.directory, artifacts, notes)
    finished = ", ".join(each.name for each in artifacts[1:])
    return f" Finished before: {finished}; see {job.directory / 'report.md'}.\n\n{report.table(artifacts)}"


def _with_python_latencies(job: ExportJob, artifacts: list[Artifact]) -> list[Artifact]:
    """Adds how long the Keras model and the SavedModel take in Python."""
    version = next((each.path for each in artifacts if each.name == python_latency.SAVED_MODEL), None)
    times = python_latency.measure(str(job.run), job.options.checkpoint, version)
    return [dataclasses.replace(each, milliseconds=times.get(each.name, each.milliseconds)) for each in artifacts]
