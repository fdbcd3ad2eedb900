"""Do the engines of this machine compute what Keras computes? Every engine that is installed, on every exported file.

Each engine runs in a process of its own, so that one that crashes does not take the others with it.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_tf.exporting import engines, formats, latency
from alexnet_tf.support import atomic_files, errors, processors, shell


@dataclasses.dataclass(frozen=True)
class Result:
    """An engine's results on a file.

    Attributes:
        engine: Its name and version.
        artifact: The file, relative to the export's directory.
        agreement: Fraction of the images whose most probable class is Keras'; None if it refuses the file.
        difference: Largest difference of a probability from Keras'.
        milliseconds: For one image, on one thread where the engine lets that be set.
        refusal: Why there are no figures.
    """

    engine: str
    artifact: str
    agreement: float | None = None
    difference: float | None = None
    milliseconds: float | None = None
    refusal: str | None = None


def find_artifacts(directory: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    """Returns [(format, path)] of what was exported to a directory; of a SavedModel, the latest version."""
    found: list[tuple[str, pathlib.Path]] = []
    for name, each in formats.FORMATS.items():
        paths = sorted(directory.glob(each.pattern))
        if each.pattern.endswith("/*"):
            versions = [path for path in paths if path.name.isdecimal()]
            paths = sorted(versions, key=lambda path: int(path.name))[-1:]
        found += [(each.read_as or name, path) for path in paths]
    return found


def verify(
    path: str | os.PathLike[str],
    *,
    images: int = 50,
    checkpoint: str = "last",
    data_dir: str | None = None,
    dataset: str | None = None,
    log: Callable[[str], None] = print,
) -> list[Result]:
    """Runs every engine on every exported file of a run, compares with Keras, and writes RUN/export/verify.json.

    Args:
        path: The run's directory.
        images: How many images at most.
        checkpoint: The checkpoint that was exported, "last" or "best".
        data_dir: Images to compare on; by default the run's.
        dataset: Name of the TFDS data set in it.
        log: Called with each line for the screen.

    Raises:
        RunError: If there is no run or checkpoint.
        UserError: If nothing was exported.
    """
    directory = pathlib.Path(path).expanduser() / "export"
    artifacts = find_artifacts(directory)
    if not artifacts:
        raise errors.UserError(
            f"{directory} has nothing to verify. Export first: {shell.command_line('export', workdir=path)}"
        )
    pixels, expected, source = _reference(path, images, checkpoint, data_dir, dataset)
    log(f"Compared with Keras on {source}.")
    results: list[Result] = []
    for name, engine in engines.ENGINES.items():
        version = engine.version()
        paths = [str(each) for kind, each in artifacts if kind in engine.reads]
        if version is None or not paths:
            continue
        log(f"{name} {version}: {len(paths)} file{'s' if len(paths) > 1 else ''}")
        for each, figures in zip(paths, _run_apart(name, paths, pixels, expected), strict=True):
            artifact = str(pathlib.Path(each).relative_to(directory))
            results.append(dataclasses.replace(figures, engine=f"{name} {version}", artifact=artifact))
    content = json.dumps({"compared_on": source, "results": [dataclasses.asdict(each) for each in results]}, indent=2)
    atomic_files.atomic_write(directory / "verify.json", lambda file: file.write(f"{content}\n".encode()))
    return results


def rows(results: Sequence[Result]) -> list[list[str]]:
    """Returns the results as rows of a table, its head first."""
    ordered = sorted(results, key=lambda each: each.artifact)
    head = ["file", "engine", "agrees", "largest difference", "ms"]
    return [head, *([each.artifact, each.engine, *_figures(each)] for each in ordered)]


def _figures(result: Result) -> list[str]:
    if result.agreement is None or result.difference is None or result.milliseconds is None:
        return [f"refused: {result.refusal}", "-", "-"]
    return [f"{result.agreement:.2%}", f"{result.difference:.1g}", f"{result.milliseconds:.1f}"]


def _reference(
    path: str | os.PathLike[str], limit: int, checkpoint: str, data_dir: str | None, dataset: str | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns (images uint8 [n, size, size, 3], Keras' probabilities on them, what they are)."""
    import tensorflow as tf

    from alexnet_tf.evaluation import metrics
    from alexnet_tf.exporting import sample_images
    from alexnet_tf.runs.directory import RunDirectory, load_model

    model, run_config, _ = load_model(RunDirectory(path), checkpoint, precision="float32")
    data, _ = sample_images.find_images(run_config, data_dir, dataset)
    images = sample_images.comparison_images(data, run_config, limit)
    predict = metrics.make_predictor(model)
    expected = [np.exp(predict(tf.constant(image[None, None])).numpy()) for image in images.pixels]
    return images.pixels, np.concatenate(expected), images.source


def _run_apart(name: str, paths: list[str], pixels: np.ndarray, expected: np.ndarray) -> list[Result]:
    """Runs an engine on files in a process of its own; a file at which it crashes is refused."""
    results: list[Result] = []
    while len(results) < len(paths):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context, initializer=_set_up_process) as pool:
            try:
                for path in paths[len(results) :]:
                    results.append(pool.submit(_run_here, name, path, pixels, expected).result())
            except concurrent.futures.process.BrokenProcessPool:
                results.append(Result("", "", refusal="the engine crashed"))
    return results


def _set_up_process() -> None:
    """Leaves the GPUs to others, and keeps what engines write to standard error off the screen."""
    processors.hide_gpus()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _first_words(error: Exception) -> str:
    """Returns the informative line of an error: OpenVINO's begin with places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:120]


def _run_here(name: str, path: str, pixels: np.ndarray, expected: np.ndarray) -> Result:
    """Runs one engine on one file, in a process of its own."""
    try:
        predict = engines.ENGINES[name].load(path)
        got = predict(pixels)
        milliseconds = latency.milliseconds(lambda: predict(pixels[:1]))
    except Exception as error:  # Engines raise what they like.
        return Result("", "", refusal=_first_words(error))
    agreement = float((got.argmax(axis=-1) == expected.argmax(axis=-1)).mean())
    return Result("", "", agreement, float(np.abs(got - expected).max()), milliseconds)
