"""What a network sees in an image: its feature maps, where the evidence for a class is (Grad-CAM), and a page of both.

R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation import features
from alexnet_tf.network import architectures
from alexnet_tf.network.model import AlexNet
from alexnet_tf.support import plotting

# Maps in a row, those of both towers together; classes below the image.
_MAPS, _CLASSES = 10, 5

# Feature maps and evidence are drawn in colours that are ordered in grey too, for every kind of colour vision.
_COLOUR_MAP = "viridis"


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


def look(
    model: AlexNet, architecture: architectures.Architecture, image: np.ndarray, class_index: int | None = None
) -> View:
    """Computes the feature maps of an image and Grad-CAM of the last convolution.

    Args:
        model: From `alexnet.build_model`.
        architecture: The model's.
        image: uint8 [size, size, 3].
        class_index: The class to explain; by default the most probable one.
    """
    stages = [stage.name for stage in architecture.stages if stage.name.startswith("conv")]
    outputs = {
        stage: [layer.output for layer in features.stage_of(model, architecture, stage).layers] for stage in stages
    }
    maps, logits = keras.Model(model.input, (outputs, model.output))(tf.constant(image)[None], training=False)
    logits = tf.reshape(logits, [-1])
    index = int(tf.argmax(logits)) if class_index is None else class_index
    return View(
        probabilities=tf.nn.softmax(logits).numpy(),
        class_index=index,
        maps={stage: [np.asarray(each[0], "float32") for each in towers] for stage, towers in maps.items()},
        evidence=_evidence(model, outputs[stages[-1]], maps[stages[-1]], index),
    )


def grad_cam(
    model: AlexNet, image: np.ndarray, class_index: int | None = None, layer: str = "conv5_relu"
) -> np.ndarray:
    """Returns where the evidence for a class is: Grad-CAM, over the maps of both towers.

    ReLU(sum over channels k of alpha_k A_k), where alpha_k is the mean gradient of channel k (equations 1 and 2).

    Args:
        model: From `build_model`, with its logits.
        image: RGB [size, size, 3] in [0, 255].
        class_index: The class; by default the most probable.
        layer: Whose maps A are: a stage, or a step of one.

    Returns:
        float32 [height, width], not below 0, of the size of the maps.

    Raises:
        ValueError: If there is no such layer.
    """
    outputs = [each.output for each in model.stage(layer).layers]
    maps = keras.Model(model.input, outputs)(tf.convert_to_tensor(image)[None], training=False)
    return _evidence(model, outputs, list(maps) if isinstance(maps, (list, tuple)) else [maps], class_index)


def _evidence(
    model: AlexNet, outputs: list[keras.KerasTensor], maps: list[tf.Tensor], class_index: int | None
) -> np.ndarray:
    """Returns Grad-CAM of the maps of both towers: the values of `outputs` for an image."""
    head = keras.Model(outputs, model.output)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = tf.reshape(head(maps, training=False), [-1])
        score = tf.reduce_max(logits) if class_index is None else logits[class_index]
    gradients = tape.gradient(score, maps, unconnected_gradients="zero")
    activations, slopes = (tf.cast(tf.concat(towers, -1)[0], tf.float32) for towers in (maps, gradients))
    return tf.nn.relu(tf.reduce_sum(activations * tf.reduce_mean(slopes, axis=(0, 1)), axis=-1)).numpy()


def strongest(maps: np.ndarray, count: int) -> np.ndarray:
    """Returns the channels of [height, width, channels] with the highest mean activation, the strongest first."""
    return np.argsort(-maps.mean(axis=(0, 1)), kind="stable")[:count]


def draw(view: View, image: np.ndarray, class_names: Sequence[str], title: str, path: str) -> None:
    """Draws a page: the image, the evidence for a class, the most probable classes and the strongest feature maps.

    Args:
        view: From `look`.
        image: The crop that the network saw, uint8 [size, size, 3].
        class_names: In the order of the logits.
        title: For the top, such as the file's name.
        path: The picture.
    """
    best = np.argsort(-view.probabilities, kind="stable")[:_CLASSES]
    name = class_names[view.class_index]
    with plotting.style():
        figure = plotting.new_figure(13, 7.4)
        figure.suptitle(plotting.shortened(title, 90), x=0.008, ha="left")
        left, right = figure.subfigures(1, 2, width_ratios=(1, 3.9))
        above, middle, below = left.subplots(3, 1, height_ratios=(3, 3, 1.9))
        above.imshow(image)
        above.set_title("What the network sees", loc="left")
        middle.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
        if view.evidence.any():
            extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
            middle.imshow(view.evidence, cmap=_COLOUR_MAP, vmin=0, alpha=0.6, extent=extent, interpolation="bilinear")
        shown = f"Evidence for {plotting.shortened(name, 15)}"
        middle.set_title(shown if view.evidence.any() else f"{shown}: none", loc="left")
        _draw_classes(below, view.probabilities[best], [class_names[index] for index in best])
        rows = right.subplots(len(view.maps), 1, squeeze=False)[:, 0]
        for axes, (stage, towers) in zip(rows, view.maps.items()):
            _draw_maps(axes, stage, towers)
        for axes in (above, middle, below, *rows):
            axes.set_axis_off()
        plotting.save(figure, path)


def _draw_classes(axes: Any, probabilities: np.ndarray, names: Sequence[str]) -> None:
    # Names stand above their bars: beside them, long ones would make the images above smaller.
    axes.set_ylim(_CLASSES - 0.3, -0.5)  # As many places on every page.
    for place, (name, probability) in enumerate(zip(names, probabilities)):
        axes.text(0, place - 0.02, plotting.shortened(name, 24), va="bottom", fontsize=10)
        axes.text(1, place - 0.02, f"{probability:.3f}", va="bottom", ha="right", fontsize=10)
        axes.barh(place + 0.16, [1, probability], color=["#e8e8e8", plotting.COLOURS[0]], height=0.22)


def _draw_maps(axes: Any, stage: str, towers: Sequence[np.ndarray]) -> None:
    """Draws the strongest maps of each tower side by side, each scaled to its own largest value; gaps are empty."""
    height, width, channels = towers[0].shape
    gap = np.full((height, max(1, round(width * 0.06))), np.nan)
    parts: list[np.ndarray] = []
    for maps in towers:
        for channel in strongest(maps, _MAPS // len(towers)):
            parts += [maps[..., channel] / max(float(maps[..., channel].max()), 1e-12), gap]
        parts += [gap] * 3
    axes.imshow(np.concatenate(parts, axis=1), cmap=_COLOUR_MAP, vmin=0, vmax=1, interpolation="nearest")
    of = f"{channels} maps" if len(towers) == 1 else f"{channels} maps of tower a and of tower b"
    title = f"{stage}: strongest of {of}, {height} \u00d7 {width}"
    axes.set_title(title, loc="left", fontweight="normal", fontsize=11)
