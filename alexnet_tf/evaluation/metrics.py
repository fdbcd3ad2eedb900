"""How wrong a model is on a split: sums over every example, divided once."""

import dataclasses
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import errors


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors over a whole split.

    Attributes:
        examples: How many were counted.
        loss: Mean cross-entropy, in nats; over ten crops, of their mean probabilities.
        top1_error: Fraction in [0, 1] whose most probable class is wrong.
        top5_error: Fraction whose label is not among the five most probable; None for five classes or fewer.
        confusion: int64 [classes, classes], rows are labels, columns predictions; outputs that are no number are
            left out.
    """

    examples: int
    loss: float
    top1_error: float
    top5_error: float | None
    confusion: np.ndarray


def make_predictor(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function: images [batch, crops, size, size, 3] -> log-probabilities float32 [batch, classes].

    Over several crops it is the logarithm of the mean of the softmax outputs (Section 4.1).

    Args:
        model: From `alexnet.build_model`.
    """
    size = model.input_shape[1]
    # It takes the bytes as they are; the model would make float32 of them first.
    normalize = model.get_layer("normalize")
    network = keras.Model(normalize.output, model.output)

    @tf.function(input_signature=[tf.TensorSpec([None, None, size, size, 3], tf.uint8)], autograph=False)
    def predict(images):
        crops = tf.shape(images)[1]
        logits = network(normalize(tf.reshape(images, [-1, size, size, 3])), training=False)
        log_probabilities = tf.reshape(tf.nn.log_softmax(logits), [-1, crops, logits.shape[-1]])
        return tf.reduce_logsumexp(log_probabilities, axis=1) - tf.math.log(tf.cast(crops, tf.float32))

    return predict


def evaluate(
        predict: Callable[[tf.Tensor], tf.Tensor], dataset: Iterable[tuple[tf.Tensor, tf.Tensor]], num_classes: int,
        total: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Evaluation:
    """Counts the errors of a predictor over every batch of a data set.

    A tie goes to the class with the lower number; an example whose output is not a number is wrong.

    Args:
        predict: From `make_predictor`.
        dataset: Batches of (images, labels), as `input_pipeline.evaluation_batches` gives them.
        num_classes: Number of classes.
        total: What makes of an array of this process's counts that of all workers.

    Returns:
        The evaluation.

    Raises:
        UserError: If the examples have no labels.
        ValueError: If the data set is empty.
    """
    examples, loss, top1, top5 = 0, 0.0, 0, 0
    confusion = np.zeros((num_classes, num_classes), "int64")
    for images, labels in dataset:
        log_probabilities, labels = predict(images).numpy(), labels.numpy()
        if (labels < 0).any():
            raise errors.UserError("This split has no labels (they are -1): there is nothing to measure.")
        valid = ~np.isnan(log_probabilities).any(axis=-1)
        ranked = np.argsort(-log_probabilities, axis=-1, kind="stable")
        loss -= float(log_probabilities[np.arange(len(labels)), labels].sum(dtype="float64"))
        top1 += int(((ranked[:, 0] == labels) & valid).sum())
        top5 += int(((ranked[:, :5] == labels[:, None]).any(axis=-1) & valid).sum())
        np.add.at(confusion, (labels[valid], ranked[valid, 0]), 1)
        examples += len(labels)
    counts = total(np.concatenate([[examples, top1, top5, loss], confusion.ravel()]))
    examples, top1, top5, loss = counts[:4].tolist()
    if not examples:
        raise ValueError("There are no examples to evaluate.")
    return Evaluation(
        examples=int(examples),
        loss=loss / examples,
        top1_error=1 - top1 / examples,
        top5_error=1 - top5 / examples if num_classes > 5 else None,
        confusion=counts[4:].reshape(confusion.shape).astype("int64"),
    )
