"""What a SavedModel offers: its signatures, which refuse whatever the network was not made for.

| signature | takes | gives |
|---|---|---|
| `serving_default` | `image_bytes` string [n], JPEG or PNG | `classes` string [n, 5], `scores` float32 [n, 5] |
| `classify` | `inputs` string [n], serialized tf.Example | the same |
| `images` | `images` float32 [n, size, size, 3], RGB in [0, 255] | `logits`, `probabilities` float32 [n, classes] |
| `features` | `images` | `fc7` float32 [n, width], after ReLU |
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from alexnet_tf.data import preprocessing
from alexnet_tf.exporting import image_guard
from alexnet_tf.exporting.formats import SavedModelOptions
from alexnet_tf.network import alexnet, architectures

# How many classes `serving_default` and `classify` name.
TOP = 5

# The key of the encoded image in a tf.Example, as TensorFlow's own image data sets have it.
EXAMPLE_KEY = "image/encoded"


def encoded(class_names: Sequence[str]) -> list[bytes]:
    """Returns class names as they were on the disk, whatever their encoding."""
    return [name.encode("utf-8", "surrogateescape") for name in class_names]


def make_signatures(
    network: alexnet.AlexNet,
    architecture: architectures.Architecture,
    class_names: Sequence[str],
    resize: str,
    limits: SavedModelOptions,
) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns {name: tf.function} of what the server offers.

    A broken image fails the whole call: its neighbours in the batch too. Errors are of the kind INVALID_ARGUMENT.

    Args:
        network: From `alexnet.for_export`: RGB images in [0, 255] to logits.
        architecture: Its architecture.
        class_names: In the order of the logits.
        resize: As in `preprocessing.square`.
        limits: Larger encoded images are refused.
    """
    size = architecture.image_size
    images_spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
    forward = _make_forward(network, images_spec)
    classify = _make_classifier(forward, architecture, class_names, resize, limits)

    @tf.function(input_signature=[images_spec], autograph=False)
    def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        _, logits = forward(_check_images(images, size))
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[images_spec], autograph=False)
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"fc7": forward(_check_images(images, size))[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(inputs, {EXAMPLE_KEY: tf.io.FixedLenFeature([], tf.string)})
        return classify(examples[EXAMPLE_KEY])

    return {"serving_default": serving_default, "images": images, "classify": classify_examples, "features": features}


def _make_forward(network: alexnet.AlexNet, images_spec: tf.TensorSpec):
    """Returns the tf.function from images to (fc7 [n, width], logits): traced once, so constants are stored once."""
    fc7 = network.stage("fc7_relu").output
    backbone = keras.Model(network.input, (fc7, network.output))

    # Without AutoGraph, whose code the server does not need.
    @tf.function(input_signature=[images_spec], autograph=False)
    def forward(images):
        features, logits = backbone(images, training=False)
        return tf.reshape(features, [-1, fc7.shape[-1]]), logits

    return forward


def _make_classifier(forward, architecture, class_names: Sequence[str], resize: str, limits: SavedModelOptions):
    """Returns the function from encoded images, string [n], to the most probable classes."""
    size, names = architecture.image_size, tf.constant(encoded(class_names))

    def crop(image_bytes):
        length = tf.strings.length(image_bytes)
        message = ["the encoded image has", length, f"bytes; at most {limits.max_megabytes} MB are read"]
        image_bytes = image_guard.checked(image_bytes, length <= 1_000_000 * limits.max_megabytes, message)
        square = image_guard.square(image_bytes, resize, 1_000_000 * limits.max_megapixels)
        return tf.cast(preprocessing.center_crop(square, size), tf.float32)

    def classify(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        message = ["at least one image must be given; got none"]
        image_bytes = image_guard.checked(image_bytes, tf.size(image_bytes) > 0, message)
        crops = tf.map_fn(crop, image_bytes, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
        scores, ranked = tf.math.top_k(tf.nn.softmax(forward(crops)[1]), min(TOP, len(class_names)))
        return {"classes": tf.gather(names, ranked), "scores": scores}

    return classify


def _check_images(images: tf.Tensor, size: int) -> tf.Tensor:
    """Returns images bound to a check of their shape, which the server feeds without looking at the signature.

    The placeholder's shape is hidden from the graph's optimiser, which would otherwise prove the check true and drop
    it.
    """
    hidden = tf.raw_ops.PlaceholderWithDefault(input=images, shape=tf.TensorShape(None))
    shape = tf.shape(hidden)
    # Four numbers follow, so that there is something to compare whatever the rank.
    sizes = tf.concat([shape, [-1] * 4], 0)[:4]
    is_right = (sizes[0] > 0) & tf.reduce_all(sizes[1:] == [size, size, 3]) & (tf.size(shape) == 4)
    message = [f"images must have the shape [n, {size}, {size}, 3], n at least 1; got", shape]
    return tf.ensure_shape(image_guard.checked(hidden, is_right, message), [None, size, size, 3])
