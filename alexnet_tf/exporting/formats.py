"""Every export format: its name, what it is for, and the function that writes it. A new format is an entry here.

A writer takes an `export_job.ExportJob` and yields an `export_job.Artifact` for each file or directory as soon as that
is whole. Writers import TensorFlow and other packages when they are called, so that the names cost nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet_tf.exporting.export_job import Artifact, ExportJob


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        purpose: What it is for, in a few words.
        write: Writes everything of this format and yields what it wrote.
        pattern: Which files of the export's directory `verify` gives to engines; of numbered directories the last.
        read_as: The format as which engines read them; by default the format's own name.
    """

    purpose: str
    write: Callable[["ExportJob"], Iterator["Artifact"]]
    pattern: str
    read_as: str | None = None


def _write_saved_model(job: "ExportJob") -> Iterator["Artifact"]:
    from alexnet_tf.exporting import saved_model

    yield from saved_model.write(job)


def _write_tflite(job: "ExportJob") -> Iterator["Artifact"]:
    from alexnet_tf.exporting import tflite

    yield from tflite.write(job)


def _write_keras_file(job: "ExportJob") -> Iterator["Artifact"]:
    from alexnet_tf.exporting import keras_file

    yield from keras_file.write(job)


def _write_onnx_file(job: "ExportJob") -> Iterator["Artifact"]:
    from alexnet_tf.exporting import onnx_file

    yield from onnx_file.write(job)


def _write_web_page(job: "ExportJob") -> Iterator["Artifact"]:
    from alexnet_tf.exporting import web

    yield from web.write(job)


FORMATS: dict[str, Format] = {
    "saved_model": Format("TF Serving", _write_saved_model, "saved_model/*"),
    "tflite": Format("phones, browsers and small computers", _write_tflite, "tflite/*.tflite"),
    "keras": Format("Keras itself", _write_keras_file, "keras/*.keras"),
    "onnx": Format("ONNX Runtime, OpenVINO and others", _write_onnx_file, "onnx/*.onnx"),
    "web": Format("a page that runs it in a browser", _write_web_page, "web/network.tflite", read_as="tflite"),
}
