"""What a run shows while it trains: TensorBoard, the first layer's kernels, the input and the confusion matrix."""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np

from alexnet_tf.shell import printable

if typing.TYPE_CHECKING:
    import keras

# A confusion matrix with more classes than this is not legible.
MAX_CONFUSION_CLASSES = 50


def grid(images: np.ndarray, columns: int, border: int) -> np.ndarray:
    """Lays images uint8 [n, height, width, 3] out in rows of `columns` on white, `border` pixels apart."""
    rows = -(-len(images) // columns)
    height, width = images.shape[1] + border, images.shape[2] + border
    picture = np.full((rows * height + border, columns * width + border, 3), 255, "uint8")
    for index, image in enumerate(images):
        top, left = border + index // columns * height, border + index % columns * width
        picture[top:top + images.shape[1], left:left + images.shape[2]] = image
    return picture


def kernels_picture(model: keras.Model, columns: int = 16, zoom: int = 3) -> np.ndarray:
    """Draws the kernels of conv1 as the paper's Figure 3: tower a (GPU 1) above, tower b (GPU 2) below.

    Each kernel is scaled to the whole range by itself, around grey.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    kernels = [weight.numpy() for weight in model.weights
               if weight.path.startswith("conv1") and weight.path.endswith("kernel")]
    return kernels_image(np.concatenate(kernels, axis=-1), columns, zoom)


def kernels_image(kernels: np.ndarray, columns: int = 16, zoom: int = 3) -> np.ndarray:
    """Draws kernels [height, width, 3, n] as `kernels_picture` does."""
    kernels = np.moveaxis(kernels, -1, 0)
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    images = np.round(127.5 + 127.5 * kernels / np.maximum(largest, 1e-12)).astype("uint8")
    return grid(images.repeat(zoom, axis=1).repeat(zoom, axis=2), columns, border=2)


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draws a confusion matrix, int [classes, classes], as uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes, names = len(class_names), [printable(name) for name in class_names]
    figure = Figure(figsize=(3 + 0.35 * classes, 2.5 + 0.35 * classes), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), names, rotation=90, parse_math=False)
    axes.set_yticks(range(classes), names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if classes <= 20:
        for (label, prediction), count in np.ndenumerate(confusion):
            axes.text(prediction, label, count, ha="center", va="center", fontsize=8,
                      color="white" if count > confusion[label].sum() / 2 else "black")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
