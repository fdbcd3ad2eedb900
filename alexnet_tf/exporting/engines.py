"""Every engine that can run an exported file here: what it reads, and how it is asked. A new engine is an entry here.

A loader takes a file and returns the function from images uint8 [n, size, size, 3] to probabilities float32
[n, classes]. Engines are imported when they are used, and run on one thread where that can be set.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from alexnet_tf.exporting.export_job import Predictor


@dataclasses.dataclass(frozen=True)
class Engine:
    """A program that runs exported networks.

    Attributes:
        module: The Python module that must be there.
        distributions: Names of the packages that may hold it, for its version.
        reads: Formats, as `verification.find_artifacts` names them.
        load: Returns the predictor of a file.
    """

    module: str
    distributions: tuple[str, ...]
    reads: tuple[str, ...]
    load: Callable[[str], "Predictor"]

    def version(self) -> str | None:
        """Returns the version that is installed; None if none is."""
        if importlib.util.find_spec(self.module) is None:
            return None
        for name in self.distributions:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "?"


def _one_by_one(run: Callable[[np.ndarray], np.ndarray]) -> "Predictor":
    """Returns the predictor of a function that takes one image [1, size, size, 3]."""
    return lambda images: np.concatenate([np.reshape(run(image[None]), (1, -1)) for image in images])


def _load_saved_model(path: str) -> "Predictor":
    from alexnet_tf.exporting import saved_model

    return saved_model.load(path)


def _load_keras(path: str) -> "Predictor":
    from alexnet_tf.exporting import keras_file

    return keras_file.load(path)


def _load_litert(path: str) -> "Predictor":
    from ai_edge_litert import interpreter

    return _interpreter(interpreter.Interpreter(path, num_threads=1))


def _load_tensorflow_lite(path: str) -> "Predictor":
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That it is deprecated.
        return _interpreter(tf.lite.Interpreter(path, num_threads=1))


def _load_tflite_runtime(path: str) -> "Predictor":
    from tflite_runtime import interpreter

    return _interpreter(interpreter.Interpreter(path, num_threads=1))


def _interpreter(interpreter) -> "Predictor":
    interpreter.allocate_tensors()
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], image.astype(taken["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    return _one_by_one(run)


def _load_compiled_model(path: str) -> "Predictor":
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(path)
    dtype, width = details.get_input_details()[0]["dtype"], int(details.get_output_details()[0]["shape"][-1])
    model = CompiledModel.from_file(path)
    taken, given = model.create_input_buffers(0), model.create_output_buffers(0)

    def run(image: np.ndarray) -> np.ndarray:
        taken[0].write(np.ascontiguousarray(image.astype(dtype)))
        model.run_by_index(0, taken, given)
        return given[0].read(width, np.float32)

    return _one_by_one(run)


def _load_mediapipe(path: str) -> "Predictor":
    import mediapipe

    options = mediapipe.tasks.vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=path), max_results=-1
    )
    classifier = mediapipe.tasks.vision.ImageClassifier.create_from_options(options)

    def run(image: np.ndarray) -> np.ndarray:
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image[0]))
        categories = classifier.classify(picture).classifications[0].categories
        return np.array([each.score for each in sorted(categories, key=lambda each: each.index)], "float32")

    return _one_by_one(run)


@functools.cache
def openvino_core() -> Any:
    """Returns OpenVINO's `Core`, one for the life of the process.

    A core gives the thread that makes it another stack for signals where the CPU's registers are large (AVX-512, AMX).
    One that ends in another thread unmaps that stack while it is still in use: the next signal, such as that of Ctrl-C,
    would crash the process.
    """
    import openvino

    return openvino.Core()


def _load_openvino(path: str) -> "Predictor":
    if os.path.isdir(path):
        raise ValueError("it reads frozen functions, not SavedModels with signatures: give it the .onnx file")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino_core().compile_model(path, "CPU", options)
    dtype = np.dtype(compiled.input(0).element_type.to_dtype())
    index = next((i for i, each in enumerate(compiled.outputs) if "probabilities" in each.get_names()), 0)
    return _one_by_one(lambda image: compiled(image.astype(dtype))[index])


def _load_onnxruntime(path: str) -> "Predictor":
    from alexnet_tf.exporting import onnx_file

    return onnx_file.load(path, threads=1)


def _load_opencv(path: str) -> "Predictor":
    import cv2

    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromONNX(path)

    def run(image: np.ndarray) -> np.ndarray:
        network.setInput(image.astype("float32"))
        return network.forward("probabilities")

    return _one_by_one(run)


ENGINES: dict[str, Engine] = {
    "TensorFlow": Engine("tensorflow", ("tensorflow", "tensorflow-cpu"), ("saved_model",), _load_saved_model),
    "Keras": Engine("keras", ("keras",), ("keras",), _load_keras),
    "LiteRT, interpreter": Engine("ai_edge_litert", ("ai-edge-litert",), ("tflite",), _load_litert),
    "LiteRT, compiled model": Engine("ai_edge_litert", ("ai-edge-litert",), ("tflite",), _load_compiled_model),
    "TensorFlow Lite": Engine("tensorflow", ("tensorflow", "tensorflow-cpu"), ("tflite",), _load_tensorflow_lite),
    "tflite-runtime": Engine("tflite_runtime", ("tflite-runtime",), ("tflite",), _load_tflite_runtime),
    "MediaPipe": Engine("mediapipe", ("mediapipe",), ("tflite",), _load_mediapipe),
    "OpenVINO": Engine("openvino", ("openvino",), ("tflite", "onnx"), _load_openvino),
    "ONNX Runtime": Engine("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), ("onnx",), _load_onnxruntime),
    "OpenCV": Engine(
        "cv2", ("opencv-contrib-python", "opencv-python", "opencv-python-headless"), ("onnx",), _load_opencv
    ),
}
