"""Do the engines of this machine compute what Keras computes? Every one that is installed, on every exported file.

A loader takes a file and returns the function from images uint8 [n, size, size, 3] to probabilities float32
[n, classes]. Engines are imported when they are used, and run on one thread where that can be set. Each runs in a
process of its own, so that one that crashes does not take the others with it. A new engine is an entry of `ENGINES`.
"""

import concurrent.futures
import dataclasses
import functools
import importlib
import importlib.metadata
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_tf.exporting import report
from alexnet_tf.exporting.formats import NetworkOptions
from alexnet_tf.support import atomic_files, errors, home, processors, quiet, settings, shell

# From images uint8 [n, size, size, 3] to probabilities float32 [n, classes].
Predictor = Callable[[np.ndarray], np.ndarray]


def batched(run: Callable[[np.ndarray], np.ndarray], size: int = 32, dtype: Any = "float32") -> Predictor:
    """Returns the predictor of a function that takes at most so many images at once, of another dtype."""
    return lambda images: np.concatenate(
        [run(images[start : start + size].astype(dtype)) for start in range(0, len(images), size)]
    )


@dataclasses.dataclass(frozen=True)
class VerifyOptions(NetworkOptions):
    """What the engines are compared on: `checkpoint` must be the one that was exported."""

    images: int = settings.setting(50, "How many images to compare on, at most.", lower=1)


@dataclasses.dataclass(frozen=True)
class Engine:
    """A program that runs exported networks.

    Attributes:
        module: The Python module that must be there.
        reads: Endings of the files that it reads; a SavedModel's directory has none.
        load: Returns the predictor of a file.
    """

    module: str
    reads: tuple[str, ...]
    load: Callable[[str], Predictor]


def load_tflite(path: str | os.PathLike[str], threads: int, module: str = "ai_edge_litert.interpreter") -> Predictor:
    """Returns the predictor of a .tflite file; the last images are repeated where they do not fill its batch.

    Args:
        path: The file.
        threads: How many threads it may use.
        module: Which interpreter runs it.
    """
    with quiet.standard_error_hidden(), warnings.catch_warnings():  # It says which delegate it uses.
        warnings.simplefilter("ignore", UserWarning)  # TensorFlow's says that it is deprecated.
        interpreter = importlib.import_module(module).Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    [source], [result] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], np.resize(images, source["shape"]))
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])[: len(images)]

    return batched(run, int(source["shape"][0]), source["dtype"])


def _interpreter(module: str) -> Callable[[str], Predictor]:
    return lambda path: load_tflite(path, 1, module)


def _format(name: str, **options: int) -> Callable[[str], Predictor]:
    """Returns the loader that a format's own module has."""
    return lambda path: importlib.import_module(f"alexnet_tf.exporting.{name}").load(path, **options)


def _load_compiled_model(path: str) -> Predictor:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(path)
    dtype, width = details.get_input_details()[0]["dtype"], int(details.get_output_details()[0]["shape"][-1])
    model = CompiledModel.from_file(path)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)

    def run(image: np.ndarray) -> np.ndarray:
        inputs[0].write(np.ascontiguousarray(image))
        model.run_by_index(0, inputs, outputs)
        return outputs[0].read(width, np.float32)[None]

    return batched(run, 1, dtype)


def _load_mediapipe(path: str) -> Predictor:
    import mediapipe

    options = mediapipe.tasks.vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=path), max_results=-1
    )
    classifier = mediapipe.tasks.vision.ImageClassifier.create_from_options(options)

    def run(image: np.ndarray) -> np.ndarray:
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image[0]))
        categories = classifier.classify(picture).classifications[0].categories
        return np.array([[each.score for each in sorted(categories, key=lambda each: each.index)]], "float32")

    return batched(run, 1, "uint8")


@functools.cache
def openvino_core() -> Any:
    """Returns OpenVINO's `Core`, one for the life of the process.

    A core gives the thread that makes it another stack for signals where the CPU's registers are large (AVX-512, AMX).
    One that ends in another thread unmaps that stack while it is still in use: the next signal, such as that of Ctrl-C,
    would crash the process.
    """
    import openvino

    return openvino.Core()


def _load_openvino(path: str) -> Predictor:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino_core().compile_model(path, "CPU", options)
    dtype = np.dtype(compiled.input(0).element_type.to_dtype())
    index = next((i for i, each in enumerate(compiled.outputs) if "probabilities" in each.get_names()), 0)
    return batched(lambda image: compiled(image)[index], 1, dtype)


def _load_opencv(path: str) -> Predictor:
    import cv2

    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromONNX(path)

    def run(image: np.ndarray) -> np.ndarray:
        network.setInput(image)
        return network.forward("probabilities")

    return batched(run, 1)


_TFLITE = (".tflite",)

ENGINES: dict[str, Engine] = {
    "TensorFlow": Engine("tensorflow", ("",), _format("saved_model")),
    "Keras": Engine("keras", (".keras",), _format("keras_file")),
    "LiteRT, interpreter": Engine("ai_edge_litert", _TFLITE, _interpreter("ai_edge_litert.interpreter")),
    "LiteRT, compiled model": Engine("ai_edge_litert", _TFLITE, _load_compiled_model),
    "TensorFlow Lite": Engine("tensorflow", _TFLITE, _interpreter("tensorflow.lite.python.interpreter")),
    "tflite-runtime": Engine("tflite_runtime", _TFLITE, _interpreter("tflite_runtime.interpreter")),
    "MediaPipe": Engine("mediapipe", _TFLITE, _load_mediapipe),
    "OpenVINO": Engine("openvino", (".tflite", ".onnx"), _load_openvino),
    "ONNX Runtime": Engine("onnxruntime", (".onnx",), _format("onnx_file", threads=1)),
    "OpenCV": Engine("cv2", (".onnx",), _load_opencv),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """An engine's results on a file.

    Attributes:
        engine: Its name and version.
        artifact: The file, relative to the export's directory.
        agreement: Fraction of the images whose most probable class is Keras'.
        difference: Largest difference of a probability from Keras'.
        milliseconds: For one image, on one thread where the engine lets that be set.
        refusal: Why there are no figures; None if there are.
    """

    engine: str
    artifact: str
    agreement: float = 0.0
    difference: float = 0.0
    milliseconds: float = 0.0
    refusal: str | None = None


def verify(
    path: str | os.PathLike[str], options: VerifyOptions = VerifyOptions(), log: Callable[[str], None] = print
) -> list[Result]:
    """Runs every engine on every exported file of a run, compares with Keras, and writes RUN/export/verify.json.

    Args:
        path: The run's directory.
        options: What to compare on.
        log: Called with each line for the screen.

    Raises:
        RunError: If there is no run or checkpoint.
        UserError: If nothing was exported.
    """
    settings.check(options)
    directory = home.expand(options.output or pathlib.Path(path, "export"))
    artifacts = [str(each.path) for each in report.read(directory)]
    if not artifacts:
        raise errors.UserError(
            f"{directory} has nothing to verify. Export first: {shell.command_line('export', workdir=path)}"
        )
    from alexnet_tf.exporting import export  # TensorFlow, which most engines do without.

    job = export.prepare(path, options, log)
    results: list[Result] = []
    distributions = importlib.metadata.packages_distributions()
    for name, engine in ENGINES.items():
        paths = [each for each in artifacts if pathlib.Path(each).suffix in engine.reads]
        if engine.module not in distributions or not paths:
            continue
        version = f"{name} {importlib.metadata.version(distributions[engine.module][0])}"
        log(f"{version}: {shell.count(len(paths), 'file')}")
        files = [str(directory / each) for each in paths]
        for each, result in zip(paths, _run_apart(name, files, job.images.pixels, job.expected), strict=True):
            results.append(dataclasses.replace(result, engine=version, artifact=each))
    content = json.dumps({"notes": job.notes, "results": [dataclasses.asdict(each) for each in results]}, indent=2)
    atomic_files.write_bytes(directory / "verify.json", f"{content}\n".encode())
    return results


def table(results: Sequence[Result]) -> str:
    """Returns the results as a table in Markdown."""
    rows = [
        [each.artifact, each.engine, f"refused: {each.refusal}", "-", "-"]
        if each.refusal
        else [
            each.artifact,
            each.engine,
            f"{each.agreement:.2%}",
            f"{each.difference:.1g}",
            f"{each.milliseconds:.1f}",
        ]
        for each in sorted(results, key=lambda each: each.artifact)
    ]
    return report.markdown_table(["file", "engine", "agrees", "largest difference", "ms"], rows)


def _run_apart(name: str, paths: list[str], pixels: np.ndarray, expected: np.ndarray) -> list[Result]:
    """Runs an engine on files in a process of its own; a file at which it crashes is refused."""
    results: list[Result] = []
    while len(results) < len(paths):
        with processors.pool() as process:
            process.submit(quiet.hide_standard_error)
            try:
                for path in paths[len(results) :]:
                    results.append(process.submit(_run_here, name, path, pixels, expected).result())
            except concurrent.futures.process.BrokenProcessPool:
                results.append(Result("", "", refusal="the engine crashed"))
    return results


def _run_here(name: str, path: str, pixels: np.ndarray, expected: np.ndarray) -> Result:
    """Runs one engine on one file, in a process of its own."""
    try:
        predict = ENGINES[name].load(path)
        agreement, difference = report.compare(predict(pixels), expected)
        return Result("", "", agreement, difference, report.milliseconds(lambda: predict(pixels[:1])))
    except Exception as error:  # Engines raise arbitrary exceptions.
        return Result("", "", refusal=_first_words(error))


def _first_words(error: Exception) -> str:
    """Returns the informative line of an error: OpenVINO's begin with places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:120]
