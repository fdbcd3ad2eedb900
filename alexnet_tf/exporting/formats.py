"""What can be exported, and what a person can choose about it. A new format is a module and an entry of `FORMATS`.

A format's module has `write(job)`: it takes an `export.ExportJob`, writes everything of the format, and yields a
`report.Artifact` for each file as soon as that is whole. Options of one format are a class of its own here, which
`ExportOptions` inherits. Standard library only, so that `--help` and mistakes answer at once.
"""

import dataclasses

from alexnet_tf.support import tables
from alexnet_tf.support.settings import setting

FORMATS: dict[str, tables.Entry] = {
    "saved_model": tables.Entry("alexnet_tf.exporting.saved_model", "TF Serving"),
    "tflite": tables.Entry("alexnet_tf.exporting.tflite", "phones, browsers and small computers"),
    "keras": tables.Entry("alexnet_tf.exporting.keras_file", "Keras itself"),
    "onnx": tables.Entry("alexnet_tf.exporting.onnx_file", "ONNX Runtime, OpenVINO and others"),
    "web": tables.Entry("alexnet_tf.exporting.web", "a page that runs it in a browser"),
}

# How a .tflite file stores its weights.
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")

# The most that `preprocessing` decodes, whatever an export allows.
MAX_MEGAPIXELS = 100

# The longest request that TF Serving takes over gRPC by default is of 4 MB; photographs of 100 megapixels are longer.
MAX_MEGABYTES = 256


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Which network is exported, and what it is compared on."""

    output: str | None = setting(None, "Where the exports are; by default RUN/export.")
    images: int = setting(500, "How many images to compare on, at most.", lower=1)

    checkpoint: str = setting("last", "Which checkpoint.", choices=("last", "best"))
    data_dir: str | None = setting(
        None, "Images to compare and calibrate with, of any classes; by default those of the run.", path="directory"
    )
    dataset: str | None = setting(None, "Name of the TFDS data set in --data_dir.")


@dataclasses.dataclass(frozen=True)
class SavedModelOptions:
    """What a SavedModel accepts."""

    max_megapixels: int = setting(
        MAX_MEGAPIXELS,
        "The SavedModel refuses images whose header declares more.",
        lower=1,
        upper=MAX_MEGAPIXELS,
    )
    max_megabytes: int = setting(
        MAX_MEGABYTES, "The SavedModel refuses encoded images that are longer.", lower=1, upper=2000
    )


@dataclasses.dataclass(frozen=True)
class TFLiteOptions:
    """Which .tflite files are written, and how."""

    quantization: tuple[str, ...] = setting(
        QUANTIZATIONS,
        "Which .tflite files; int8 needs images, of any kind.",
        choices=QUANTIZATIONS,
    )
    lrn: str = setting(
        "convolution",
        "How the .tflite files compute LRN: as a 1 x 1 convolution, or by TensorFlow Lite's own op, which is slower, "
        "and which GPU delegates lack.",
        choices=("convolution", "builtin"),
    )
    dense_quantization: str = setting(
        "per_tensor",
        "Scales of the dense layers' 8-bit weights in .tflite files: one for each layer, which runtimes from 2.4 on "
        "read, or one for each unit, a little more exact, which needs 2.17 (older ones refuse the file or, in int8, "
        "compute wrong results).",
        choices=("per_tensor", "per_channel"),
    )
    tflite_batch_size: int = setting(
        1, "Images that a .tflite file takes at once; the number is fixed in the file.", lower=1
    )


@dataclasses.dataclass(frozen=True)
class WebOptions:
    """What the web page runs on."""

    litert_js: str | None = setting(
        None,
        "Where --formats=web takes LiteRT.js from: a node_modules folder that has @litertjs/core, or an address such "
        "as https://cdn.jsdelivr.net/npm; by default npm fetches it once into the page's folder.",
    )


@dataclasses.dataclass(frozen=True)
class ExportOptions(WebOptions, TFLiteOptions, SavedModelOptions, NetworkOptions):
    """What to export."""

    formats: tuple[str, ...] = setting(
        ("saved_model", "tflite"), f"What to write. {tables.purposes(FORMATS)}.", choices=FORMATS
    )
