"""From a run to what serves it: writes the SavedModel and the .tflite files, and says how each compares with Keras.

    RUN/export/saved_model/<version>/   for TF Serving, with SERVING.md beside the versions
    RUN/export/tflite/alexnet_<quantization>.tflite
    RUN/export/report.md, report.json   sizes, agreement with the Keras model, errors, latencies

Needs nothing that trains. What is in the files: `saved_model` and `tflite`.
"""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import time

import numpy as np
import tensorflow as tf

from alexnet_tf import alexnet, atomic_files, runs
from alexnet_tf.data import discovery, input_pipeline, synthetic
from alexnet_tf.exporting import saved_model, tflite

FORMATS = ("saved_model", "tflite")

# Images that the artifacts are compared on, at most; as many training images find int8's ranges. Spread over the split.
_COMPARED, _CALIBRATED = 500, 200

# Of one image, one at a time; the median counts.
_TIMED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What to export.

    Attributes:
        formats: Some of `FORMATS`.
        quantizations: Some of the keys of `tflite.FASTER_LRN`.
        lrn: How the .tflite files compute LRN: "builtin", "convolution", or "auto" for the faster.
        checkpoint: "last" or "best".
        data_dir: Images to compare and to calibrate on; by default the run's.
        dataset: Name of the TFDS data set in it.
    """

    formats: tuple[str, ...] = FORMATS
    quantizations: tuple[str, ...] = tuple(tflite.LRN_IMPLEMENTATIONS)
    lrn: str = "auto"
    checkpoint: str = "last"
    data_dir: str | None = None
    dataset: str | None = None

    def __post_init__(self):
        for flag, given, known in (
                ("formats", self.formats, FORMATS), ("quantization", self.quantizations, tflite.LRN_IMPLEMENTATIONS)):
            unknown = [name for name in given if name not in known]
            if unknown or not given:
                raise saved_model.ExportError(
                    f"--{flag} takes {', '.join(known)}, separated by commas; got {', '.join(unknown) or 'nothing'}.")


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
    """

    name: str
    path: str | None
    size_bytes: int
    agreement: float
    difference: float
    top1_error: float | None
    milliseconds: dict[int, float]


def export(path, request: ExportOptions, say=print) -> list[Artifact]:
    """Exports a run as asked, compares every artifact with the Keras model, and writes the report.

    Everything is computed in float32, whatever the run was trained in.

    Args:
        path: The run's directory.
        request: What to export.
        say: Called with each line for the screen.

    Returns:
        The report's lines, the Keras model first.

    Raises:
        errors.RunError: If there is no run or no checkpoint there.
        ExportError: If the run does not fit together, or something cannot be written.
        datasets.DataError: If the images cannot be read, or are not of the run's classes.
    """
    run = runs.RunDirectory(path)
    model, run_config, state = runs.load_model(run, request.checkpoint, precision="float32")
    class_names = _class_names(run, model)
    architecture, resize = run_config.architecture, run_config.train.recipe.resize
    say(f"{run}: {architecture.name}, {len(class_names)} classes, {request.checkpoint} checkpoint, after epoch "
        f"{state['epoch']}; exported in float32" + (
            "." if run_config.train.precision == "float32" else f" (trained in {run_config.train.precision})."))
    data, note = _find_images(run_config, request)
    images, labels = _crops(data and data.splits[data.validation], architecture.image_size, resize, _COMPARED)
    source = f"{len(images)} images of {data.directory} ({data.validation})" if data else f"{len(images)} drawn images"
    notes = [f"Compared on {source}.", *([note] if note else [])]
    quantizations = list(request.quantizations) if "tflite" in request.formats else []
    if not data and "int8" in quantizations:
        quantizations.remove("int8")
        notes.append("int8 is left out: its ranges must be found on training images. Give --data_dir=DIR.")
    for line in notes:
        say(f"  {line}")
    expected = _probabilities(model, images)
    weights = 4 * sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    artifacts, version = [_compare("Keras model", None, weights, expected, expected, labels)], None
    if "saved_model" in request.formats:
        version = saved_model.publish(
            alexnet.for_export(model, "builtin"), architecture, class_names=class_names, resize=resize,
            directory=run.path / "export" / "saved_model")
        say(f"Wrote {version}")
        run_images = tf.saved_model.load(str(version)).signatures["images"]
        got = _probabilities(lambda images: run_images(images=images)["logits"], images)
        artifacts.append(_compare("SavedModel", version, _size(version), got, expected, labels))
    for quantization in quantizations:
        artifacts.append(_export_tflite(
            quantization, request.lrn, model, class_names, run.path / "export" / "tflite", data, resize, images,
            expected, labels))
        say(f"Wrote {artifacts[-1].path}")
    times = _python_latencies(run, request.checkpoint, version)
    artifacts = [dataclasses.replace(each, milliseconds=times.get(each.name, each.milliseconds)) for each in artifacts]
    _write_report(run.path / "export", artifacts, notes)
    return artifacts


def _class_names(run, model):
    """Returns the run's class names, checked against the network."""
    class_names, logits = run.class_names(), model.output_shape[-1]
    if len(class_names) != logits:
        raise saved_model.ExportError(
            f"{run.path / runs.CLASSES} names {len(class_names)} classes, and the network has {logits} logits. The "
            "file must have one name a line, in the order of the logits: restore it from config.json.")
    return class_names


def _find_images(run_config, request):
    """Returns (the images to compare on, or None for drawn ones, and a line that says so)."""
    run_data = run_config.data
    is_there = run_data.name == discovery.SYNTHETIC or os.path.isdir(run_data.directory or "")
    if request.data_dir or is_there:
        return discovery.load_run_dataset(run_data, request.data_dir, request.dataset), None
    return None, "The run's images are not there, so that drawn ones take their place. For real ones: --data_dir=DIR"


def _crops(split, image_size, resize, limit):
    """Returns (images uint8 [n, size, size, 3], labels int32 [n]) spread over a split; without one, drawn and None."""
    if split is None:
        jpegs = [tf.io.encode_jpeg(synthetic.draw(name, np.random.default_rng(number)))
                 for name in synthetic.CLASSES for number in range(20)]
        return np.concatenate([
            input_pipeline.evaluation_crops(jpeg, image_size, resize).numpy() for jpeg in jpegs]), None
    part = split.subset(np.unique(np.linspace(0, len(split) - 1, limit).astype("int64"))) if len(split) > limit else split
    batches = list(input_pipeline.evaluation_batches(
        part, batch_size=32, image_size=image_size, resize=resize, on_bad_image="skip"))
    labels = np.concatenate([labels for _, labels in batches])
    return np.concatenate([images[:, 0] for images, _ in batches]), None if (labels < 0).any() else labels


def _probabilities(model, images):
    """Returns float32 [n, classes]."""
    batches = [images[start:start + 32].astype("float32") for start in range(0, len(images), 32)]
    return np.concatenate([tf.nn.softmax(model(tf.constant(batch))).numpy() for batch in batches])


def _compare(name, path, size, got, expected, labels, milliseconds=None):
    """Returns an artifact's line."""
    winners = got.argmax(axis=-1)
    return Artifact(
        name=name, path=path and str(path), size_bytes=int(size),
        agreement=float((winners == expected.argmax(axis=-1)).mean()), difference=float(np.abs(got - expected).max()),
        top1_error=None if labels is None else float((winners != labels).mean()), milliseconds=milliseconds or {})


def _export_tflite(quantization, lrn, model, class_names, directory, data, resize, images, expected, labels):
    """Writes one .tflite file and returns its line."""
    lrn = tflite.LRN_IMPLEMENTATIONS[quantization] if lrn == "auto" else lrn
    calibration = None
    if quantization == "int8":
        split = data.splits.get("train", data.splits[data.validation])
        calibration, _ = _crops(split, images.shape[1], resize, _CALIBRATED)
    content = tflite.convert(alexnet.for_export(model, lrn), quantization, class_names, calibration)
    path = directory / f"alexnet_{quantization}.tflite"
    atomic_files.atomic_write(path, lambda file: file.write(content))
    milliseconds = {threads: _median(tflite.Runner(path, threads), images[:1]) for threads in _thread_counts()}
    got = tflite.Runner(path)(images)
    return _compare(f"TFLite {quantization}, LRN {lrn}", path, len(content), got, expected, labels, milliseconds)


def _thread_counts():
    return sorted({1, os.cpu_count()})


def _median(run, *arguments):
    """Returns the milliseconds that a call takes."""
    times = []
    for _ in range(_TIMED_RUNS + 2):
        start = time.perf_counter()
        run(*arguments)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[2:]))


def _python_latencies(run, checkpoint, version):
    """Returns {name: {threads: milliseconds}} of the Keras model and the SavedModel called from Python.

    Each number of threads in a process of its own: TensorFlow takes it once, before anything is computed.
    """
    context = multiprocessing.get_context("spawn")
    times = {}
    for threads in _thread_counts():
        with context.Pool(1) as pool:
            for name, milliseconds in pool.apply(_time_in_python, (str(run), checkpoint, version, threads)).items():
                times.setdefault(name, {})[threads] = milliseconds
    return times


def _time_in_python(path, checkpoint, version, threads):
    """Runs in a process of its own: returns {name: milliseconds} with a number of threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model, run_config, _ = runs.load_model(runs.RunDirectory(path), checkpoint, precision="float32")
    image = tf.zeros([1, run_config.image_size, run_config.image_size, 3])
    times = {"Keras model": _median(tf.function(lambda images: model(images, training=False)), image)}
    if version:
        times["SavedModel"] = _median(tf.saved_model.load(str(version)).signatures["images"], image)
    return times


def _size(directory):
    return sum(path.stat().st_size for path in pathlib.Path(directory).rglob("*") if path.is_file())


def table(artifacts: list[Artifact]) -> str:
    """Returns the report's table, in Markdown that is also readable as it stands."""
    threads = _thread_counts()
    rows = [["", "MB", "agrees", "largest difference", "top-1 error",
             *(f"ms, {count} thread{'s' if count > 1 else ''}" for count in threads)]]
    for each in artifacts:
        rows.append([
            each.name, f"{each.size_bytes / 1e6:.1f}", f"{each.agreement:.2%}", f"{each.difference:.1g}",
            "-" if each.top1_error is None else f"{each.top1_error:.4f}",
            *(f"{each.milliseconds[count]:.1f}" for count in threads)])
    rows.insert(1, ["---"] * len(rows[0]))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows)


def _write_report(directory, artifacts, notes):
    """Writes report.json and report.md."""
    report = {"notes": notes, "artifacts": [dataclasses.asdict(each) for each in artifacts]}
    text = json.dumps(report, indent=2) + "\n"
    atomic_files.atomic_write(directory / "report.json", lambda file: file.write(text.encode()))
    lines = ["# Exported, and compared with the Keras model", "", *notes, "", table(artifacts), ""]
    atomic_files.atomic_write(directory / "report.md", lambda file: file.write("\n".join(lines).encode()))
