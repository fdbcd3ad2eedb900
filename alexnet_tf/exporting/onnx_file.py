"""A network as an .onnx file, for ONNX Runtime, OpenVINO, OpenCV and others; needs tf2onnx and onnxruntime.

It takes `images` float32 [n, size, size, 3], RGB in [0, 255], and returns `logits` and `probabilities`, as the
SavedModel's `images` signature does. Its metadata has the `architecture`, and the class names as a list in JSON:
`classes`. `import_weights` reads it.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import alexnet, atomic_files, processors
from alexnet_tf.exporting import latency, quiet
from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob, Predictor

# Read by everything from 2022 on.
OPSET = 17


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/onnx/alexnet.onnx and yields its line of the report."""
    path = job.directory / "onnx" / "alexnet.onnx"
    content = convert(alexnet.for_export(job.model, "builtin"), job.class_names)
    atomic_files.atomic_write(path, lambda file: file.write(content))
    image = job.images.pixels[:1]
    times = latency.milliseconds_by_threads(lambda threads: _call(load(path, threads), image))
    yield job.compare("ONNX", path, load(path), milliseconds=times, details=f"opset {OPSET}")


def _call(predict: Predictor, image: np.ndarray):
    return lambda: predict(image)


def convert(network: keras.Model, class_names: Sequence[str]) -> bytes:
    """Returns a network as an .onnx file.

    Args:
        network: From `alexnet.for_export`, with LRN as TensorFlow's own op, which ONNX has too.
        class_names: In the order of the logits.

    Raises:
        ExportError: If tf2onnx or onnxruntime is not installed.
    """
    try:
        with quiet.quiet_standard_error():
            import onnxruntime  # noqa: F401
            import tf2onnx
    except ImportError as error:
        raise ExportError(
            f"--formats=onnx needs a package that is not installed ({error}): pip install tf2onnx onnx onnxruntime"
        ) from error
    _, height, width, _ = network.input_shape

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, 3], tf.float32, name="images")], autograph=False)
    def run(images):
        logits = network(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    with quiet.quiet_standard_error():
        model, _ = tf2onnx.convert.from_function(run, input_signature=run.input_signature, opset=OPSET)
    names = [name.encode("utf-8", "replace").decode() for name in class_names]
    for key, value in (("architecture", network.name), ("classes", json.dumps(names))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def load(path: str | os.PathLike[str], threads: int | None = None) -> Predictor:
    """Returns the predictor of an .onnx file, run by ONNX Runtime in batches of 32 images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or processors.available_cpus()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        batches = [images[start:start + 32].astype("float32") for start in range(0, len(images), 32)]
        return np.concatenate([session.run(["probabilities"], {"images": batch})[0] for batch in batches])

    return predict
