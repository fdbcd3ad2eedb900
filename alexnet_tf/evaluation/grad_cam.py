"""What a network sees in an image: its feature maps, and where the evidence for a class is (Grad-CAM).

R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation import features
from alexnet_tf.network import architectures


@dataclasses.dataclass(frozen=True)
class View:
    """What a network sees in an image.

    Attributes:
        probabilities: float32 [classes].
        class_index: The class that is explained.
        maps: For each convolutional stage, its towers' activations after ReLU, float32 [height, width, channels] each.
        evidence: float32 [height, width] of the last convolution's size: where the evidence for the class is, not
            below 0.
    """

    probabilities: np.ndarray
    class_index: int
    maps: dict[str, list[np.ndarray]]
    evidence: np.ndarray


def convolutions(architecture: architectures.Architecture) -> list[str]:
    """Returns the names of the convolutional stages: conv1 to conv5."""
    return [stage.name for stage in architecture.stages if stage.name.startswith("conv")]


def look(
    model: keras.Model, architecture: architectures.Architecture, image: np.ndarray, class_index: int | None = None
) -> View:
    """Computes the feature maps of an image and Grad-CAM of the last convolution.

    Args:
        model: From `alexnet.build_model`.
        architecture: The model's.
        image: uint8 [size, size, 3].
        class_index: The class to explain; by default the most probable one.
    """
    known, stages = features.layers_of(model, architecture), convolutions(architecture)
    outputs = {stage: [model.get_layer(name).output for name in known[stage]] for stage in stages}
    maps = keras.Model(model.input, outputs)(tf.constant(image)[None], training=False)
    last = stages[-1]
    head = keras.Model(outputs[last], model.output)
    with tf.GradientTape() as tape:
        tape.watch(maps[last])
        logits = tf.reshape(head(maps[last], training=False), [-1])
        index = int(tf.argmax(logits)) if class_index is None else class_index
        score = logits[index]
    gradients = tape.gradient(score, maps[last], unconnected_gradients="zero")
    return View(
        probabilities=tf.nn.softmax(logits).numpy(),
        class_index=index,
        maps={stage: [np.asarray(each[0], "float32") for each in towers] for stage, towers in maps.items()},
        evidence=grad_cam(
            *(
                np.concatenate([np.asarray(each[0], "float32") for each in towers], axis=-1)
                for towers in (maps[last], gradients)
            )
        ),
    )


def grad_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Returns ReLU(sum over channels k of alpha_k A_k); alpha_k is the mean gradient of channel k (equations 1 and 2).

    Args:
        activations: A, float32 [height, width, channels].
        gradients: Of the class's logit with respect to them.
    """
    return np.maximum((activations * gradients.mean(axis=(0, 1))).sum(axis=-1), 0)


def strongest(maps: np.ndarray, count: int) -> np.ndarray:
    """Returns the channels of [height, width, channels] with the highest mean activation, the strongest first."""
    return np.argsort(-maps.mean(axis=(0, 1)), kind="stable")[:count]
