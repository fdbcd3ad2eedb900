"""A network as an .onnx file, for ONNX Runtime, OpenVINO, OpenCV and others; needs tf2onnx and onnxruntime.

It takes `images` float32 [n, size, size, 3], RGB in [0, 255], and returns `logits` and `probabilities`, as the
SavedModel's `images` signature does. Its metadata has the `architecture`, and the class names as a list in JSON:
`classes`. `import_weights` reads it.
"""

import functools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.exporting.engines import Predictor, batched
from alexnet_tf.exporting.export import ExportError, ExportJob
from alexnet_tf.exporting.report import Artifact
from alexnet_tf.network import alexnet
from alexnet_tf.support import atomic_files, quiet

if TYPE_CHECKING:
    import onnx

# Read by everything from 2022 on.
OPSET = 17


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/onnx/alexnet.onnx and yields its line of the report."""
    path = job.directory / "onnx" / "alexnet.onnx"
    content = convert(alexnet.for_export(job.model, "builtin"), job.class_names)
    atomic_files.write_bytes(path, content)
    load_with = functools.partial(load, path)
    yield job.compare("ONNX", path, load_with, by_threads=True, details=f"opset {OPSET}")


def convert(network: keras.Model, class_names: Sequence[str]) -> bytes:
    """Returns a network as an .onnx file.

    Args:
        network: From `alexnet.for_export`, with LRN as TensorFlow's own op, which ONNX has too.
        class_names: In the order of the logits.

    Raises:
        ExportError: If tf2onnx or onnxruntime is not installed.
    """
    try:
        with quiet.standard_error_hidden():
            import onnx
            import onnxruntime  # noqa: F401
            import tf2onnx
    except ImportError as error:
        raise ExportError(
            f"--formats=onnx needs a package that is not installed ({error}): pip install tf2onnx onnx onnxruntime"
        ) from error
    variables = [*network.trainable_variables, *network.non_trainable_variables]
    names = [f"weight{number}" for number in range(len(variables))]
    images = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32, name="images")
    # With the weights inside, tf2onnx takes sixty times their memory: it gets them as arguments.
    signature = (images, *(tf.TensorSpec(each.shape, each.dtype, name) for each, name in zip(variables, names)))

    @tf.function(input_signature=signature, autograph=False)
    def run(images, *values):
        trainable = len(network.trainable_variables)
        logits, _ = network.stateless_call(values[:trainable], values[trainable:], images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    with quiet.standard_error_hidden():
        model, _ = tf2onnx.convert.from_function(run, input_signature=signature, opset=OPSET)
    _insert_weights(model.graph, {name: (each.path, each.numpy()) for name, each in zip(names, variables)})
    labels = [name.encode("utf-8", "replace").decode() for name in class_names]
    onnx.helper.set_model_props(model, {"architecture": network.name, "classes": json.dumps(labels)})
    return model.SerializeToString()


def _insert_weights(graph: "onnx.GraphProto", weights: dict[str, tuple[str, np.ndarray]]) -> None:
    """Makes constants of arguments, and computes what depends on constants alone, such as kernels in ONNX's layout.

    Args:
        graph: Is changed.
        weights: By the argument's name: the constant's name, and its value.
    """
    import onnx
    import onnx.reference

    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    values |= {name: value for name, (_, value) in weights.items()}
    names = {name: constant for name, (constant, _) in weights.items()}
    left = []
    for node in graph.node:
        if not node.input or not all(name in values for name in node.input):
            left.append(node)
            continue
        inputs = {name: values[name] for name in node.input}
        output, *_ = onnx.reference.ReferenceEvaluator(node).run(None, inputs)
        values[node.output[0]] = np.asarray(output)
        for constant in (names[name] for name in node.input if name in names):
            names[node.output[0]] = constant
    used = dict.fromkeys(name for node in left for name in node.input if name in values)
    for node in left:
        node.input[:] = [names.get(name, name) for name in node.input]
    constants = [onnx.numpy_helper.from_array(values[name], names.get(name, name)) for name in used]
    for repeated, kept in (
        (graph.node, left),
        (graph.input, [each for each in graph.input if each.name not in weights]),
        (graph.initializer, constants),
    ):
        del repeated[:]
        repeated.extend(kept)


def load(path: str | os.PathLike[str], threads: int) -> Predictor:
    """Returns the predictor of an .onnx file, run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return batched(lambda images: session.run(["probabilities"], {"images": images})[0])
