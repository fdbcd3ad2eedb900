"""A network as a .tflite file that phones and browsers take: static shapes, its labels and metadata inside.

The network must be one of `alexnet.for_export`, in float32.
"""

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.exporting import engines, tflite_metadata
from alexnet_tf.exporting.export import ExportError, ExportJob
from alexnet_tf.exporting.formats import TFLiteOptions
from alexnet_tf.exporting.report import Artifact
from alexnet_tf.network import alexnet, lrn
from alexnet_tf.support import atomic_files, quiet

# What LRN consists of, its convolution apart. In integers the square roots need a runtime of 2025 and are slow, so that
# an int8 file computes these in floats.
_LRN_OPERATORS = {"SQUARE", "PAD", "AVERAGE_POOL_2D", "MUL", "ADD", "RSQRT", "SQRT"}

_DEFAULTS = TFLiteOptions()


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/tflite/alexnet_<quantization>.tflite for each quantization and yields its report line.

    Raises:
        ExportError: If the interpreter refuses a file, or int8 alone is asked for and there are no images.
    """
    options = job.options
    for quantization in options.quantization:
        images = job.data.to_calibrate() if quantization == "int8" else None
        if quantization == "int8" and images is None:
            need = "its ranges must be found on real images. Give some: --data_dir=DIR."
            if options.quantization == ("int8",):
                raise ExportError(f"--quantization=int8: {need}")
            job.note(f"int8 is left out: {need}")
            continue
        network = alexnet.for_export(job.model, options.lrn)
        content = convert(network, quantization, job.class_names, images, options)
        path = job.directory / "tflite" / f"alexnet_{quantization}.tflite"
        atomic_files.write_bytes(path, content)
        has_lrn = any("lrn" in stage.ops for stage in job.run_config.architecture.stages)
        try:
            artifact = compare(job, f"TFLite {quantization}{f', LRN {options.lrn}' if has_lrn else ''}", path, content)
        except RuntimeError as error:
            advice = " Its ranges may have been found on images that are too alike: give others, --data_dir=DIR."
            raise ExportError(
                f"{path} cannot be run: {str(error).strip().splitlines()[0]}.{advice if images is not None else ''}"
            ) from error
        yield artifact


def compare(job: ExportJob, name: str, path: pathlib.Path, content: bytes, **facts: Any) -> Artifact:
    """Returns the line of the report on a .tflite file; further arguments as of `ExportJob.compare`."""
    stated = inspect(content)
    facts |= {"runtime": stated.min_runtime_version, "details": stated.describe(), "by_threads": True}
    return job.compare(name, path, functools.partial(engines.load_tflite, path), **facts)


def convert(
    network: keras.Model,
    quantization: str,
    class_names: Sequence[str],
    calibration_images: np.ndarray | None = None,
    options: TFLiteOptions = _DEFAULTS,
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
        options: Their batch size and quantization of the dense layers count.
    """
    batch_size, per_tensor = options.tflite_batch_size, options.dense_quantization == "per_tensor"
    converter = _make_converter(network, batch_size)
    converter._experimental_disable_per_channel_quantization_for_dense_layers = per_tensor
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    run = converter.convert
    if quantization == "int8":
        assert calibration_images is not None
        converter.representative_dataset = lambda: _batches(calibration_images, batch_size)
        # LRN's own op stays in float32 all the same: it has no integer kernel, and the converter says nothing.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        if any(
            isinstance(layer, (lrn.LocalResponseNormalization, lrn.SameMapNormalization)) for layer in network.layers
        ):
            converter._experimental_calibrate_only = True
            run = lambda: _quantize_around_lrn(converter.convert(), per_tensor)  # noqa: E731
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
        yield {
            "images": np.resize(images[start : start + batch_size], (batch_size, *images.shape[1:])).astype("float32")
        }


def _quantize_around_lrn(calibrated: bytes, per_tensor: bool) -> bytes:
    """Quantizes a calibrated model to int8 except for the operators of LRN."""
    from tensorflow.lite.python import convert as quantizer

    return quantizer.mlir_quantize(
        calibrated,
        input_data_type=tf.uint8,
        output_data_type=tf.float32,
        denylisted_ops=_LRN_OPERATORS,
        disable_per_channel_for_dense_layers=per_tensor,
    )


def _quietly(run: Callable[[], bytes]) -> bytes:
    """Calls the converter without the lines that it writes; if it fails, they are shown."""
    with warnings.catch_warnings(), quiet.standard_error_hidden():  # It warns of the interpreter that it uses itself.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        return run()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a .tflite file states.

    Attributes:
        min_runtime_version: Oldest TensorFlow Lite runtime that reads it, such as "2.4.0", as the converter wrote it.
        input_shape: Shape of its input.
        float_operators: Names of the operators that compute in floats, in their order, conversions apart.
    """

    min_runtime_version: str
    input_shape: tuple[int, ...]
    float_operators: tuple[str, ...]

    def describe(self) -> str:
        """Returns a sentence for the report."""
        kind = "all-integer, but for the probabilities that it returns"
        if "CONV_2D" in self.float_operators:
            kind = "computes in floats"
        elif self.float_operators:
            kind = f"not all-integer: computes {', '.join(sorted(set(self.float_operators)))} in floats"
        return (
            f"signature serving_default; input {list(self.input_shape)}, so the batch is {self.input_shape[0]} "
            f"(--tflite_batch_size); {kind}"
        )


def inspect(content: bytes) -> Inspection:
    """Reads what a .tflite file states."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    [graph] = model.subgraphs
    floats = []
    for operator in graph.operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        types = {graph.tensors[index].type for index in operator.outputs}
        if types & {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16} and not name.endswith("QUANTIZE"):
            floats.append(name)
    [version] = [model.buffers[each.buffer] for each in model.metadata if each.name == b"min_runtime_version"]
    return Inspection(
        bytes(version.data).rstrip(b"\0").decode(),
        tuple(map(int, graph.tensors[graph.inputs[0]].shape)),
        tuple(floats),
    )
