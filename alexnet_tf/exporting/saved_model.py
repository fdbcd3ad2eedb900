"""A network as a SavedModel that TF Serving accepts, and how a version is published: whole or not at all.

The network must be one of `alexnet.for_export`, in float32. What the file offers: `signatures`. Warm-up requests are
inside; batching parameters and SERVING.md stand beside the versions.
"""

import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data import plain_images
from alexnet_tf.exporting import signatures
from alexnet_tf.exporting.engines import Predictor, batched
from alexnet_tf.exporting.export import ExportError, ExportJob
from alexnet_tf.exporting.formats import SavedModelOptions
from alexnet_tf.exporting.report import Artifact
from alexnet_tf.exporting.signatures import EXAMPLE_KEY, TOP
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, processors

# The name that the server knows the network by.
MODEL_NAME = "alexnet"

# A request of up to `max_batch_size` images is split into batches of at most `max_execution_batch_size`.
_BATCHING = """\
max_batch_size { value: 256 }
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: %d }
allowed_batch_sizes: 1
allowed_batch_sizes: 4
allowed_batch_sizes: 16
allowed_batch_sizes: 32
"""

# Also run by the tests.
CURL = (
    """(printf '{"instances":[{"image_bytes":{"b64":"'; base64 < IMAGE.jpg | tr -d '\\n'; printf '"}}]}') | """
    f"curl -s -d @- http://localhost:8501/v1/models/{MODEL_NAME}:predict"
)

# Also run by the tests.
TF2ONNX = (
    "python -m tf2onnx.convert --saved-model 1 --tag serve --signature_def images "
    "--use_default StatefulPartitionedCall/PlaceholderWithDefault --output model.onnx"
)

# Its tables have long lines.
# ruff: noqa: E501
_HOW_TO_SERVE = """\
# Serving this network

In this directory; every new version that is published here is picked up (the server looks once a second):

    docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD:/models/{name}" -e MODEL_NAME={name} tensorflow/serving \\
      --enable_batching --batching_parameters_file=/models/{name}/batching_parameters.txt

An image over REST (base64 in the member `b64`; the answer has `classes` and `scores`):

    {curl}

Over gRPC or REST with this project's client:

    python -m alexnet_tf predict --server=localhost:8500 IMAGE...
    python -m alexnet_tf predict --server=http://localhost:8501 IMAGE...

| signature | takes | gives |
|---|---|---|
| `serving_default` | `image_bytes` string [n]: JPEG or PNG, grey or colour | `classes` string [n, {top}], `scores` float32 [n, {top}] |
| `classify` | `inputs` string [n]: serialized tf.Example with `{key}` | `classes`, `scores` |
| `images` | `images` float32 [n, {size}, {size}, 3]: RGB in [0, 255], no mean subtracted | `logits`, `probabilities` float32 [n, {classes}] |
| `features` | `images` | `fc7` float32 [n, {width}], after ReLU, before dropout |

A signature other than the default is asked for by name. `classify` is asked through `:predict`, with serialized examples
in base64; the older `:classify` method works too:

    {{"signature_name": "classify", "instances": [{{"inputs": {{"b64": "<a serialized tf.Example>"}}}}]}}

* A broken image, images of another shape, no images, and an example without `{key}` fail their request with
  INVALID_ARGUMENT and a reason; with batching, they fail the requests that the server put into the same batch. The server goes on.

## Other converters

They need the signature `images`: the default one decodes files. In this directory, for version 1:

    tf.lite.TFLiteConverter.from_saved_model("1", signature_keys=["images"])
    model = tf.saved_model.load("1")  # Keep it: the signature alone does not hold the weights.
    openvino.convert_model(model.signatures["images"])
    {tf2onnx}

## What is limited, and what a server should limit

* An image of more than {megabytes} MB, or whose header declares more than {megapixels} megapixels, is refused before it
  is decoded. `python -m alexnet_tf export --workdir=RUN --max_megapixels=N --max_megabytes=N` sets both. Decoding takes
  about 3.3 bytes of memory a pixel: an image of 100 megapixels takes 331 MB, and ten in one batch were seen to take
  720 MB. A server that only gets photographs of phones is well served by `--max_megapixels=50`.
* A progressive JPEG of more than {scans} scans is refused too, before it is decoded: each scan is a pass over the image.
  Large images still take seconds. Give requests a deadline at the client or proxy (`timeout` in gRPC); TF Serving itself
  does not interrupt a request that has begun.
* REST requests have no limit on their length, so put a proxy that has one in front (nginx: `client_max_body_size`).
* A request holds at most 256 images (`max_batch_size` in batching_parameters.txt); they are split into batches of 32.
  `max_enqueued_batches` bounds what waits: beyond it requests fail with UNAVAILABLE, and a client tries again later.
* The server checks no passwords. It belongs behind a proxy that does, or into a private network.
"""


def write(job: ExportJob) -> Iterator[Artifact]:
    """Publishes the next version of RUN/export/saved_model and yields its line of the report."""
    version = publish(
        alexnet.for_export(job.model, "builtin"),
        job.run_config.architecture,
        class_names=job.class_names,
        resize=job.resize,
        directory=job.directory / "saved_model",
        limits=job.options,
    )
    how = f"To serve it: {version.with_name('SERVING.md')}"
    yield job.compare("SavedModel", version, lambda _: load(version), next_step=how)


def load(version: str | os.PathLike[str]) -> Predictor:
    """Returns the predictor of a version's `images` signature."""
    signature = restore(version).signatures["images"]
    return batched(lambda images: signature(images=tf.constant(images))["probabilities"].numpy())


def restore(version: str | os.PathLike[str]) -> Any:
    """Returns a SavedModel as `tf.saved_model.load` does, from any path.

    TensorFlow takes the path of the variables for a pattern, so that it finds none in a folder called runs[1]: it gets
    a link.
    """
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, "version")
        os.symlink(os.path.abspath(version), link)
        return tf.saved_model.load(link)


def publish(
    network: keras.Model,
    architecture: architectures.Architecture,
    *,
    class_names: Sequence[str],
    resize: str,
    directory: str | os.PathLike[str],
    limits: SavedModelOptions = SavedModelOptions(),  # noqa: B008
) -> pathlib.Path:
    """Writes the next version into a directory that TF Serving may be watching: it appears whole or not at all.

    Args:
        network: From `alexnet.for_export`: RGB images in [0, 255] to logits.
        architecture: Its architecture.
        class_names: In the order of the logits.
        resize: As in `preprocessing.square`.
        directory: Where the versions are. The new one's number is the highest there + 1.
        limits: Larger encoded images are refused.

    Returns:
        The version's path.

    Raises:
        ExportError: If it cannot be written, for example on a full disk; nothing half-written stays.
        RunError: If another export is writing there.
    """
    directory = pathlib.Path(directory)
    with RunDirectory(directory).locked("export"):
        for left in directory.glob(".*.tmp"):  # By a process that was killed.
            shutil.rmtree(left)
        # Not a number, so that a server that looks now does not take it for a version.
        temporary = directory / f".{os.getpid()}.tmp"
        try:
            _write(network, architecture, class_names, resize, limits, temporary)
            _write_companions(architecture, limits, directory)
            for path in (*temporary.rglob("*"), temporary):
                atomic_files.synchronize(path)
            # As TF Serving reads them: 001 is 1.
            versions = [int(each.name) for each in directory.iterdir() if each.name.isdecimal()]
            version = directory / str(max(versions, default=0) + 1)
            os.rename(temporary, version)
            atomic_files.synchronize(directory)
        except (OSError, tf.errors.OpError) as error:
            # TensorFlow puts inner names around it: "{{function_node ...}} PATH; No space left on device [Op:SaveV2]".
            reason = getattr(error, "strerror", None) or re.sub(r"(?s).*;|\[Op.*", "", str(error)).strip()
            raise ExportError(
                f"{directory} could not be written: {reason}. Nothing half-written stays; the versions that "
                "were there are served as before."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return version


def _write(
    network: keras.Model,
    architecture: architectures.Architecture,
    class_names: Sequence[str],
    resize: str,
    limits: SavedModelOptions,
    path: pathlib.Path,
) -> None:
    """Writes a whole SavedModel with its label file and warm-up requests to `path`."""
    labels = path / "classes.txt"
    labels.parent.mkdir()
    labels.write_bytes(b"".join(name + b"\n" for name in signatures.encoded(class_names)))
    module = tf.Module()
    # The unwrapped variables: with Keras' wrappers as well, each would be stored twice, or not be found by the server.
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    module.labels = tf.saved_model.Asset(str(labels))
    functions = signatures.make_signatures(network, architecture, class_names, resize, limits)
    tf.saved_model.save(module, str(path), signatures=functions)
    labels.unlink()  # It is in assets/ now.
    _write_warm_up(architecture, path / "assets.extra" / "tf_serving_warmup_requests")


def _write_warm_up(architecture: architectures.Architecture, path: pathlib.Path) -> None:
    """Writes one request for each signature: the server runs them before it takes a version into service."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    size = architecture.image_size
    images, jpeg = (
        np.zeros([1, size, size, 3], "float32"),
        tf.io.encode_jpeg(np.zeros([size, size, 3], "uint8")).numpy(),
    )
    example = tf.train.Example(
        features=tf.train.Features(feature={EXAMPLE_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg]))})
    )
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, key, value in (
            ("serving_default", "image_bytes", [jpeg]),
            ("images", "images", images),
            ("classify", "inputs", [example.SerializeToString()]),
            ("features", "images", images),
        ):
            request = predict_pb2.PredictRequest(inputs={key: tf.make_tensor_proto(value)})
            request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, name
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _write_companions(
    architecture: architectures.Architecture, limits: SavedModelOptions, directory: pathlib.Path
) -> None:
    """Writes what stands beside the versions; the server ignores names that are not numbers."""
    text = _HOW_TO_SERVE.format(
        name=MODEL_NAME,
        curl=CURL,
        tf2onnx=TF2ONNX,
        key=EXAMPLE_KEY,
        size=architecture.image_size,
        classes=architecture.num_classes,
        top=min(TOP, architecture.num_classes),
        width=architecture.stages[-2].filters,
        megapixels=limits.max_megapixels,
        megabytes=limits.max_megabytes,
        scans=plain_images.MAX_SCANS,
    )
    atomic_files.write_bytes(directory / "SERVING.md", text.encode())
    batching = _BATCHING % processors.available_cpus()
    atomic_files.write_bytes(directory / "batching_parameters.txt", batching.encode())
