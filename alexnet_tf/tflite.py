"""A network as a .tflite file that phones and browsers take: static shapes, its labels and metadata inside.

The network must be one of `alexnet.for_export`, in float32. Nothing here compares results: see `exporting`.
"""

import io
import os
import warnings
import zipfile

import flatbuffers
import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.saved_model import encoded

# How the weights are stored, and which form of LRN is the faster with it: measured at full width on two cores (README).
# XNNPACK, which runs everything else, knows no LRN: the built-in op cuts the graph in pieces. As a convolution it is
# one piece, but in integers its square roots are slow, so that int8 keeps the op, in floats.
FASTER_LRN = {"float32": "convolution", "float16": "convolution", "dynamic": "convolution", "int8": "builtin"}

LABELS = "labels.txt"

# The fields of TensorFlow Lite's metadata_schema.fbs (version 1.5.0) up to the last one used, in their order; a union
# is two fields. https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
_SCHEMA = {
    "ModelMetadata": ("name", "description", "version", "subgraph_metadata", "author", "license", "associated_files",
                      "min_parser_version"),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": ("name", "description", "dimension_names", "content", "process_units", "stats",
                       "associated_files"),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _RGB, _NORMALIZATION_OPTIONS, _TENSOR_AXIS_LABELS = 1, 2, 1, 1, 2


def convert(network: keras.Model, quantization: str, class_names, calibration_images=None) -> bytes:
    """Returns a network as a .tflite file.

    The file takes one image [1, size, size, 3], RGB in [0, 255] (uint8 for "int8", float32 else), subtracts the mean
    itself, and gives probabilities float32 [1, classes].

    Args:
        network: From `alexnet.for_export`.
        quantization: A key of `FASTER_LRN`: "float32"; "float16" stores the weights in half; "dynamic" stores them in
            8 bits and computes with them on activations that are rounded as they come; "int8" rounds those to ranges
            found on the calibration images.
        class_names: In the order of the logits.
        calibration_images: uint8 [n, size, size, 3], as training or evaluation cuts them; for "int8" only.
    """
    _, height, width, _ = network.input_shape

    @tf.function(input_signature=[tf.TensorSpec([1, height, width, 3], tf.float32, name="images")], autograph=False)
    def classify(images):
        return {"probabilities": tf.nn.softmax(network(images, training=False))}

    module = tf.Module()
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([classify.get_concrete_function()], module)
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = lambda: (
            {"images": image[None].astype("float32")} for image in calibration_images)
        # The built-in LRN stays in float32 all the same: it has no integer kernel, and the converter says nothing.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with warnings.catch_warnings():  # The converter warns of the interpreter that it uses itself.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        return with_metadata(converter.convert(), class_names)


def with_metadata(model: bytes, class_names) -> bytes:
    """Returns a model with what MediaPipe and ML Kit ask for inside: its labels, and that the input is not normalised.

    The labels are a zip file after the model: `unzip -l alexnet_int8.tflite` shows it.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(model, 0)
    content.buffers.append(schema.BufferT())
    content.buffers[-1].data = np.frombuffer(_metadata(), "uint8")
    content.metadata = content.metadata or []
    content.metadata.append(schema.MetadataT())
    content.metadata[-1].name, content.metadata[-1].buffer = b"TFLITE_METADATA", len(content.buffers) - 1
    builder = flatbuffers.Builder(len(model) + 65_536)
    builder.Finish(content.Pack(builder), b"TFL3")
    file = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a") as archive:
        labels = b"".join(name + b"\n" for name in encoded(class_names))
        archive.writestr(zipfile.ZipInfo(LABELS), labels)  # Not compressed, as its readers expect, and without a date.
    return file.getvalue()


def _metadata() -> bytes:
    """Returns the metadata buffer."""
    image = _table(
        "TensorMetadata", name="image", description="RGB in [0, 255], the centre of the picture; no mean subtracted.",
        content=_table(
            "Content", content_properties_type=_IMAGE_PROPERTIES,
            content_properties=_table("ImageProperties", color_space=_RGB)),
        # MediaPipe refuses a mean for each channel, so the network's own is in its graph, and here is none.
        process_units=[_table(
            "ProcessUnit", options_type=_NORMALIZATION_OPTIONS,
            options=_table("NormalizationOptions", mean=[0.0], std=[1.0]))],
        stats=_table("Stats", max=[255.0], min=[0.0]))
    probability = _table(
        "TensorMetadata", name="probability", description="Of each class.",
        content=_table(
            "Content", content_properties_type=_FEATURE_PROPERTIES, content_properties=_table("FeatureProperties")),
        stats=_table("Stats", max=[1.0], min=[0.0]),
        associated_files=[_table(
            "AssociatedFile", name=LABELS, description="Class names, in order.", type=_TENSOR_AXIS_LABELS)])
    model = _table(
        "ModelMetadata", name="AlexNet", description="Names what is on a picture.", version="1",
        subgraph_metadata=[_table(
            "SubGraphMetadata", input_tensor_metadata=[image], output_tensor_metadata=[probability])],
        min_parser_version="1.0.0")
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write_table(builder, model), b"M001")
    return bytes(builder.Output())


def _table(kind: str, **fields) -> dict:
    """Returns {place in the schema: value} of a table."""
    return {_SCHEMA[kind].index(name): value for name, value in fields.items()}


def _write_table(builder, table: dict) -> int:
    """Writes a table and what it points at. Its integers are all of one byte."""
    offsets = {place: _write_value(builder, value) for place, value in table.items() if not isinstance(value, int)}
    builder.StartObject(max(table, default=-1) + 1)
    for place, value in table.items():
        if place in offsets:
            builder.PrependUOffsetTRelativeSlot(place, offsets[place], 0)
        else:
            builder.PrependInt8Slot(place, value, 0)
    return builder.EndObject()


def _write_value(builder, value) -> int:
    """Writes a string, a table, or a list of tables or floats."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, dict):
        return _write_table(builder, value)
    if isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, "float32"))
    offsets = [_write_table(builder, each) for each in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


class Runner:
    """A .tflite file, ready to run.

    Args:
        path: The file.
        threads: How many threads it may use; all by default.
    """

    def __init__(self, path, threads: int | None = None):
        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or os.cpu_count())
        self._interpreter.allocate_tensors()
        [self._input], [self._output] = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities, float32 [n, classes], of images [n, size, size, 3] in [0, 255]."""
        return np.concatenate([self._run(image) for image in images])

    def _run(self, image):
        self._interpreter.set_tensor(self._input["index"], image[None].astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])
