"""How wrong a model is on a split: sums over every example, divided once."""

import dataclasses
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.network import xla
from alexnet_tf.support import errors


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors over a whole split.

    Attributes:
        examples: Number of images.
        loss: Mean cross-entropy, in nats; over ten crops, of their mean probabilities.
        top1_error: Fraction in [0, 1] whose most probable class is wrong.
        top5_error: Fraction whose label is not among the five most probable; None for five classes or fewer.
        confusion: int64 [classes, classes], rows are labels, columns predictions. Images whose output is not a number
            are not in it.
        class_sizes: int64 [classes], the number of images of each class.
    """

    examples: int
    loss: float
    top1_error: float
    top5_error: float | None
    confusion: np.ndarray
    class_sizes: np.ndarray

    @property
    def class_errors(self) -> np.ndarray:
        """Top-1 error of each class, float64 [classes]; NaN for a class without images."""
        with np.errstate(invalid="ignore"):
            return 1 - np.diagonal(self.confusion) / self.class_sizes

    @property
    def mean_class_error(self) -> float:
        """Mean top-1 error of the classes that have images: every class counts alike, however many images it has."""
        return float(np.nanmean(self.class_errors))

    @property
    def never_predicted(self) -> list[int]:
        """Classes that have images and that are predicted for none."""
        return np.flatnonzero((self.class_sizes > 0) & (self.confusion.sum(axis=0) == 0)).tolist()

    def most_confused(self, limit: int) -> list[tuple[int, int, int]]:
        """Returns the most frequent mistakes, [(label, predicted class, number of images)]."""
        mistakes = self.confusion - np.diag(np.diagonal(self.confusion))
        order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
        pairs = zip(*np.unravel_index(order, mistakes.shape))
        return [
            (int(label), int(predicted), int(mistakes[label, predicted]))
            for label, predicted in pairs
            if mistakes[label, predicted]
        ]


def make_predictor(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function: images [batch, crops, size, size, 3] -> log-probabilities float32 [batch, classes].

    Over several crops it is the logarithm of the mean of the softmax outputs (Section 4.1).

    Args:
        model: From `alexnet.build_model`.
    """
    size = model.input_shape[1]
    # The layer takes uint8 as it is; the model would convert it to float32 first.
    normalize = model.get_layer("normalize")
    network = keras.Model(normalize.output, model.output)

    @tf.function(input_signature=[tf.TensorSpec([None, None, size, size, 3], tf.uint8)], autograph=False)
    def predict(images):
        crops = tf.shape(images)[1]
        with xla.fused_kernels():
            logits = network(normalize(tf.reshape(images, [-1, size, size, 3])), training=False)
        log_probabilities = tf.reshape(tf.nn.log_softmax(logits), [-1, crops, logits.shape[-1]])
        return tf.reduce_logsumexp(log_probabilities, axis=1) - tf.math.log(tf.cast(crops, tf.float32))

    # Called as a function of TensorFlow, it would warn of retracing after the fifth network in a process.
    return predict.get_concrete_function()


def evaluate(
    predict: Callable[[tf.Tensor], tf.Tensor],
    dataset: Iterable[tuple[tf.Tensor, tf.Tensor]],
    num_classes: int,
    total: Callable[[np.ndarray], np.ndarray] = np.asarray,
    on_batch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Evaluation:
    """Counts the errors of a predictor over every batch of a data set.

    A tie goes to the class with the lower number; an image whose output is not a number counts as wrong.

    Args:
        predict: From `make_predictor`.
        dataset: Batches of (images, labels), as `input_pipeline.evaluation_batches` gives them.
        num_classes: Number of classes.
        total: Sums an array of counts over all workers.
        on_batch: Called with the log-probabilities float32 [batch, classes] and labels int32 [batch] of each batch.

    Returns:
        The evaluation.

    Raises:
        UserError: If the examples have no labels.
        ValueError: If the data set is empty.
    """
    examples, loss, top1, top5 = 0, 0.0, 0, 0
    confusion, class_sizes = np.zeros((num_classes, num_classes), "int64"), np.zeros(num_classes, "int64")
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
        class_sizes += np.bincount(labels, minlength=num_classes)
        examples += len(labels)
        if on_batch:
            on_batch(log_probabilities, labels)
    counts = total(np.concatenate([[examples, top1, top5, loss], class_sizes, confusion.ravel()]))
    examples, top1, top5, loss = counts[:4].tolist()
    if not examples:
        raise ValueError("There are no examples to evaluate.")
    return Evaluation(
        examples=int(examples),
        loss=loss / examples,
        top1_error=1 - top1 / examples,
        top5_error=1 - top5 / examples if num_classes > 5 else None,
        confusion=counts[4 + num_classes :].reshape(confusion.shape).astype("int64"),
        class_sizes=counts[4 : 4 + num_classes].astype("int64"),
    )
