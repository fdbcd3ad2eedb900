"""A network as a SavedModel that TF Serving accepts: its signatures, its warm-up, and how a version is published.

The network must be one of `alexnet.for_export`, in float32. Nothing here compares results: see `exporting`.
"""

import contextlib
import os
import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import alexnet, architectures, atomic_files, errors, runs
from alexnet_tf.data import input_pipeline, preprocessing, synthetic

# The name that the server knows the network by.
MODEL_NAME = "alexnet"

# How many classes `serving_default` and `classify` name.
TOP = 5

# The key of the encoded image in a tf.Example, as TensorFlow's own image data sets have it.
EXAMPLE_KEY = "image/encoded"

_BATCHING = """\
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: %d }
allowed_batch_sizes: 1
allowed_batch_sizes: 4
allowed_batch_sizes: 16
allowed_batch_sizes: 32
"""

_HOW_TO_SERVE = """\
# Serving this network

In this directory, for every new version published here (the server looks once a second):

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

* A broken image fails its request with INVALID_ARGUMENT and a reason; with batching, it fails the requests that the
  server put into the same batch. The server goes on.
* An image whose header declares more than {max_pixels:,} pixels is refused before it is decoded.
* EXIF rotation is ignored, as in training.
"""

# As in SERVING.md: also run by the tests.
CURL = (
    """(printf '{"instances":[{"image_bytes":{"b64":"'; base64 < IMAGE.jpg | tr -d '\\n'; printf '"}}]}') | """
    f"curl -s -d @- http://localhost:8501/v1/models/{MODEL_NAME}:predict")


class ExportError(errors.UserError):
    """Something cannot be exported; the message says what and what to do."""


def publish(network: keras.Model, architecture: architectures.Architecture, *, class_names, resize: str, directory):
    """Writes the next version into a directory that TF Serving may be watching: it appears whole or not at all.

    Args:
        network: From `alexnet.for_export`: RGB images in [0, 255] to logits.
        architecture: Its row.
        class_names: In the order of the logits.
        resize: As in `preprocessing.square`.
        directory: Where the versions are. The new one's number is the highest there + 1.

    Returns:
        The version's path.

    Raises:
        ExportError: If it cannot be written (a full disk, say); nothing half-written stays.
        errors.RunError: If another export is writing there.
    """
    directory = pathlib.Path(directory)
    with runs.RunDirectory(directory).locked("export"):
        for left in directory.glob(".*.tmp"):  # By a process that was killed.
            shutil.rmtree(left)
        # Not a number, so that a server that looks now does not take it for a version.
        temporary = directory / f".{os.getpid()}.tmp"
        try:
            _write(network, architecture, class_names, resize, temporary)
            _write_companions(architecture, directory)
            for path in (*temporary.rglob("*"), temporary):
                atomic_files.synchronize(path)
            version = directory / str(max(versions(directory), default=0) + 1)
            os.rename(temporary, version)
            atomic_files.synchronize(directory)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
            raise ExportError(
                f"{directory} could not be written: {reason}. Nothing half-written stays; the versions that were "
                "there are served as before.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return version


def versions(directory) -> list[int]:
    """Returns the numbers of the versions in a directory, as TF Serving reads them: 001 is 1."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(path.name) for path in pathlib.Path(directory).iterdir() if path.name.isdecimal())
    return []


def _write(network, architecture, class_names, resize, path):
    """Writes a whole SavedModel with its label file and warm-up requests to `path`."""
    labels = path / "classes.txt"
    labels.parent.mkdir()
    labels.write_bytes(b"".join(name + b"\n" for name in encoded(class_names)))
    module = tf.Module()
    # The unwrapped variables: with Keras' wrappers as well, each would be stored twice, or not be found by the server.
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    module.labels = tf.saved_model.Asset(str(labels))
    signatures = make_signatures(network, architecture, class_names, resize)
    tf.saved_model.save(module, str(path), signatures=signatures)
    labels.unlink()  # It is in assets/ now.
    _write_warm_up(architecture, path / "assets.extra" / "tf_serving_warmup_requests")


def make_signatures(network: keras.Model, architecture: architectures.Architecture, class_names, resize: str) -> dict:
    """Returns {name: tf.function} of what the server offers; the module's documentation file says what each takes.

    A broken image fails the whole call: its neighbours in the batch too.
    """
    size = architecture.image_size
    towers = [name for name in alexnet.layer_names(architecture) if name.split("_")[0] == "fc7"]
    fc7 = [network.get_layer(f"{name}_relu").output for name in towers]
    backbone = keras.Model(network.input, {"fc7": fc7, "logits": network.output})
    images_spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
    names = tf.constant(encoded(class_names))

    def signature(spec):  # Without AutoGraph, whose code the server would not need and a reader not understand.
        return tf.function(input_signature=[spec], autograph=False)

    @signature(images_spec)  # Traced once for all signatures, so that its constants are stored once.
    def run(images):
        outputs = backbone(images, training=False)
        return tf.concat([tf.reshape(each, [-1, each.shape[-1]]) for each in outputs["fc7"]], -1), outputs["logits"]

    @signature(images_spec)
    def images(images):
        _, logits = run(images)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @signature(images_spec)
    def features(images):
        return {"fc7": run(images)[0]}

    def classify(image_bytes):
        crops = tf.map_fn(
            lambda each: tf.cast(input_pipeline.evaluation_crops(each, size, resize)[0], tf.float32), image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
        scores, ranked = tf.math.top_k(tf.nn.softmax(run(crops)[1]), min(TOP, len(class_names)))
        return {"classes": tf.gather(names, ranked), "scores": scores}

    @signature(tf.TensorSpec([None], tf.string, name="image_bytes"))
    def serving_default(image_bytes):
        return classify(image_bytes)

    @signature(tf.TensorSpec([None], tf.string, name="inputs"))
    def classify_examples(inputs):
        examples = tf.io.parse_example(inputs, {EXAMPLE_KEY: tf.io.FixedLenFeature([], tf.string)})
        return classify(examples[EXAMPLE_KEY])

    return {
        "serving_default": serving_default, "images": images, "classify": classify_examples, "features": features}


def encoded(class_names) -> list[bytes]:
    """Returns class names as they were on the disk, whatever their encoding."""
    return [name.encode("utf-8", "surrogateescape") for name in class_names]


def _write_warm_up(architecture, path):
    """Writes one request for each signature: the server runs them before it takes a version into service."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    picture = synthetic.draw(synthetic.CLASSES[0], np.random.default_rng(0))
    jpeg = tf.io.encode_jpeg(picture).numpy()
    start = (synthetic.SIZE - architecture.image_size) // 2
    images = np.asarray(picture[None, start:, start:][:, :architecture.image_size, :architecture.image_size], "float32")
    example = tf.train.Example(features=tf.train.Features(feature={
        EXAMPLE_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg]))}))
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, key, value in (
                ("serving_default", "image_bytes", [jpeg]), ("images", "images", images),
                ("classify", "inputs", [example.SerializeToString()]), ("features", "images", images)):
            request = predict_pb2.PredictRequest(inputs={key: tf.make_tensor_proto(value)})
            request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, name
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _write_companions(architecture, directory):
    """Writes what stands beside the versions; the server passes over names that are no number."""
    text = _HOW_TO_SERVE.format(
        name=MODEL_NAME, curl=CURL, key=EXAMPLE_KEY, size=architecture.image_size, classes=architecture.num_classes,
        top=min(TOP, architecture.num_classes), width=architecture.stages[-2].filters,
        max_pixels=preprocessing.MAX_PIXELS)
    atomic_files.atomic_write(directory / "SERVING.md", lambda file: file.write(text.encode()))
    batching = _BATCHING % (os.cpu_count() or 1)
    atomic_files.atomic_write(directory / "batching_parameters.txt", lambda file: file.write(batching.encode()))
