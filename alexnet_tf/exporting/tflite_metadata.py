"""Labels and metadata inside a .tflite file, as MediaPipe and ML Kit read them."""

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
import numpy as np

LABELS = "labels.txt"

# The fields of TensorFlow Lite's metadata_schema.fbs (version 1.5.0) up to the last one used, in their order; a union
# is two fields. https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
_SCHEMA = {
    "ModelMetadata": (
        "name",
        "description",
        "version",
        "subgraph_metadata",
        "author",
        "license",
        "associated_files",
        "min_parser_version",
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        "name",
        "description",
        "dimension_names",
        "content",
        "process_units",
        "stats",
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}

_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _RGB, _NORMALIZATION_OPTIONS, _TENSOR_AXIS_LABELS = 1, 2, 1, 1, 2


def add_metadata(model: bytes, class_names: Sequence[str]) -> bytes:
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
        labels = "".join(f"{_label(name)}\n" for name in class_names).encode()
        archive.writestr(zipfile.ZipInfo(LABELS), labels)  # Not compressed, as its readers expect, and without a date.
    return file.getvalue()


def _label(class_name: str) -> str:
    """Returns a class name as a line of UTF-8, which is all that MediaPipe reads."""
    return " ".join(class_name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").splitlines())


def _metadata() -> bytes:
    """Returns the metadata buffer."""
    image = _table(
        "TensorMetadata",
        name="image",
        description="RGB in [0, 255], the centre of the picture; no mean subtracted.",
        content=_table(
            "Content",
            content_properties_type=_IMAGE_PROPERTIES,
            content_properties=_table("ImageProperties", color_space=_RGB),
        ),
        # MediaPipe refuses a mean for each channel, so the network's own is in its graph, and here is none.
        process_units=[
            _table(
                "ProcessUnit",
                options_type=_NORMALIZATION_OPTIONS,
                options=_table("NormalizationOptions", mean=[0.0], std=[1.0]),
            )
        ],
        stats=_table("Stats", max=[255.0], min=[0.0]),
    )
    probability = _table(
        "TensorMetadata",
        name="probability",
        description="Of each class.",
        content=_table(
            "Content", content_properties_type=_FEATURE_PROPERTIES, content_properties=_table("FeatureProperties")
        ),
        stats=_table("Stats", max=[1.0], min=[0.0]),
        associated_files=[
            _table("AssociatedFile", name=LABELS, description="Class names, in order.", type=_TENSOR_AXIS_LABELS)
        ],
    )
    model = _table(
        "ModelMetadata",
        name="AlexNet",
        description="Names what is on a picture.",
        version="1",
        subgraph_metadata=[
            _table("SubGraphMetadata", input_tensor_metadata=[image], output_tensor_metadata=[probability])
        ],
        min_parser_version="1.0.0",
    )
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
