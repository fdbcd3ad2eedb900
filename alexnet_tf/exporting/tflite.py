"""A network as a .tflite file that phones and browsers take: static shapes, its labels and metadata inside.

The network must be one of `alexnet.for_export`, in float32.
"""

import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.exporting import latency, quiet, tflite_inspection, tflite_metadata
from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob
from alexnet_tf.exporting.options import LRN_IMPLEMENTATIONS
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.support import atomic_files, processors

# What same-map LRN consists of. In integers its square roots need a runtime of 2025 and are slow, so that an int8 file
# computes these in floats.
_SAME_MAP_OPERATORS = ("SQUARE", "PAD", "AVERAGE_POOL_2D", "MUL", "ADD", "RSQRT", "SQRT")


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/tflite/alexnet_<quantization>.tflite for each quantization and yields its report line."""
    options = job.options
    for quantization in options.quantizations:
        lrn = LRN_IMPLEMENTATIONS[quantization] if options.lrn == "auto" else options.lrn
        content = convert(
            alexnet.for_export(job.model, lrn),
            quantization,
            job.class_names,
            job.calibration,
            batch_size=options.tflite_batch_size,
            per_channel_dense=options.dense_quantization == "per_channel",
        )
        path = job.directory / "tflite" / f"alexnet_{quantization}.tflite"
        atomic_files.atomic_write(path, lambda file: file.write(content))  # noqa: B023
        runner = _load_checked(path, quantization)
        inspection = tflite_inspection.inspect(content)
        suffix = f", LRN {lrn}" if has_lrn(job.run_config.architecture) else ""
        yield job.compare(
            f"TFLite {quantization}{suffix}",
            path,
            runner,
            runtime=inspection.min_runtime_version,
            details=inspection.describe(),
            milliseconds=measure(path, job.images.pixels),
        )


def _load_checked(path: pathlib.Path, quantization: str) -> "Runner":
    """Returns a file's runner.

    Raises:
        ExportError: If the interpreter refuses the file.
    """
    try:
        return Runner(path)
    except RuntimeError as error:
        advice = " Its ranges may have been found on images that are too alike: give others, --data_dir=DIR."
        raise ExportError(
            f"{path} cannot be run: {str(error).strip().splitlines()[0]}.{advice if quantization == 'int8' else ''}"
        ) from error


def has_lrn(architecture: architectures.Architecture) -> bool:
    """Returns whether an architecture normalises across channels, so that there is a choice of how."""
    return any("lrn" in stage.ops for stage in architecture.stages)


def convert(
    network: keras.Model,
    quantization: str,
    class_names: Sequence[str],
    calibration_images: np.ndarray | None = None,
    *,
    batch_size: int = 1,
    per_channel_dense: bool = False,
) -> bytes:
    """Returns a network as a .tflite file.

    The file takes images [batch_size, size, size, 3], RGB in [0, 255] (uint8 for "int8", else float32), subtracts the
    mean itself, and returns probabilities float32 [batch_size, classes].

    Args:
        network: From `alexnet.for_export`.
        quantization: "float32"; "float16" stores the weights in half precision; "dynamic" stores them in 8 bits and
            quantizes activations as they come; "int8" quantizes activations to ranges found on the calibration images.
        class_names: In the order of the logits.
        calibration_images: uint8 [n, size, size, 3], as training or evaluation crops them; for "int8" only.
        batch_size: Images at once; fixed in the file.
        per_channel_dense: Whether dense layers have one scale for each unit: a little more exact, but runtimes before
            2.17 refuse such a file or, in int8, compute wrong results.

    Raises:
        ExportError: If the converter fails.
    """
    converter = _make_converter(network, batch_size)
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel_dense
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        if calibration_images is None:
            raise ExportError("int8 needs images to find its ranges on; got none. Give some: --data_dir=DIR.")
        converter.representative_dataset = lambda: _batches(calibration_images, batch_size)
        # The built-in LRN stays in float32 all the same: it has no integer kernel, and the converter says nothing.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    has_same_map_lrn = any(type(layer).__name__ == "SameMapNormalization" for layer in network.layers)
    run = converter.convert
    if quantization == "int8" and has_same_map_lrn:
        converter._experimental_calibrate_only = True
        run = lambda: _quantize_around_same_map_lrn(converter.convert(), per_channel_dense)  # noqa: E731
    return tflite_metadata.add_metadata(_quietly(run), class_names)


def convert_maps(network: keras.Model) -> bytes:
    """Returns a network whose output is feature maps as a .tflite file in float32, for one image.

    Args:
        network: RGB images in [0, 255] to maps.
    """
    return _quietly(_make_converter(network, 1, "maps", tf.identity).convert)


def _make_converter(
    network: keras.Model,
    batch_size: int,
    output: str = "probabilities",
    transform: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax,
) -> tf.lite.TFLiteConverter:
    _, height, width, _ = network.input_shape
    spec = tf.TensorSpec([batch_size, height, width, 3], tf.float32, name="images")

    @tf.function(input_signature=[spec], autograph=False)
    def run(images):
        return {output: transform(network(images, training=False))}

    module = tf.Module()
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    return tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], module)


def _batches(images: np.ndarray, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields calibration batches; images are repeated where they do not fill one."""
    for start in range(0, len(images), batch_size):
        indices = np.arange(start, start + batch_size) % len(images)
        yield {"images": images[indices].astype("float32")}


def _quantize_around_same_map_lrn(calibrated: bytes, per_channel_dense: bool) -> bytes:
    """Quantizes a calibrated model to int8 except for the operators of same-map LRN."""
    from tensorflow.lite.python import convert as quantizer

    return quantizer.mlir_quantize(
        calibrated,
        input_data_type=tf.uint8,
        output_data_type=tf.float32,
        denylisted_ops=set(_SAME_MAP_OPERATORS),
        disable_per_channel_for_dense_layers=not per_channel_dense,
    )


def _quietly(run: Callable[[], bytes]) -> bytes:
    """Calls the converter without the lines that it writes; if it fails, they are shown.

    Raises:
        ExportError: If the disk is full.
    """
    with warnings.catch_warnings():  # It warns of the interpreter that it uses itself.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        try:
            with quiet.quiet_standard_error():
                return run()
        except OSError as error:
            raise ExportError(f"The .tflite file could not be converted: {error.strerror or error}.") from error


def measure(path: pathlib.Path, images: np.ndarray) -> dict[int, float]:
    """Returns {threads: milliseconds} of a file on one batch of images."""

    def load(threads: int) -> Callable[[], object]:
        runner = Runner(path, threads)
        return lambda: runner(images[: runner.batch_size])

    return latency.milliseconds_by_threads(load)


class Runner:
    """A .tflite file, ready to run.

    Args:
        path: The file.
        threads: How many threads it may use; all by default.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        from ai_edge_litert import interpreter

        with quiet.quiet_standard_error():  # It says which delegate it uses.
            self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or processors.available_cpus())
            self._interpreter.allocate_tensors()
        [self._input], [self._output] = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    @property
    def batch_size(self) -> int:
        """Images that the file takes at once."""
        return int(self._input["shape"][0])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities, float32 [n, classes], of images [n, size, size, 3] in [0, 255]."""
        size = self.batch_size
        padded = np.resize(images, (-(-len(images) // size) * size, *images.shape[1:]))
        outputs = [self._run(padded[start : start + size]) for start in range(0, len(padded), size)]
        return np.concatenate(outputs)[: len(images)]

    def _run(self, images: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input["index"], images.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])
